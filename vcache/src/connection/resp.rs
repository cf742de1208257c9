//! Reads RESP2 and RESP3 replies out of a non-blocking byte stream, in pieces as they come.
//!
//! redis-rs has an incremental decoder, but not as a public API, and it restarts a length-prefixed string whenever more
//! of it arrives. This one keeps its place: a stack of open aggregates, and the string being filled. Large strings are
//! read from the socket straight into the vector that the caller gets. A length on the wire is never believed with
//! memory: buffers grow with the bytes that did arrive.

use std::io;

use redis::{PushKind, Value, VerbatimFormat};

/// The window that small replies are read through; one system call brings a few hundred of them.
const WINDOW: usize = 64 * 1024;
/// A string with more than this still to come is read into its own vector instead of through the window.
const DIRECT: usize = 16 * 1024;
/// How much a string's vector grows at a time while its bytes arrive.
const STEP: usize = 1024 * 1024;
/// The server's own limit for one string (`proto-max-bulk-len`) is 512 MiB by default.
const LONGEST_STRING: usize = 512 * 1024 * 1024;
const LONGEST_LINE: usize = 64 * 1024;
const DEEPEST: usize = 64;

/// What is wrong with the bytes: not a reply of any known protocol.
#[derive(Debug)]
pub(crate) struct ProtocolError(pub(crate) String);

type Parsed<T> = Result<T, ProtocolError>;

pub(crate) struct Reader {
    window: Box<[u8]>,
    start: usize,
    end: usize,
    open: Vec<Open>,
    string: Option<StringInProgress>,
}

/// An aggregate whose members are still coming.
struct Open {
    kind: Aggregate,
    missing: usize,
    items: Vec<Value>,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Array,
    Set,
    Map,
    Push,
    /// Metadata in front of a value; we have no use for it, so it is read and dropped.
    Attribute,
}

struct StringInProgress {
    bytes: Vec<u8>,
    /// How many bytes `bytes` holds of the string.
    have: usize,
    /// Its full length, without the closing line end.
    length: usize,
    kind: u8,
}

enum Step {
    Value(Value),
    Opened,
    NeedMore,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { window: vec![0; WINDOW].into_boxed_slice(), start: 0, end: 0, open: Vec::new(), string: None }
    }

    /// Calls `read` once with the place where the next bytes belong. `Ok(0)` is the end of the stream; the second
    /// value says whether the place was filled, so that more may be waiting.
    pub(crate) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        if let Some(string) = &mut self.string
            && self.start == self.end
            && string.length - string.have >= DIRECT
        {
            let target = string.length.min(string.have + STEP);
            if string.bytes.len() < target {
                string.bytes.resize(target, 0);
            }
            let room = target - string.have;
            let count = read(&mut string.bytes[string.have..target])?;
            string.have += count;
            return Ok((count, count == room));
        }
        if self.start > 0 {
            self.window.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.window.len() - self.end;
        let count = read(&mut self.window[self.end..])?;
        self.end += count;
        Ok((count, count == room))
    }

    /// The next whole reply, or `None` until more bytes have come.
    pub(crate) fn next(&mut self) -> Parsed<Option<Value>> {
        loop {
            match self.step()? {
                Step::NeedMore => return Ok(None),
                Step::Opened => {}
                Step::Value(value) => {
                    if let Some(whole) = self.place(value)? {
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }

    /// Whether more is to come of a reply that does not fit into one read.
    pub(super) fn is_within_a_long_reply(&self) -> bool {
        !self.open.is_empty() || self.string.as_ref().is_some_and(|string| string.length > WINDOW)
    }

    /// Puts a value into the innermost open aggregate, closing those that it completes.
    fn place(&mut self, mut value: Value) -> Parsed<Option<Value>> {
        loop {
            let Some(open) = self.open.last_mut() else {
                return Ok(Some(value));
            };
            open.items.push(value);
            open.missing -= 1;
            if open.missing > 0 {
                return Ok(None);
            }
            let Some(done) = self.open.pop() else { return Ok(None) };
            match done.finish()? {
                Some(whole) => value = whole,
                None => return Ok(None),
            }
        }
    }

    fn step(&mut self) -> Parsed<Step> {
        if self.string.is_some() {
            return self.continue_string();
        }
        let Some((kind, line)) = self.line()? else {
            return Ok(Step::NeedMore);
        };
        let (from, to) = line;
        let text = &self.window[from..to];
        let value = match kind {
            b'$' | b'=' | b'!' => return self.begin_string(kind, from, to),
            b'*' | b'~' | b'%' | b'>' | b'|' => return self.begin_aggregate(kind, from, to),
            b':' => Value::Int(number(text)?),
            b'+' if text == b"OK" => Value::Okay,
            b'+' => Value::SimpleString(String::from_utf8_lossy(text).into_owned()),
            b'-' => server_error(text),
            b'_' => Value::Nil,
            b'#' => Value::Boolean(match text {
                b"t" => true,
                b"f" => false,
                _ => return Err(garbage("a boolean", text)),
            }),
            b',' => Value::Double(
                std::str::from_utf8(text)
                    .ok()
                    .and_then(|t| t.trim().parse().ok())
                    .ok_or_else(|| garbage("a double", text))?,
            ),
            b'(' if !text.is_empty()
                && text.iter().skip(usize::from(text[0] == b'-')).all(u8::is_ascii_digit) =>
            {
                Value::BigNumber(text.to_vec())
            }
            other => return Err(ProtocolError(format!("a reply cannot begin with byte 0x{other:02x}"))),
        };
        Ok(Step::Value(value))
    }

    /// Takes one line out of the window: its type byte and where its text stands.
    fn line(&mut self) -> Parsed<Option<(u8, (usize, usize))>> {
        let held = &self.window[self.start..self.end];
        let Some(&kind) = held.first() else { return Ok(None) };
        let Some(newline) = held.iter().position(|&byte| byte == b'\n') else {
            // Garbage has to be noticed at once, and not when a line end happens to come by.
            return if !b"$=!*~%>|:+-_#,(".contains(&kind) {
                Err(ProtocolError(format!("a reply cannot begin with byte 0x{kind:02x}")))
            } else if held.len() >= LONGEST_LINE.min(WINDOW) {
                Err(ProtocolError("a reply line does not end".into()))
            } else {
                Ok(None)
            };
        };
        if newline < 2 || held[newline - 1] != b'\r' {
            return Err(garbage("a line", &held[..newline]));
        }
        let from = self.start + 1;
        let to = self.start + newline - 1;
        self.start += newline + 1;
        Ok(Some((kind, (from, to))))
    }

    fn begin_string(&mut self, kind: u8, from: usize, to: usize) -> Parsed<Step> {
        let length: i64 = number(&self.window[from..to])?;
        if length == -1 && kind == b'$' {
            return Ok(Step::Value(Value::Nil));
        }
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= LONGEST_STRING)
            .ok_or_else(|| ProtocolError(format!("a string of {length} bytes")))?;
        // The usual case: all of it is here.
        if self.end - self.start >= length + 2 {
            let bytes = self.window[self.start..self.start + length].to_vec();
            self.end_of_string(length)?;
            return Ok(Step::Value(string_value(kind, bytes)));
        }
        self.string =
            Some(StringInProgress { bytes: Vec::with_capacity(length.min(STEP)), have: 0, length, kind });
        self.continue_string()
    }

    fn continue_string(&mut self) -> Parsed<Step> {
        let Some(string) = &mut self.string else { return Ok(Step::NeedMore) };
        let take = (string.length - string.have).min(self.end - self.start);
        // The vector may be longer already: it is kept so that it need not be zeroed again for every read.
        let here = &self.window[self.start..self.start + take];
        let overlap = take.min(string.bytes.len() - string.have);
        string.bytes[string.have..string.have + overlap].copy_from_slice(&here[..overlap]);
        string.bytes.extend_from_slice(&here[overlap..]);
        string.have += take;
        self.start += take;
        if string.have < string.length || self.end - self.start < 2 {
            return Ok(Step::NeedMore);
        }
        self.end_of_string(0)?;
        match self.string.take() {
            Some(mut done) => {
                done.bytes.truncate(done.length);
                Ok(Step::Value(string_value(done.kind, done.bytes)))
            }
            None => Ok(Step::NeedMore),
        }
    }

    fn end_of_string(&mut self, length: usize) -> Parsed<()> {
        let end = self.start + length;
        if &self.window[end..end + 2] != b"\r\n" {
            return Err(garbage("the end of a string", &self.window[end..end + 2]));
        }
        self.start = end + 2;
        Ok(())
    }

    fn begin_aggregate(&mut self, kind: u8, from: usize, to: usize) -> Parsed<Step> {
        let length: i64 = number(&self.window[from..to])?;
        if length == -1 && kind == b'*' {
            return Ok(Step::Value(Value::Nil));
        }
        let count = usize::try_from(length)
            .ok()
            .filter(|&count| count <= LONGEST_STRING)
            .ok_or_else(|| ProtocolError(format!("an aggregate of {length} members")))?;
        let (kind, missing) = match kind {
            b'*' => (Aggregate::Array, count),
            b'~' => (Aggregate::Set, count),
            b'>' => (Aggregate::Push, count),
            b'%' => (Aggregate::Map, count * 2),
            _ => (Aggregate::Attribute, count * 2),
        };
        if self.open.len() >= DEEPEST {
            return Err(ProtocolError(format!("replies nested more than {DEEPEST} deep")));
        }
        let open = Open { kind, missing, items: Vec::with_capacity(missing.min(1024)) };
        if missing > 0 {
            self.open.push(open);
            return Ok(Step::Opened);
        }
        Ok(open.finish()?.map_or(Step::Opened, Step::Value))
    }
}

impl Open {
    fn finish(self) -> Parsed<Option<Value>> {
        Ok(match self.kind {
            Aggregate::Array => Some(Value::Array(self.items)),
            Aggregate::Set => Some(Value::Set(self.items)),
            Aggregate::Map => Some(Value::Map(pairs(self.items))),
            Aggregate::Attribute => None,
            Aggregate::Push => {
                let mut items = self.items.into_iter();
                let kind = match items.next() {
                    Some(Value::BulkString(name)) => String::from_utf8_lossy(&name).into_owned(),
                    Some(Value::SimpleString(name)) => name,
                    _ => return Err(ProtocolError("a push message without a kind".into())),
                };
                let kind = match kind.as_str() {
                    "invalidate" => PushKind::Invalidate,
                    _ => PushKind::Other(kind),
                };
                Some(Value::Push { kind, data: items.collect() })
            }
        })
    }
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn string_value(kind: u8, bytes: Vec<u8>) -> Value {
    match kind {
        b'$' => Value::BulkString(bytes),
        b'!' => server_error(&bytes),
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            let (format, text) = text.split_once(':').unwrap_or(("txt", &text));
            let format = match format {
                "txt" => VerbatimFormat::Text,
                "mkd" => VerbatimFormat::Markdown,
                other => VerbatimFormat::Unknown(other.to_owned()),
            };
            Value::VerbatimString { format, text: text.to_owned() }
        }
    }
}

/// redis-rs knows the error codes and keeps its constructor to itself, so the line goes through its parser.
fn server_error(text: &[u8]) -> Value {
    let mut line = Vec::with_capacity(text.len() + 3);
    line.push(b'-');
    line.extend(
        String::from_utf8_lossy(text).bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }),
    );
    line.extend_from_slice(b"\r\n");
    redis::parse_redis_value(&line).unwrap_or(Value::Nil)
}

fn number(text: &[u8]) -> Parsed<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return Err(garbage("a number", text));
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(garbage("a number", text));
        }
        // Downwards, because the smallest number has no positive twin.
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(i64::from(digit - b'0')))
            .ok_or_else(|| garbage("a number", text))?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or_else(|| garbage("a number", text)) }
}

fn garbage(what: &str, bytes: &[u8]) -> ProtocolError {
    ProtocolError(format!("{what} cannot be {}", bytes[..bytes.len().min(32)].escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `piece` and collects the replies.
    fn read_all(bytes: &[u8], piece: usize) -> Parsed<Vec<Value>> {
        let mut reader = Reader::new();
        let mut rest = bytes;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (count, _) = reader
                .fill(|room| {
                    let count = rest.len().min(room.len()).min(piece);
                    room[..count].copy_from_slice(&rest[..count]);
                    Ok(count)
                })
                .expect("reading from memory does not fail");
            rest = &rest[count..];
            while let Some(value) = reader.next()? {
                values.push(value);
            }
        }
        Ok(values)
    }

    #[test]
    fn every_reply_type_is_read_whole_and_byte_by_byte() {
        let wire = b"+OK\r\n+PONG\r\n:-12\r\n$5\r\nhe\r\nl\r\n$-1\r\n$0\r\n\r\n*2\r\n:1\r\n*1\r\n+a\r\n*-1\r\n_\r\n#t\r\n,1.5\r\n\
            %1\r\n+k\r\n:2\r\n~1\r\n:3\r\n=7\r\ntxt:abc\r\n(123456789012345678901\r\n|1\r\n+x\r\n+y\r\n:7\r\n*0\r\n\
            >2\r\n+invalidate\r\n_\r\n-ERR no\r\n!5\r\nERR x\r\n";
        for piece in [1, 2, 7, wire.len()] {
            let values = read_all(wire, piece).unwrap();
            assert_eq!(values.len(), 20, "piece {piece}: {values:?}");
            assert_eq!(values[3], Value::BulkString(b"he\r\nl".to_vec()));
            assert_eq!(
                values[6],
                Value::Array(vec![Value::Int(1), Value::Array(vec![Value::SimpleString("a".into())])])
            );
            assert_eq!(values[11], Value::Map(vec![(Value::SimpleString("k".into()), Value::Int(2))]));
            assert_eq!(values[15], Value::Int(7), "an attribute is dropped, its value is not");
            assert!(matches!(values[18], Value::ServerError(_)));
            assert!(matches!(values[19], Value::ServerError(_)));
        }
    }

    #[test]
    fn a_long_string_is_read_past_the_window() {
        let body: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
        let mut wire = format!("${}\r\n", body.len()).into_bytes();
        wire.extend_from_slice(&body);
        wire.extend_from_slice(b"\r\n:1\r\n");
        for piece in [4_093, 65_536, usize::MAX] {
            assert_eq!(read_all(&wire, piece).unwrap(), [Value::BulkString(body.clone()), Value::Int(1)]);
        }
    }

    #[test]
    fn garbage_is_an_error_and_not_a_wait() {
        for wire in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\0",
            b"\r\n",
            b":12x\r\n",
            b":\r\n",
            b"$5\r\nhelloXX",
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"*-7\r\n",
            b"#x\r\n",
            b",one\r\n",
            b":99999999999999999999\r\n",
            b">0\r\n",
        ] {
            assert!(read_all(wire, 1).is_err(), "{}", wire.escape_ascii());
        }
        assert!(read_all(&b"*1\r\n".repeat(100), 64).is_err(), "bounded nesting");
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let mut reader = Reader::new();
        for wire in [&b"*500000000\r\n"[..], b"$500000000\r\n"] {
            reader
                .fill(|room| {
                    room[..wire.len()].copy_from_slice(wire);
                    Ok(wire.len())
                })
                .unwrap();
            assert!(reader.next().unwrap().is_none());
        }
        assert!(reader.string.as_ref().unwrap().bytes.capacity() <= STEP);
        assert!(reader.open[0].items.capacity() <= 1024);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut wire = Vec::new();
            for _ in 0..24 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let alphabet = b"$*%~>|+-:,#_(!=0123456789\r\n\r\nabOK";
                wire.push(alphabet[(seed % alphabet.len() as u64) as usize]);
            }
            let _ = read_all(&wire, 5);
        }
    }
}
