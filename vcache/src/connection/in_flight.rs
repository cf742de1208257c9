//! The queue of calls that are on their way: in the order in which they are written, which is the order of the replies.
//!
//! ```text
//!   answered <- [ written, waiting for its reply | partly written | unwritten ] <- push
//! ```
//!
//! A call's clock starts when it is handed to the transport, or when the transport took nothing: what its caller did
//! before that is not the server's fault.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;

use super::command::Packet;
use super::limits::Limits;
use super::policy::Blocking;
use super::receiver::{Outcome, Receiver};
use crate::error::Result;

/// One call.
pub(super) struct Entry {
    pub(super) packet: Packet,
    /// `None` once the caller has its answer (a time-out): the reply is still to come, and is thrown away.
    receiver: Option<Arc<dyn Receiver>>,
    replies: Vec<Value>,
    pub(super) limits: Limits,
    /// Until when it waits for a connection.
    pub(super) waits_until: Option<Instant>,
    /// When its clock started.
    started: Option<Instant>,
    /// The server may have seen it.
    pub(super) sent: bool,
    /// It was sent again after a connection was lost.
    pub(super) resent: bool,
    /// What a server said that refused it without executing it; it was sent to another one then.
    pub(super) refusal: Option<Value>,
    /// In a cluster, the slot that it is for.
    pub(super) slot: Option<u16>,
    /// How often it followed the word of a node that another one has its keys.
    pub(super) redirects: u8,
    /// How often it waited to be sent again.
    pub(super) pauses: u8,
    /// An `ASKING` goes before it, which the packet does not count.
    is_asking: bool,
}

/// Has the next command, or transaction, executed by a node that does not have its slot yet.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

impl Entry {
    pub(super) fn new(packet: Packet, receiver: Option<Arc<dyn Receiver>>, limits: Limits) -> Self {
        Self {
            packet,
            receiver,
            replies: Vec::new(),
            limits,
            waits_until: None,
            started: None,
            sent: false,
            resent: false,
            refusal: None,
            slot: None,
            redirects: 0,
            pauses: 0,
            is_asking: false,
        }
    }

    /// It is a part of a call that was sent before, and has what is left of its time.
    pub(super) fn goes_on_from(&mut self, before: &Self) {
        self.started = before.started;
        self.waits_until = before.waits_until;
        (self.sent, self.resent) = (before.sent, before.resent);
        (self.redirects, self.pauses) = (before.redirects, before.pauses);
    }

    /// Puts an `ASKING` before it.
    pub(super) fn ask(&mut self) {
        if !self.is_asking {
            self.is_asking = true;
            self.packet.bytes.splice(..0, ASKING.iter().copied());
            self.packet.replies += 1;
        }
    }

    /// Takes that away again.
    pub(super) fn unask(&mut self) {
        if self.is_asking {
            self.is_asking = false;
            self.packet.bytes.drain(..ASKING.len());
            self.packet.replies -= 1;
        }
    }

    /// What it was answered, without the answer to an `ASKING`.
    fn without_asking(&self, replies: Vec<Value>) -> Value {
        let mut replies = replies;
        if self.is_asking {
            replies.remove(0);
            if replies.len() == 1 {
                return replies.remove(0);
            }
        }
        Value::Array(replies)
    }

    /// Whether it is about the very connection that it is on.
    pub(super) fn is_tied(&self) -> bool {
        self.receiver.as_ref().is_none_or(|receiver| receiver.is_tied())
    }

    /// Who waits for it: to be told by other means.
    pub(super) fn take_receiver(&mut self) -> Option<Arc<dyn Receiver>> {
        self.receiver.take()
    }

    /// Whether its caller still waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| !receiver.is_abandoned())
    }

    /// Ends it: the caller to wake, if there is one.
    pub(super) fn complete(mut self, result: Result<Value>) -> Option<std::task::Waker> {
        let receiver = self.receiver.take()?;
        receiver.fill(Outcome { result, packet: self.packet, sent: self.sent })
    }

    /// Ends it for the caller; its reply is still to come, so it keeps its place.
    fn give_up(&mut self, error: crate::Error) -> Option<std::task::Waker> {
        let receiver = self.receiver.take()?;
        receiver.fill(Outcome { result: Err(error), packet: Packet::empty(), sent: self.sent })
    }

    pub(super) fn wait_no_longer_than(&mut self, until: Instant) {
        self.waits_until = Some(self.waits_until.map_or(until, |earlier| earlier.min(until)));
    }

    /// It waits to be sent again, for as long as it would have waited for its reply.
    pub(super) fn wait_as_sent(&mut self) {
        self.waits_until = self.due(None);
    }

    fn start(&mut self, now: Instant) {
        // A call that is sent again has no more time for it.
        self.started.get_or_insert(now);
    }

    /// Until when it may be unanswered. `held_up`: when a part of a long reply to an earlier call last came.
    fn due(&self, held_up: Option<Instant>) -> Option<Instant> {
        let from = |start: Option<Instant>, limit: Option<Duration>| {
            start.zip(limit).and_then(|(start, limit)| start.checked_add(limit))
        };
        let start = self.started;
        let patient = if start.is_some() { start.max(held_up) } else { None };
        from(start, self.limits.timeout)
            .into_iter()
            .chain(from(patient, self.limits.patience))
            .chain(self.limits.deadline)
            .min()
    }
}

/// A reply that nothing asked for.
pub(super) struct Unasked(pub(super) Value);

#[derive(Default)]
pub(super) struct InFlight {
    entries: VecDeque<Entry>,
    /// Bytes of all of them.
    bytes: usize,
    /// Entries at the front whose bytes the transport has, all of them.
    written: usize,
    /// Bytes that it has of the entry after those.
    partly: usize,
    unwritten_bytes: usize,
    /// When the oldest of the unwritten came in.
    unwritten_since: Option<Instant>,
    /// Entries at the front whose clocks run.
    started: usize,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the calls in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.entries.len()
    }

    pub(super) fn unwritten(&self) -> usize {
        self.entries.len() - self.written
    }

    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    /// When the oldest of the unwritten came in.
    pub(super) fn unwritten_since(&self) -> Option<Instant> {
        self.unwritten_since
    }

    pub(super) fn push(&mut self, entry: Entry, now: Instant) {
        let bytes = entry.packet.bytes.len();
        self.bytes += bytes;
        self.unwritten_bytes += bytes;
        self.unwritten_since.get_or_insert(now);
        self.entries.push_back(entry);
    }

    /// The bytes to write next; how many pieces they are.
    pub(super) fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.partly;
        let mut count = 0;
        for (piece, entry) in pieces.iter_mut().zip(self.entries.range(self.written..)) {
            *piece = IoSlice::new(&entry.packet.bytes[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The transport took `sent` bytes. The earliest moment at which one of the calls that it has now is due.
    pub(super) fn advance(&mut self, mut sent: usize, now: Instant) -> Option<Instant> {
        self.unwritten_bytes -= sent;
        sent += self.partly;
        while let Some(entry) = self.entries.get_mut(self.written)
            && sent >= entry.packet.bytes.len()
        {
            sent -= entry.packet.bytes.len();
            entry.sent = true;
            self.written += 1;
        }
        self.partly = sent;
        if sent > 0 {
            self.entries[self.written].sent = true;
        }
        self.unwritten_since = self.has_unwritten().then_some(now);
        self.start(self.written, now)
    }

    /// The transport takes nothing more for now: the clocks of all that is to be written start.
    pub(super) fn blocked(&mut self, now: Instant) -> Option<Instant> {
        self.start(self.entries.len(), now)
    }

    fn start(&mut self, until: usize, now: Instant) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        if self.started < until {
            for entry in self.entries.range_mut(self.started..until) {
                entry.start(now);
                earliest = earliest.into_iter().chain(entry.due(None)).min();
            }
            self.started = until;
        }
        earliest
    }

    /// Takes a reply for the oldest call: the call and its result, once that is complete.
    pub(super) fn answered(&mut self, reply: Value) -> Result<Option<(Entry, Value)>, Unasked> {
        let Some(oldest) = self.entries.front_mut() else { return Err(Unasked(reply)) };
        // A long pipeline is answered while it is being written, but for its last reply.
        let is_last = oldest.replies.len() + 1 == oldest.packet.replies;
        if self.written == 0 && (self.partly == 0 || is_last) {
            return Err(Unasked(reply));
        }
        let result = if oldest.packet.replies == 1 {
            reply
        } else {
            oldest.replies.push(reply);
            if !is_last {
                return Ok(None);
            }
            let replies = std::mem::take(&mut oldest.replies);
            oldest.without_asking(replies)
        };
        Ok(self.entries.pop_front().map(|mut entry| {
            self.written -= 1;
            self.started = self.started.saturating_sub(1);
            self.bytes -= entry.packet.bytes.len();
            entry.unask();
            (entry, result)
        }))
    }

    /// The oldest call whose clock runs: since when, how long its caller waits, and whether the server may sit on it.
    pub(super) fn oldest(&self) -> Option<(Instant, Limits, Blocking)> {
        let oldest = self.entries.front()?;
        Some((oldest.started?, oldest.limits, oldest.packet.blocking))
    }

    /// Whether the transport has a part of the oldest call, and not yet all of it.
    pub(super) fn is_sending_the_oldest(&self) -> bool {
        self.written == 0 && self.partly > 0
    }

    /// Ends the calls that are due for their callers. Their replies are still to come.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        held_up: Option<Instant>,
        error: impl Fn(&Entry) -> crate::Error,
        wakers: &mut Vec<std::task::Waker>,
    ) {
        for entry in &mut self.entries {
            if entry.receiver.is_some() && entry.due(held_up).is_some_and(|due| due <= now) {
                let error = error(entry);
                wakers.extend(entry.give_up(error));
            }
        }
    }

    /// The earliest moment at which a call is due.
    pub(super) fn next_due(&self, held_up: Option<Instant>) -> Option<Instant> {
        self.entries
            .iter()
            .filter(|entry| entry.receiver.is_some())
            .filter_map(|entry| entry.due(held_up))
            .min()
    }

    /// Takes all calls out, because the connection is gone.
    pub(super) fn drain(&mut self) -> VecDeque<Entry> {
        let mut entries = std::mem::take(self).entries;
        for entry in &mut entries {
            entry.replies.clear();
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Waker;

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[derive(Default)]
    struct Caller(Mutex<Option<(Result<Value>, bool)>>);

    impl Receiver for Caller {
        fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
            *self.0.lock().unwrap() = Some((outcome.result, outcome.sent));
            None
        }

        fn is_abandoned(&self) -> bool {
            false
        }
    }

    /// A call of ten bytes that may take 50 ms, and its caller.
    fn call(replies: usize) -> (Entry, Arc<Caller>) {
        let caller = Arc::new(Caller::default());
        let mut packet = Packet::empty();
        packet.bytes = b"0123456789".to_vec();
        packet.replies = replies;
        let limits = Limits { timeout: Some(MS50), ..Limits::default() };
        (Entry::new(packet, Some(Arc::clone(&caller) as Arc<dyn Receiver>), limits), caller)
    }

    const MS50: Duration = Duration::from_millis(50);

    fn pieces(queue: &InFlight) -> Vec<usize> {
        let mut pieces = [IoSlice::new(&[]); 8];
        let count = queue.pieces(&mut pieces);
        pieces[..count].iter().map(|piece| piece.len()).collect()
    }

    #[test]
    fn bytes_are_written_in_order_and_from_where_the_last_write_ended() {
        let (mut queue, now) = (InFlight::default(), Instant::now());
        for _ in 0..3 {
            queue.push(call(1).0, now);
        }
        assert_eq!((pieces(&queue), queue.unwritten_bytes()), (vec![10, 10, 10], 30));
        queue.advance(14, now);
        assert_eq!((pieces(&queue), queue.unwritten(), queue.unwritten_bytes()), (vec![6, 10], 2, 16));
        queue.advance(6, now);
        assert_eq!(pieces(&queue), [10]);
        queue.advance(10, now);
        assert!(!queue.has_unwritten() && queue.unwritten_since().is_none());
        assert_eq!((queue.len(), queue.bytes()), (3, 30));
    }

    #[test]
    fn a_clock_starts_when_the_call_is_sent_or_the_transport_takes_nothing() {
        let (mut queue, begun) = (InFlight::default(), Instant::now());
        for _ in 0..3 {
            queue.push(call(1).0, begun);
        }
        assert!(queue.next_due(None).is_none(), "nothing was sent");
        let sent = begun + Duration::from_secs(9);
        assert_eq!(queue.advance(10, sent), Some(sent + MS50));
        assert_eq!(queue.next_due(None), Some(sent + MS50));
        let blocked = sent + Duration::from_secs(1);
        assert_eq!(queue.blocked(blocked), Some(blocked + MS50));
        assert_eq!(queue.advance(20, blocked + MS50), None, "their clocks run already");
    }

    #[test]
    fn a_patience_does_not_run_while_a_long_reply_holds_the_call_up() {
        let (mut queue, now) = (InFlight::default(), Instant::now());
        let (mut entry, _caller) = call(1);
        entry.limits = Limits { timeout: Some(10 * MS50), patience: Some(MS50), ..Limits::default() };
        queue.push(entry, now);
        queue.advance(10, now);
        assert_eq!(queue.next_due(None), Some(now + MS50));
        assert_eq!(queue.next_due(Some(now + 3 * MS50)), Some(now + 4 * MS50));
        assert_eq!(queue.next_due(Some(now + 30 * MS50)), Some(now + 10 * MS50), "the time-out does");
    }

    #[test]
    fn replies_go_to_the_oldest_call_once_it_was_written() {
        let (mut queue, now) = (InFlight::default(), Instant::now());
        assert!(queue.answered(Value::Okay).is_err());
        queue.push(call(1).0, now);
        queue.push(call(2).0, now);
        assert!(queue.answered(Value::Okay).is_err(), "nothing was written");
        queue.advance(10, now);
        assert!(matches!(queue.answered(Value::Int(1)), Ok(Some((_, Value::Int(1))))));
        assert!(queue.answered(Value::Int(2)).is_err(), "the second was not written");
        queue.advance(5, now);
        assert!(
            matches!(queue.answered(Value::Int(2)), Ok(None)),
            "a pipeline is answered while it is written"
        );
        assert!(queue.answered(Value::Int(3)).is_err(), "but for its last reply");
        queue.advance(5, now);
        let Ok(Some((_, Value::Array(replies)))) = queue.answered(Value::Int(3)) else {
            panic!("no replies")
        };
        assert_eq!(replies, [Value::Int(2), Value::Int(3)]);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn a_call_that_is_due_ends_for_its_caller_and_keeps_its_place() {
        let (mut queue, now) = (InFlight::default(), Instant::now());
        let (entry, caller) = call(1);
        queue.push(entry, now);
        queue.push(call(1).0, now);
        queue.advance(10, now);
        let mut wakers = Vec::new();
        queue.expire(now + MS50, None, |_| Error::timeout("late"), &mut wakers);
        let (result, sent) = caller.0.lock().unwrap().take().unwrap();
        assert_eq!((result.unwrap_err().kind(), sent), (ErrorKind::Timeout, true));
        assert_eq!(queue.len(), 2);
        let Ok(Some((late, _))) = queue.answered(Value::Okay) else { panic!("its reply is still its own") };
        assert!(!late.is_wanted());
    }

    #[test]
    fn what_is_drained_knows_whether_it_was_sent() {
        let (mut queue, now) = (InFlight::default(), Instant::now());
        for _ in 0..3 {
            queue.push(call(1).0, now);
        }
        queue.advance(11, now);
        let sent: Vec<_> = queue.drain().iter().map(|entry| entry.sent).collect();
        assert_eq!(sent, [true, true, false], "a part is enough");
        assert!(queue.is_empty() && !queue.has_unwritten());
    }
}
