//! A call that was taken apart: its pieces come back from several nodes, and become one answer.
//!
//! The pieces that one node gets travel together, as one packet. Once the last piece is there, the caller gets the answer.

use std::sync::{Arc, Mutex};
use std::task::Waker;

use redis::Value;

use super::place::{Join, Unit};
use crate::connection::command::Packet;
use crate::connection::receiver::{Outcome, Receiver};
use crate::error::{Error, Result};
use crate::sync::lock;

/// The number of a piece, and its replies.
type Answered = (usize, Vec<Value>);

/// A call in pieces.
pub(super) struct Joint {
    receiver: Arc<dyn Receiver>,
    units: Vec<Unit>,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    /// The replies of each piece, once they are there.
    pieces: Vec<Option<Vec<Value>>>,
    left: usize,
    /// The first failure, and how many pieces failed.
    failed: Option<(Error, usize)>,
    sent: bool,
    /// What the caller sent; it gets it back.
    packet: Option<Packet>,
}

impl Joint {
    /// Of `packet`, whose pieces have these numbers in its units.
    pub(super) fn new(
        receiver: Arc<dyn Receiver>,
        packet: Packet,
        units: Vec<Unit>,
        pieces: usize,
    ) -> Arc<Self> {
        let gathered = Gathered {
            pieces: vec![None; pieces],
            left: pieces,
            failed: None,
            sent: false,
            packet: Some(packet),
        };
        Arc::new(Self { receiver, units, gathered: Mutex::new(gathered) })
    }

    /// Takes the outcome of pieces in; whom to wake, if these were the last.
    pub(super) fn put(&self, outcome: Result<Vec<Answered>, (Error, &[usize])>, sent: bool) -> Option<Waker> {
        let mut gathered = lock(&self.gathered);
        gathered.sent |= sent;
        match outcome {
            Ok(pieces) => {
                for (piece, replies) in pieces {
                    gathered.left -= 1;
                    gathered.pieces[piece] = Some(replies);
                }
            }
            Err((error, pieces)) => {
                gathered.left -= pieces.len();
                let before = gathered.failed.take();
                let failed = before.as_ref().map_or(0, |(_, failed)| *failed) + pieces.len();
                gathered.failed = Some((before.map_or(error, |(error, _)| error), failed));
            }
        }
        if gathered.left > 0 {
            return None;
        }
        let result = self.join(&mut gathered);
        let (packet, sent) = (gathered.packet.take(), gathered.sent);
        drop(gathered);
        Arc::clone(&self.receiver).fill(Outcome { result, packet: packet.unwrap_or(Packet::empty()), sent })
    }

    fn join(&self, gathered: &mut Gathered) -> Result<Value> {
        let pieces = gathered.pieces.len();
        if let Some((error, failed)) = gathered.failed.take() {
            if failed == pieces {
                return Err(error);
            }
            return Err(error.with_hint(&format!(
                "{failed} of the call's {pieces} parts failed, the others were answered"
            )));
        }
        let mut replies = Vec::new();
        for unit in &self.units {
            let of_unit = unit.first..unit.first + unit.count;
            let pieces = gathered.pieces[of_unit].iter_mut().map(|piece| piece.take().unwrap_or_default());
            replies.extend(unit.join.replies(pieces.collect()));
        }
        Ok(match gathered.packet.as_ref().map(|packet| packet.replies) {
            Some(1) => replies.pop().unwrap_or(Value::Nil),
            _ => Value::Array(replies),
        })
    }
}

/// Takes the replies of the pieces that travel together.
pub(super) struct Group {
    pub(super) joint: Arc<Joint>,
    /// The pieces' numbers, and how many replies each has.
    pub(super) pieces: Vec<(usize, usize)>,
}

impl Receiver for Group {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        match outcome.result {
            Ok(result) => {
                let mut replies = match result {
                    Value::Array(replies) if outcome.packet.replies != 1 => replies,
                    single => vec![single],
                }
                .into_iter();
                let pieces = self
                    .pieces
                    .iter()
                    .map(|(piece, count)| (*piece, replies.by_ref().take(*count).collect()));
                self.joint.put(Ok(pieces.collect()), outcome.sent)
            }
            Err(error) => {
                let pieces: Vec<_> = self.pieces.iter().map(|(piece, _)| *piece).collect();
                self.joint.put(Err((error, &pieces)), outcome.sent)
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        self.joint.receiver.is_abandoned()
    }
}

/// The units of a call of which some were refused and others executed: those that were are answered already.
pub(super) fn resume(receiver: Arc<dyn Receiver>, packet: Packet, units: &[Packet]) -> Arc<Joint> {
    let plan = (0..units.len()).map(|first| Unit { join: Join::Only, first, count: 1 }).collect();
    Joint::new(receiver, packet, plan, units.len())
}
