//! One request as it goes onto the wire, and what must be known of it to treat it rightly: how many replies it has,
//! whether it may be sent twice, whether it would block the shared connection or change it for everybody.

use super::treatment::treatment;
use crate::error::{Error, Result};

/// Encoded commands, sent in one piece and answered by `replies` replies.
#[derive(Debug)]
pub struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) replies: usize,
    pub(crate) idempotent: bool,
    pub(crate) blocking: Blocking,
    /// Arguments that were announced and not yet given, and whether a command was ever left without some.
    missing: usize,
    misframed: bool,
}

/// Room for what most packets are, and no more than glibc hands out and takes back quickly when many are under way.
const USUAL_BYTES: usize = 120;

/// How long the server may keep a command before it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Blocking {
    No,
    /// Up to so many seconds; `None` is for ever.
    Yes(Option<f64>),
}

impl Packet {
    /// A packet of one command whose encoding the caller appends with [`Packet::arg`].
    ///
    /// `idempotent` says that executing it twice does what executing it once does, and answers the same.
    #[must_use]
    pub fn command(name: &str, args: usize, idempotent: bool) -> Self {
        let mut packet = Self::pipeline(idempotent);
        packet.then(name, args);
        packet
    }

    /// A packet without commands yet; see [`Packet::then`]. `idempotent` is said of all that will be in it.
    #[must_use]
    pub fn pipeline(idempotent: bool) -> Self {
        Self { bytes: Vec::with_capacity(USUAL_BYTES), ..Self::nothing(idempotent) }
    }

    /// What is left where the bytes went elsewhere.
    #[cfg(feature = "driver")]
    pub(crate) const fn empty() -> Self {
        Self::nothing(false)
    }

    /// A packet of this library's own, which may say what users must not. It may be sent twice.
    #[cfg(feature = "driver")]
    pub(crate) fn internal() -> Self {
        Self::pipeline(true)
    }

    /// Asks whether the server answers.
    #[cfg(feature = "driver")]
    pub(crate) fn ping() -> Self {
        Self::command("PING", 0, true)
    }

    const fn nothing(idempotent: bool) -> Self {
        Self {
            bytes: Vec::new(),
            replies: 0,
            idempotent,
            blocking: Blocking::No,
            missing: 0,
            misframed: false,
        }
    }

    /// Appends one more command to the pipeline: its name and the number of arguments that will follow.
    pub fn then(&mut self, name: &str, args: usize) -> &mut Self {
        self.then_encoded(args).arg(name.as_bytes())
    }

    /// Appends an argument.
    pub fn arg(&mut self, bytes: &[u8]) -> &mut Self {
        self.count_argument();
        push_header(&mut self.bytes, b'$', bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// Appends an integer argument.
    pub fn int(&mut self, value: i64) -> &mut Self {
        let mut digits = [0; 20];
        let start = format_int(value, &mut digits);
        self.arg(&digits[start..])
    }

    /// Appends an argument that `write` encodes in place, so that a value needs no buffer of its own.
    ///
    /// # Errors
    /// Those of `write`; the packet is then of no more use.
    pub fn arg_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<&mut Self, E> {
        self.count_argument();
        // The length stands in front and is known afterwards: leave the widest place and close the gap.
        const WIDEST: usize = 1 + 20 + 2;
        let header = self.bytes.len();
        self.bytes.resize(header + WIDEST, b'$');
        write(&mut self.bytes)?;
        let length = self.bytes.len() - header - WIDEST;
        let mut digits = [0; 20];
        let start = format_int(i64::try_from(length).unwrap_or(i64::MAX), &mut digits);
        let digits = &digits[start..];
        let body = header + 1 + digits.len() + 2;
        self.bytes[header + 1..body - 2].copy_from_slice(digits);
        self.bytes[body - 2..body].copy_from_slice(b"\r\n");
        self.bytes.copy_within(header + WIDEST.., body);
        self.bytes.truncate(body + length);
        self.bytes.extend_from_slice(b"\r\n");
        Ok(self)
    }

    /// Arguments, encoded once for [`Packet::encoded_args`].
    pub(crate) fn encode(arguments: impl FnOnce(&mut Self) -> &mut Self) -> Box<[u8]> {
        let mut packet = Self::pipeline(true);
        arguments(&mut packet);
        packet.bytes.into()
    }

    /// Begins a command whose name comes with [`Packet::encoded_args`], as the first of `args + 1` arguments.
    pub(crate) fn then_encoded(&mut self, args: usize) -> &mut Self {
        push_header(&mut self.bytes, b'*', args + 1);
        self.replies += 1;
        self.misframed |= self.missing != 0;
        self.missing = args + 1;
        self
    }

    /// Appends `count` arguments that were encoded before.
    pub(crate) fn encoded_args(&mut self, bytes: &[u8], count: usize) -> &mut Self {
        self.misframed |= self.missing < count;
        self.missing = self.missing.saturating_sub(count);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An empty packet with room for so many bytes.
    #[cfg(feature = "admission")]
    pub(crate) fn with_room(bytes: usize, idempotent: bool) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::nothing(idempotent) }
    }

    fn count_argument(&mut self) {
        self.misframed |= self.missing == 0;
        self.missing = self.missing.saturating_sub(1);
    }

    /// Refuses what would shift the replies of everybody behind it: no command at all, or a wrong number of arguments.
    pub(crate) fn check_framing(&self) -> Result<()> {
        if self.replies == 0 {
            return Err(Error::refused("an empty pipeline was to be sent"));
        }
        if self.misframed || self.missing != 0 {
            return Err(Error::refused(
                "a command was announced with another number of arguments than it was given",
            ));
        }
        Ok(())
    }

    /// The number of commands in it.
    #[must_use]
    pub fn replies(&self) -> usize {
        self.replies
    }

    /// A packet that a guest has encoded and checked.
    #[cfg(all(feature = "driver", feature = "python"))]
    pub(crate) fn encoded(bytes: Vec<u8>, replies: usize, idempotent: bool, blocking: Blocking) -> Self {
        Self { bytes, replies, idempotent, blocking, missing: 0, misframed: false }
    }

    /// A packet of an encoded redis-rs command or pipeline.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if a command would change the shared connection for every other
    /// caller, or would block it in the middle of a pipeline.
    pub(crate) fn checked<'a, I>(bytes: Vec<u8>, commands: I, transaction: bool) -> Result<Self>
    where
        I: IntoIterator<Item = &'a redis::Cmd>,
    {
        let mut packet = Self { bytes, ..Self::pipeline(!transaction) };
        for command in commands {
            let treatment = treatment(command)?;
            packet.idempotent &= treatment.idempotent;
            if let Blocking::Yes(limit) = treatment.blocking {
                packet.blocking = Blocking::Yes(limit);
            }
            packet.replies += 1;
        }
        packet.check_framing()?;
        if packet.blocking != Blocking::No && packet.replies > 1 {
            return Err(Error::refused("a blocking command cannot be part of a pipeline: send it alone"));
        }
        if transaction {
            packet.replies += 2;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use redis::cmd;

    #[test]
    fn packing_is_what_redis_rs_packs() {
        let mut ours = Packet::command("SET", 4, true);
        ours.arg(b"key");
        ours.arg_with(|out| {
            out.extend_from_slice(&[7; 300]);
            Ok::<_, ()>(())
        })
        .unwrap();
        ours.arg(b"PX").int(-1_500);
        let theirs = cmd("SET").arg("key").arg(&[7_u8; 300][..]).arg("PX").arg(-1_500).get_packed_command();
        assert_eq!(ours.bytes, theirs);
        ours.then("GET", 1).arg(b"");
        assert_eq!(ours.replies(), 2);
        assert!(ours.bytes.ends_with(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"));
    }

    #[test]
    fn a_packet_that_would_shift_the_replies_of_others_is_refused() {
        let mut good = Packet::command("GET", 1, true);
        assert!(good.check_framing().is_err(), "an argument is missing");
        good.arg(b"k");
        assert!(good.check_framing().is_ok());
        good.arg(b"one too many");
        assert!(good.check_framing().is_err());
        assert!(Packet::pipeline(true).check_framing().is_err(), "nothing at all");
        let mut uneven = Packet::command("GET", 2, true);
        uneven.arg(b"k").then("GET", 1).arg(b"k");
        assert!(uneven.check_framing().is_err(), "too few in the first");
    }

    #[test]
    fn arguments_that_were_encoded_before_are_the_same() {
        let mut at_once = Packet::command("X", 3, false);
        at_once.int(5).arg(b"text").int(0);
        let mut before = Packet::pipeline(false);
        let encoded = Packet::encode(|packet| packet.arg(b"X").int(5).arg(b"text").int(0));
        before.then_encoded(3).encoded_args(&encoded, 4);
        assert_eq!((&before.bytes, before.replies), (&at_once.bytes, 1));
        assert!(before.check_framing().is_ok());
        before.encoded_args(&Packet::encode(|packet| packet.int(1)), 1);
        assert!(before.check_framing().is_err(), "one too many");
    }

    #[test]
    fn numbers_are_written_as_digits() {
        for value in [0, 9, 10, -1, i64::MAX, i64::MIN] {
            let mut out = [0; 20];
            let start = format_int(value, &mut out);
            assert_eq!(std::str::from_utf8(&out[start..]).unwrap(), value.to_string());
        }
    }
}
