//! The scripts, and how one is run: by its hash, and if the server does not know it, once more by its text, which makes it
//! known. That is the one error after which a repetition is always safe.

use std::sync::LazyLock;
use std::time::Instant;

use redis::Value;

use crate::connection::{Connection, Packet};
use crate::error::Result;

/// A script as the server knows it.
pub(super) struct Script {
    text: String,
    hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let text = parts.concat();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

/// Without flags: a server that is out of memory refuses before any write.
const WRITES: &str = "#!lua\n";
#[cfg(feature = "admission")]
const READS: &str = "#!lua flags=no-writes\n";
const CLOCK: &str = include_str!("lua/clock.lua");
const GCRA: &str = include_str!("lua/gcra.lua");

/// Throttles, quotas and a stream.
pub(super) static ADMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[WRITES, CLOCK, GCRA, include_str!("lua/admit.lua")]));
/// How throttles and quotas stand.
#[cfg(feature = "admission")]
pub(super) static PEEK: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[READS, CLOCK, GCRA, include_str!("lua/peek.lua")]));
/// Quotas given back.
#[cfg(feature = "admission")]
pub(super) static REFUND: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[WRITES, CLOCK, include_str!("lua/refund.lua")]));

/// The beginning of a call.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    script: &'a Script,
    by_text: bool,
}

impl<'a> Head<'a> {
    pub(super) fn of(script: &'a Script) -> Self {
        Self { script, by_text: false }
    }

    /// The same, such that the server need not know the script.
    pub(super) fn by_text(self) -> Self {
        Self { by_text: true, ..self }
    }

    /// Appends the command up to the number of keys.
    pub(super) fn append(self, packet: &mut Packet, keys: usize, args: usize) {
        let (name, script) =
            if self.by_text { ("EVAL", &self.script.text) } else { ("EVALSHA", &self.script.hash) };
        packet.then(name, 2 + keys + args).arg(script.as_bytes());
        packet.int(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

pub(super) fn is_unknown(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Runs a script, whose call `encode` completes. No part of it takes longer than `until`.
pub(super) async fn run(
    conn: &Connection,
    script: &Script,
    until: Option<Instant>,
    encode: impl Fn(Head<'_>) -> Result<Packet>,
) -> Result<Value> {
    let patience = || until.map(|until| until.saturating_duration_since(Instant::now()));
    let head = Head::of(script);
    let packet = encode(head)?;
    let mut reply = conn.exchange(packet, patience()).await?;
    if is_unknown(&reply) {
        let packet = encode(head.by_text())?;
        reply = conn.exchange(packet, patience()).await?;
    }
    conn.check(reply)
}
