//! The ingest work of benches/web: events are checked, charged and put on a stream. It has the limits of
//! `benches/web/site/site_/work.py`, and the gate those of `gate.py` beside it.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use vcache::admission::{Admission, Full, Gate, Outage, Period, Quota, Scope, Settings, Stream, Throttle};
use vcache::prelude::*;
use vcache::{Error, Result};

static GATE: LazyLock<Gate> = LazyLock::new(|| gate().expect("the gate makes sense"));

fn gate() -> Result<Gate> {
    let mut settings = Settings::default();
    // A row that is slow must not look like an outage.
    settings.deadline = None;
    Gate::builder()
        .settings(settings)
        .throttle(Throttle::new("project", "10000000/m")?)
        .quota(Quota::new("events", 1_000_000_000, Period::Day)?.key(["organisation"])?)
        .quota(Quota::new("bytes", 1_000_000_000_000, Period::Day)?.key(["organisation"])?)
        .stream(Stream::new("events")?.maxlen(10_000).full(Full::Trim))
        .owner("organisation")
        .outage(Outage::Raise)
        .build()
}

/// What is read of an event. The rest of it only has to be JSON.
#[derive(Deserialize)]
pub struct Event<'a> {
    event_id: &'a str,
    #[serde(rename = "level")]
    _level: Level,
    #[serde(borrow, rename = "message")]
    _message: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

impl Event<'_> {
    /// The event's id, if it is as it must be.
    pub fn id(&self) -> Result<&str> {
        let is_id = self.event_id.len() == 32
            && self.event_id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_id {
            Ok(self.event_id)
        } else {
            Err(Error::request(400, "event_id is not 32 hexadecimal digits"))
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
}

/// The answer to an event that was taken.
pub fn accepted(id: &str) -> Result<Response> {
    Response::new(200).json(&Answer { id })
}

/// Charges an event and puts it on the stream, and answers.
pub async fn admit(conn: &Connection, project: u64, id: &str, payload: &[u8]) -> Result<Response> {
    let number =
        |value: u64| i64::try_from(value).map_err(|_| Error::request(404, "no project has such a number"));
    let scope = Scope::new().with("project", number(project)?).with("organisation", number(project / 4)?);
    let bytes = i64::try_from(payload.len()).unwrap_or(i64::MAX);
    let decision = GATE.admit(conn, Admission::new(&scope).payload(payload).cost_of("bytes", bytes)).await?;
    if decision.allowed { accepted(id) } else { Ok(Response::new(decision.status()).text("over a limit")) }
}

#[derive(Deserialize)]
struct Head<'a> {
    event_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    length: Option<usize>,
}

/// The event in an envelope, and its bytes. An envelope is a line of JSON, and items: each is a line of JSON and a payload,
/// which is as long as its line says or reaches to the end of the line.
pub fn event_of(envelope: &[u8]) -> Result<(Event<'_>, &[u8])> {
    let (head, mut rest) = line(envelope);
    let head: Head<'_> = parsed("the envelope's header", head)?;
    let mut found = None;
    while !rest.is_empty() {
        let (item, behind) = line(rest);
        let item: Item<'_> = parsed("an item's header", item)?;
        let payload;
        (payload, rest) = match item.length {
            None => line(behind),
            Some(length) => {
                let payload = behind
                    .get(..length)
                    .ok_or_else(|| Error::request(400, "an item is shorter than it says"))?;
                let rest = &behind[length..];
                (payload, rest.strip_prefix(b"\n").unwrap_or(rest))
            }
        };
        if item.kind == "event" {
            found = Some(payload);
        }
    }
    let payload = found.ok_or_else(|| Error::request(400, "the envelope has no event"))?;
    let event: Event<'_> = parsed("the event", payload)?;
    if head.event_id.is_some_and(|id| id != event.event_id) {
        return Err(Error::request(400, "the envelope and its event have different ids"));
    }
    Ok((event, payload))
}

fn parsed<'a, T: Deserialize<'a>>(what: &str, json: &'a [u8]) -> Result<T> {
    sonic_rs::from_slice(json)
        .map_err(|error| Error::request(400, format!("{what} is not what it must be: {error}")))
}

fn line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
}
