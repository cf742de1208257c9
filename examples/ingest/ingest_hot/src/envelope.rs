//! Reads envelopes: a line of JSON about the whole, and then items, each a line of JSON and a payload.
//!
//! What comes in is hostile until it is read: a length may lie, a few kilobytes may hold a million empty items, a line may
//! never end. Nothing is copied, and nothing is allocated by what a length says.

use memchr::memchr;
use serde::Deserialize;

use crate::event_id::EventId;
use crate::json;
use crate::refusal::Refusal;

/// Bytes of a header, of the envelope's or of an item's.
const LONGEST_HEADER: usize = 8 << 10;
/// Items of an envelope, those that are skipped included.
const MOST_ITEMS: usize = 100;

/// What the first line says.
#[derive(Debug, Default, Deserialize)]
pub struct Header {
    /// The id of the event in it. Some clients say it only here.
    #[serde(default)]
    pub event_id: Option<EventId>,
    /// The address that the client was configured with, which has the key in it.
    #[serde(default)]
    pub dsn: Option<String>,
}

/// An item that is known here.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An error or a message, as JSON.
    Event(&'a [u8]),
    /// What the client has dropped by itself, as JSON.
    ClientReport(&'a [u8]),
}

/// An envelope, as parts of the body that it was read from.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Its first line.
    pub header: Header,
    /// Those of its items that are known here, in their order.
    pub items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct ItemHeader {
    r#type: String,
    #[serde(default)]
    length: Option<u64>,
}

impl<'a> Envelope<'a> {
    /// Reads a whole body.
    ///
    /// # Errors
    /// A refusal with 400 that says what is wrong, and in which item.
    pub fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Err(Refusal::bad("the body is empty"));
        }
        let (first, mut rest) = line("the envelope's header", body)?;
        let header = json::object("the envelope's header", first)?;
        let mut items = Vec::new();
        for number in 1.. {
            while let [b'\n', tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                break;
            }
            if number > MOST_ITEMS {
                return Err(Refusal::bad(format!("the envelope has more than {MOST_ITEMS} items")));
            }
            let what = format!("the header of item {number}");
            let (head, tail) = line(&what, rest)?;
            let head: ItemHeader = json::object(&what, head)?;
            let (payload, tail) = payload(number, head.length, tail)?;
            rest = tail;
            match head.r#type.as_str() {
                "event" => items.push(Item::Event(payload)),
                "client_report" => items.push(Item::ClientReport(payload)),
                // New kinds come with new clients. What is not known is skipped, or the rest would be lost.
                _ => {}
            }
        }
        Ok(Self { header, items })
    }
}

/// A line and what follows it. The last one need not end.
fn line<'a>(what: &str, text: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    // One more than the longest, for the end of that.
    let within = &text[..text.len().min(LONGEST_HEADER + 1)];
    match memchr(b'\n', within) {
        Some(end) => Ok((&text[..end], &text[end + 1..])),
        None if text.len() <= LONGEST_HEADER => Ok((text, &[])),
        None => Err(Refusal::bad(format!("{what} has more than {LONGEST_HEADER} bytes"))),
    }
}

/// An item's payload and what follows it: so many bytes and a newline, or up to the newline if no length is said.
fn payload(number: usize, length: Option<u64>, rest: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let Some(length) = length else {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        return Ok((&rest[..end], rest.get(end + 1..).unwrap_or_default()));
    };
    let taken = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    match taken {
        None => {
            Err(Refusal::bad(format!("item {number} should have {length} bytes, and {} follow", rest.len())))
        }
        Some((payload, [])) => Ok((payload, &[])),
        Some((payload, [b'\n', rest @ ..])) => Ok((payload, rest)),
        Some(_) => {
            Err(Refusal::bad(format!("item {number} goes on after the {length} bytes that it should have")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9ec79c33ec9942ab8353589fcb2e04dc";

    fn items(body: &str) -> Vec<Item<'_>> {
        Envelope::read(body.as_bytes()).unwrap().items
    }

    fn reason(body: &[u8]) -> String {
        let refusal = Envelope::read(body).unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.reason
    }

    #[test]
    fn an_event_comes_with_its_length_or_up_to_the_newline() {
        let header = format!("{{\"event_id\":\"{ID}\",\"sent_at\":\"2026-11-30T12:00:00+00:00\"}}");
        for body in [
            format!("{header}\n{{\"type\":\"event\",\"length\":2}}\n{{}}\n"),
            format!("{header}\n{{\"type\":\"event\",\"length\":2}}\n{{}}"),
            format!("{header}\n{{\"type\":\"event\"}}\n{{}}\n"),
            format!("{header}\n{{\"type\":\"event\"}}\n{{}}"),
        ] {
            let envelope = Envelope::read(body.as_bytes()).unwrap();
            assert_eq!(envelope.header.event_id.unwrap().to_string(), ID);
            assert_eq!(envelope.items, [Item::Event(b"{}")], "{body}");
        }
    }

    #[test]
    fn several_items_come_in_order_and_unknown_ones_are_skipped() {
        let body = "{}\n{\"type\":\"session\"}\n{\"a\":1}\n{\"type\":\"attachment\",\"length\":5}\na\n\nb\n\n\
                    {\"type\":\"client_report\"}\n{}\n{\"type\":\"event\",\"length\":4}\n[\n1]\n";
        assert_eq!(items(body), [Item::ClientReport(b"{}"), Item::Event(b"[\n1]")]);
    }

    #[test]
    fn an_envelope_may_have_no_items() {
        assert_eq!(items("{}"), []);
        assert_eq!(items("{}\n\n\n"), []);
    }

    #[test]
    fn a_length_that_lies_is_told() {
        let of =
            |length: &str| format!("{{}}\n{{\"type\":\"event\",\"length\":{length}}}\n{{}}\n").into_bytes();
        assert_eq!(reason(&of("3000")), "item 1 should have 3000 bytes, and 3 follow");
        assert_eq!(
            reason(&of("18446744073709551615")),
            "item 1 should have 18446744073709551615 bytes, and 3 follow"
        );
        assert_eq!(reason(&of("1")), "item 1 goes on after the 1 bytes that it should have");
        for wrong in ["-1", "1.5", "\"2\"", "[2]", "18446744073709551616", "1e30"] {
            assert!(reason(&of(wrong)).starts_with("the header of item 1 is not the JSON"), "{wrong}");
        }
    }

    #[test]
    fn a_length_of_zero_is_an_empty_payload() {
        assert_eq!(items("{}\n{\"type\":\"event\",\"length\":0}\n\n"), [Item::Event(b"")]);
        assert_eq!(items("{}\n{\"type\":\"event\",\"length\":0}"), [Item::Event(b"")]);
    }

    #[test]
    fn empty_items_by_the_million_end_at_the_bound() {
        let body = format!("{{}}\n{}", "{\"type\":\"x\"}\n\n".repeat(1_000_000));
        assert_eq!(reason(body.as_bytes()), "the envelope has more than 100 items");
        let body = format!("{{}}\n{}", "{\"type\":\"x\"}\n\n".repeat(100));
        assert_eq!(items(&body), []);
        assert_eq!(items(&format!("{{}}{}", "\n".repeat(1_000_000))), []);
    }

    #[test]
    fn a_line_without_an_end_is_not_read_to_its_end() {
        let endless = "x".repeat(1_000_000);
        assert_eq!(reason(endless.as_bytes()), "the envelope's header has more than 8192 bytes");
        assert_eq!(
            reason(format!("{{}}\n{endless}").as_bytes()),
            "the header of item 1 has more than 8192 bytes"
        );
        let longest = format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST_HEADER - 8));
        assert_eq!(items(&longest), []);
        assert_eq!(items(&format!("{longest}\n")), []);
        assert!(Envelope::read(format!(" {longest}\n").as_bytes()).is_err());
    }

    #[test]
    fn headers_that_are_not_json_objects_are_told() {
        for header in [
            "",
            "x",
            "[]",
            "1",
            "null",
            "{",
            "{}{}",
            "{\"event_id\":1}",
            "{\"dsn\":[]}",
            "{\"event_id\":\"x\"}",
        ] {
            let body = format!("{header}\n{{\"type\":\"event\"}}\n{{}}");
            assert!(Envelope::read(body.as_bytes()).is_err(), "{header}");
        }
        for header in ["x", "[]", "{}", "{\"type\":1}", "{\"type\":null}", "{\"length\":2}"] {
            let body = format!("{{}}\n{header}\n{{}}");
            assert!(reason(body.as_bytes()).starts_with("the header of item 1"), "{header}");
        }
        assert_eq!(reason(b""), "the body is empty");
        assert_eq!(reason(b"{\"a\":\"\xff\"}"), "the envelope's header is not UTF-8");
        assert_eq!(reason(b"{}\n{\"type\":\"\xff\"}"), "the header of item 1 is not UTF-8");
        let deep = format!("{{\"a\":{}", "[".repeat(8_000));
        assert!(reason(deep.as_bytes()).contains("128 levels"));
    }

    #[test]
    fn no_prefix_of_an_envelope_is_more_than_a_refusal() {
        let body = format!(
            "{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\",\"length\":7}}\n{{\"a\":1}}\n{{\"type\":\"session\"}}\n{{}}\n"
        );
        for end in 0..body.len() {
            if let Ok(envelope) = Envelope::read(&body.as_bytes()[..end]) {
                assert!(
                    envelope
                        .items
                        .iter()
                        .all(|item| *item == Item::Event(b"{\"a\":1}") || *item == Item::Event(b"")),
                    "{end}"
                );
            }
        }
    }
}
