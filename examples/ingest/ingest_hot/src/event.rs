//! An event: its JSON is checked here, and understood only by the process that stores it.

use std::borrow::Cow;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use serde::Deserialize;

use crate::event_id::EventId;
use crate::json;
use crate::refusal::Refusal;

/// Bytes of an event's JSON. The gate's stream takes no more either.
pub const LARGEST: usize = 1 << 20;

/// An event as it goes on the stream.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its id, as 32 digits.
    pub id: String,
    /// A JSON object.
    pub payload: Cow<'a, [u8]>,
}

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    event_id: Option<EventId>,
}

impl<'a> Event<'a> {
    /// An event's JSON; `id` is what the envelope says, which counts more than what the event says.
    ///
    /// # Errors
    /// A refusal: 413 for too many bytes, 400 for what is not a JSON object.
    pub fn read(payload: impl Into<Cow<'a, [u8]>>, id: Option<EventId>) -> Result<Self, Refusal> {
        let payload = payload.into();
        if payload.len() > LARGEST {
            return Err(too_large());
        }
        let known: Known = json::object("the event", &payload)?;
        let id = id.or(known.event_id).unwrap_or_else(EventId::new);
        Ok(Self { id: id.to_string(), payload })
    }

    /// The body of a request that is one event: JSON, or as the oldest clients send it, Base64 of zlib of that.
    ///
    /// # Errors
    /// As for [`Event::read`], and 400 for what is neither.
    pub fn read_stored(body: &'a [u8]) -> Result<Self, Refusal> {
        let body = body.trim_ascii();
        match body.first() {
            None => Err(Refusal::bad("the body is empty")),
            Some(first)
                if first.is_ascii_alphanumeric() && !body.iter().any(|byte| b"\"[{ ".contains(byte)) =>
            {
                Self::read(unpack(body)?, None)
            }
            Some(_) => Self::read(body, None),
        }
    }
}

/// # Errors
/// A refusal: 400 for what is not Base64 of zlib, 413 for what becomes too large.
fn unpack(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let packed = STANDARD.decode(body).map_err(|_| Refusal::bad("the body is neither JSON nor Base64"))?;
    let mut unpacked = Vec::new();
    // One byte more tells that there are too many, however many there are.
    let taken = ZlibDecoder::new(&packed[..]).take(LARGEST as u64 + 1).read_to_end(&mut unpacked);
    taken.map_err(|_| Refusal::bad("the body is Base64, but not of zlib"))?;
    if unpacked.len() > LARGEST { Err(too_large()) } else { Ok(unpacked) }
}

fn too_large() -> Refusal {
    Refusal::too_large(format!("the event is too large: {LARGEST} bytes of JSON are taken"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    const ID: &str = "9ec79c33ec9942ab8353589fcb2e04dc";

    fn packed(json: &[u8]) -> String {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(json).unwrap();
        STANDARD.encode(encoder.finish().unwrap())
    }

    #[test]
    fn the_envelope_names_the_id_first_and_one_is_made_if_there_is_none() {
        let other = "0".repeat(32);
        let json = format!("{{\"event_id\": \"{ID}\", \"message\": \"it broke\"}}");
        assert_eq!(Event::read(json.as_bytes(), EventId::read(&other)).unwrap().id, other);
        assert_eq!(Event::read(json.as_bytes(), None).unwrap().id, ID);
        let made = Event::read(&b"{}"[..], None).unwrap().id;
        assert_eq!(made.len(), 32);
        assert_ne!(Event::read(&b"{}"[..], None).unwrap().id, made);
        assert!(EventId::read(&Event::read(&b"{\"event_id\": null}"[..], None).unwrap().id).is_some());
    }

    #[test]
    fn only_a_json_object_is_an_event() {
        for text in [
            "",
            " ",
            "[]",
            "[null]",
            "1",
            "\"{}\"",
            "null",
            "{",
            "{\"a\":}",
            "{\"event_id\": \"x\"}",
            "{} {}",
        ] {
            assert_eq!(Event::read(text.as_bytes(), None).unwrap_err().status, 400, "{text}");
        }
        assert_eq!(
            Event::read(&b"{\"a\": \"\xff\"}"[..], None).unwrap_err().reason,
            "the event is not UTF-8"
        );
        assert_eq!(Event::read("{\"a\":".repeat(200_000).as_bytes(), None).unwrap_err().status, 400);
    }

    #[test]
    fn an_event_has_a_largest_size() {
        let of = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)).into_bytes();
        assert!(Event::read(of(LARGEST), None).is_ok());
        assert_eq!(Event::read(of(LARGEST + 1), None).unwrap_err().status, 413);
    }

    #[test]
    fn the_oldest_clients_send_base64() {
        let json = format!("{{\"event_id\": \"{ID}\"}}");
        let event = packed(json.as_bytes());
        let event = Event::read_stored(event.as_bytes()).unwrap();
        assert_eq!((event.id.as_str(), &*event.payload), (ID, json.as_bytes()));
        assert_eq!(Event::read_stored(json.as_bytes()).unwrap().id, ID);
        for body in ["", "  \n", "it broke", "eJw", "aGVsbG8=", "true", "[]"] {
            assert_eq!(Event::read_stored(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
    }

    #[test]
    fn a_bomb_in_base64_is_not_unpacked() {
        let bomb = packed(&vec![b' '; 200 << 20]);
        assert!(bomb.len() < 300_000);
        assert_eq!(Event::read_stored(bomb.as_bytes()).unwrap_err().status, 413);
    }
}
