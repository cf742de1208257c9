//! One request as it goes onto the wire, and what must be known of it to treat it rightly: how many replies it has,
//! whether it may be sent twice, whether it would block the shared connection or change it for other callers.
//!
//! A packet asks the table of commands ([`policy`]) for each name when it is appended. What arguments decide is read from them
//! once a command is complete. So everything is known when it is to be sent, and for most commands nothing is read twice.

use super::policy::{self, Blocking, Policy, Taken};
use super::words::Words;
use crate::error::{Error, Result};

/// Encoded commands, sent in one piece and answered by `replies` replies.
///
/// ```
/// use vcache::Packet;
///
/// let mut packet = Packet::command("HMGET", 3);
/// packet.arg(b"user:5").arg(b"name").arg(b"plan");
/// assert_eq!(packet.keys(), Some(vec![&b"user:5"[..]]));
/// assert!(packet.only_reads());
/// ```
#[derive(Debug)]
pub struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) replies: usize,
    /// Whether all of it may be sent again though it may have been executed.
    pub(crate) repeatable: bool,
    pub(crate) blocking: Blocking,
    /// Arguments that were announced and not yet given, and whether a command was ever left without some.
    missing: usize,
    misframed: bool,
    /// Where the last command begins, if its arguments are still to be looked at.
    unjudged: Option<(usize, &'static Policy)>,
    refused: Option<Error>,
    /// The caller has said whether it may be repeated.
    promised: bool,
    /// The connection itself sends it: it may hold what callers may not send.
    unchecked: bool,
    /// Behind a `MULTI` whose `EXEC` is still to come.
    in_transaction: bool,
}

/// Room for what most packets are, and no more than glibc hands out and takes back quickly when many are under way.
const USUAL_BYTES: usize = 120;

impl Packet {
    /// A packet of one command: its name, and the number of arguments that will be appended with [`Packet::arg`].
    ///
    /// Sending it fails with [`ErrorKind::Value`](crate::ErrorKind::Value) if the shared connection does not take the
    /// command, or if it is given another number of arguments.
    #[must_use]
    pub fn command(name: &str, args: usize) -> Self {
        let mut packet = Self::pipeline();
        packet.then(name, args);
        packet
    }

    /// A packet without commands yet; see [`Packet::then`].
    #[must_use]
    pub fn pipeline() -> Self {
        Self { bytes: Vec::with_capacity(USUAL_BYTES), ..Self::nothing() }
    }

    /// What is left where the bytes went elsewhere.
    #[cfg(feature = "driver")]
    pub(crate) const fn empty() -> Self {
        Self::nothing()
    }

    /// Asks whether the server answers.
    pub(crate) fn ping() -> Self {
        Self::command("PING", 0)
    }

    /// A packet that the connection itself sends: its commands are not refused.
    #[cfg(feature = "driver")]
    pub(crate) fn unchecked() -> Self {
        Self { unchecked: true, ..Self::pipeline() }
    }

    const fn nothing() -> Self {
        Self {
            bytes: Vec::new(),
            replies: 0,
            repeatable: true,
            blocking: Blocking::No,
            missing: 0,
            misframed: false,
            unjudged: None,
            refused: None,
            promised: false,
            unchecked: false,
            in_transaction: false,
        }
    }

    /// Says whether the packet may be sent a second time when the connection is lost and it may have been executed.
    ///
    /// Without this, it may if all its commands are known to have the effect and the answer of one execution when they are
    /// executed twice: reads, and those that set a value without asking for the old one. With `true` the caller promises the
    /// same, for instance of its script, or of an `UNLINK` whose count it does not look at. `false` forbids it.
    #[must_use]
    pub fn repeatable(self, repeatable: bool) -> Self {
        Self { repeatable, promised: true, ..self }
    }

    /// Appends one more command to the pipeline: its name and the number of arguments that will follow.
    pub fn then(&mut self, name: &str, args: usize) -> &mut Self {
        self.then_encoded(name, args).arg(name.as_bytes())
    }

    /// Appends an argument.
    pub fn arg(&mut self, bytes: &[u8]) -> &mut Self {
        self.count_arguments(1);
        push_header(&mut self.bytes, b'$', bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
        self.judge_if_complete();
        self
    }

    /// Appends an integer argument.
    pub fn int(&mut self, value: i64) -> &mut Self {
        let mut digits = [0; 20];
        let start = format_int(value, &mut digits);
        self.arg(&digits[start..])
    }

    /// Appends an argument that `write` encodes in place, so that a value needs no extra buffer.
    ///
    /// # Errors
    /// Those of `write`; the packet cannot be sent then.
    pub fn arg_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<&mut Self, E> {
        self.count_arguments(1);
        // The length stands in front and is known afterwards: leave the widest place and close the gap.
        const WIDEST: usize = 1 + 20 + 2;
        let header = self.bytes.len();
        self.bytes.resize(header + WIDEST, b'$');
        // Unless it comes back well, there is half an argument.
        let misframed = std::mem::replace(&mut self.misframed, true);
        write(&mut self.bytes)?;
        let Some(length) = self.bytes.len().checked_sub(header + WIDEST) else { return Ok(self) };
        self.misframed = misframed;
        let mut digits = [0; 20];
        let start = format_int(i64::try_from(length).unwrap_or(i64::MAX), &mut digits);
        let digits = &digits[start..];
        let body = header + 1 + digits.len() + 2;
        self.bytes[header + 1..body - 2].copy_from_slice(digits);
        self.bytes[body - 2..body].copy_from_slice(b"\r\n");
        self.bytes.copy_within(header + WIDEST.., body);
        self.bytes.truncate(body + length);
        self.bytes.extend_from_slice(b"\r\n");
        self.judge_if_complete();
        Ok(self)
    }

    /// Arguments, encoded once for [`Packet::encoded_args`].
    pub(crate) fn encode(arguments: impl FnOnce(&mut Self) -> &mut Self) -> Box<[u8]> {
        let mut packet = Self::pipeline();
        arguments(&mut packet);
        packet.bytes.into()
    }

    /// Begins a command whose name comes with [`Packet::encoded_args`], as the first of `args + 1` arguments.
    pub(crate) fn then_encoded(&mut self, name: &str, args: usize) -> &mut Self {
        let policy = policy::find(name.as_bytes());
        if policy.is_plain(args, self.promised) {
            self.repeatable &= policy.is_repeatable() || self.promised;
        } else {
            self.unjudged = Some((self.bytes.len(), policy));
        }
        push_header(&mut self.bytes, b'*', args + 1);
        self.replies += 1;
        self.misframed |= self.missing != 0;
        self.missing = args + 1;
        self
    }

    /// Appends `count` arguments that were encoded before.
    pub(crate) fn encoded_args(&mut self, bytes: &[u8], count: usize) -> &mut Self {
        self.count_arguments(count);
        self.bytes.extend_from_slice(bytes);
        self.judge_if_complete();
        self
    }

    /// An empty packet with room for so many bytes.
    #[cfg(feature = "admission")]
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::nothing() }
    }

    fn count_arguments(&mut self, count: usize) {
        self.misframed |= self.missing < count;
        self.missing = self.missing.saturating_sub(count);
    }

    #[inline]
    fn judge_if_complete(&mut self) {
        if self.missing == 0
            && let Some((start, policy)) = self.unjudged
        {
            self.judge(start, policy, self.promised);
        }
    }

    /// Looks at the arguments of the command that begins at `start`.
    fn judge(&mut self, start: usize, policy: &Policy, promised: bool) {
        self.unjudged = None;
        let judged = match Words::of(&self.bytes[start..]) {
            Some(words) => policy.judge(words),
            None => return self.misframed = true,
        };
        let judged = judged.and_then(|judged| {
            self.follow_transaction(policy)?;
            Ok(judged)
        });
        match judged {
            Ok(judged) => {
                self.repeatable &= judged.repeatable || promised;
                if judged.blocking != Blocking::No {
                    self.blocking = judged.blocking;
                }
            }
            Err(_) if self.unchecked => self.repeatable &= promised,
            Err(error) => self.refused = Some(self.refused.take().unwrap_or(error)),
        }
    }

    fn follow_transaction(&mut self, policy: &Policy) -> Result<()> {
        let (begins, ends) = (matches!(policy.taken, Taken::Begins), matches!(policy.taken, Taken::Ends));
        if begins && self.in_transaction {
            return Err(Error::refused("a pipeline has a MULTI inside of a transaction"));
        }
        if ends && !self.in_transaction {
            return Err(policy::not_whole("EXEC"));
        }
        self.in_transaction = (self.in_transaction || begins) && !ends;
        Ok(())
    }

    /// Refuses what would shift the replies of the calls behind it or change the connection for them: no command at all, a
    /// wrong number of arguments, half a transaction, and each command that the table of commands refuses.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        if self.replies == 0 {
            return Err(Error::refused("an empty pipeline was to be sent"));
        }
        if self.misframed || self.missing != 0 {
            return Err(Error::refused(
                "a command was announced with another number of arguments than it was given",
            ));
        }
        if self.in_transaction {
            return Err(policy::not_whole("MULTI"));
        }
        if self.blocking != Blocking::No && self.replies > 1 {
            return Err(Error::refused("a blocking command cannot be part of a pipeline: send it alone"));
        }
        Ok(())
    }

    /// The number of commands in it.
    #[must_use]
    pub fn replies(&self) -> usize {
        self.replies
    }

    /// The keys of all its commands, in order; `None` if they are not known of one of them. A channel of `SPUBLISH` counts as
    /// one, as it does in a cluster.
    #[must_use]
    pub fn keys(&self) -> Option<Vec<&[u8]>> {
        let mut keys = Vec::new();
        self.commands().try_for_each(|(policy, words)| policy.keys.find(&words, &mut keys))?;
        Some(keys)
    }

    /// Whether all its commands are reads of the keyspace, which a replica may answer.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.replies > 0 && self.commands().all(|(policy, _)| policy.reads)
    }

    /// Whether all its commands only read, and only keys: what it reads is the same on a replica.
    #[cfg(feature = "driver")]
    pub(super) fn only_reads_keys(&self) -> bool {
        let names_keys = |policy: &Policy, words: &Words<'_>| {
            let mut keys = Vec::new();
            policy.keys.is_first() || (policy.keys.find(words, &mut keys).is_some() && !keys.is_empty())
        };
        self.replies > 0 && self.commands().all(|(policy, words)| policy.reads && names_keys(policy, &words))
    }

    /// Whether the table of commands knows all its commands.
    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn is_known(&self) -> bool {
        self.commands().all(|(policy, _)| policy.is_known())
    }

    /// Its commands, as far as they are complete.
    pub(super) fn commands(&self) -> impl Iterator<Item = (&'static Policy, Words<'_>)> {
        self.encoded().map(|(policy, words, _)| (policy, words))
    }

    /// The same, each with its bytes.
    pub(super) fn encoded(&self) -> impl Iterator<Item = (&'static Policy, Words<'_>, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let before = rest;
            let words = Words::take(&mut rest)?;
            let mut names = words.clone();
            let policy = policy::find(names.next()?);
            let policy = policy.of_subcommand(names.next().unwrap_or_default());
            Some((policy, words, &before[..before.len() - rest.len()]))
        })
    }

    /// Whole commands out of another packet, which was checked.
    #[cfg(feature = "driver")]
    pub(super) fn piece(bytes: Vec<u8>, replies: usize, repeatable: bool) -> Self {
        Self { bytes, replies, repeatable, ..Self::nothing() }
    }

    /// Appends whole commands out of another packet, which was checked.
    #[cfg(feature = "driver")]
    pub(super) fn extend(&mut self, bytes: &[u8], replies: usize) {
        self.bytes.extend_from_slice(bytes);
        self.replies += replies;
    }

    /// Finds out anew whether it may be repeated: what it is a piece of may not, which need not be this piece's fault.
    #[cfg(feature = "driver")]
    pub(super) fn judge_again(&mut self) {
        let judged = self
            .encoded()
            .all(|(policy, words, _)| policy.judge(words).is_ok_and(|judged| judged.repeatable));
        self.repeatable = judged;
    }

    /// A packet of commands that another library has encoded. With `promised`, their caller promises that they may be repeated,
    /// which is believed of all commands but those whose arguments tell: those are judged here.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is no whole number of commands, and as for [`Packet::check`].
    pub(crate) fn received(bytes: Vec<u8>, promised: bool) -> Result<Self> {
        let mut packet = Self { bytes, ..Self::nothing() };
        let mut at = 0;
        while at < packet.bytes.len() {
            let mut rest = &packet.bytes[at..];
            let words = Words::take(&mut rest).ok_or_else(|| {
                Error::refused("a packet is not a sequence of whole commands, each an array of bulk strings")
            })?;
            let end = packet.bytes.len() - rest.len();
            let policy = policy::find(words.clone().next().unwrap_or_default());
            packet.replies += 1;
            let promised = promised && !policy.decides_by_arguments();
            if policy.is_plain(words.len() - 1, promised) {
                packet.repeatable &= policy.is_repeatable() || promised;
            } else {
                packet.judge(at, policy, promised);
            }
            at = end;
        }
        packet.check()?;
        Ok(packet)
    }
}

/// `$3\r\n` and the like. Almost all numbers are of one digit or two, whose pieces have a fixed length.
fn push_header(out: &mut Vec<u8>, kind: u8, number: usize) {
    let digit = |number: usize| b'0' + (number % 10) as u8;
    match number {
        0..10 => return out.extend_from_slice(&[kind, digit(number), b'\r', b'\n']),
        10..100 => return out.extend_from_slice(&[kind, digit(number / 10), digit(number), b'\r', b'\n']),
        _ => out.push(kind),
    }
    let mut digits = [0; 20];
    let start = format_int(i64::try_from(number).unwrap_or(i64::MAX), &mut digits);
    out.extend_from_slice(&digits[start..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes `value` to the end of `out` and says where it starts.
pub(crate) fn format_int(value: i64, out: &mut [u8; 20]) -> usize {
    let mut rest = value.unsigned_abs();
    let mut at = out.len();
    loop {
        at -= 1;
        out[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        out[at] = b'-';
    }
    at
}

impl TryFrom<&redis::Cmd> for Packet {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a command that would change the connection for others.
    fn try_from(command: &redis::Cmd) -> Result<Self> {
        Self::received(command.get_packed_command(), false)
    }
}

#[cfg(test)]
mod tests;
