//! The scripts, and how one is run: by its hash, and if the server does not know it, once more by its text, which makes it
//! known. That is the one error after which a repetition is always safe.

use std::time::Duration;

use redis::Value;

use crate::connection::{Connection, Packet};
use crate::error::Result;
use crate::fork::Lazy;

/// A script as the server knows it.
pub(super) struct Script {
    text: String,
    /// `EVALSHA` and its hash, encoded.
    by_hash: Box<[u8]>,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let text = parts.concat();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { by_hash: Packet::encode(|packet| packet.arg(b"EVALSHA").arg(hash.as_bytes())), text }
    }
}

/// Without flags: a server that is out of memory refuses before any write.
const WRITES: &str = "#!lua\n";
#[cfg(feature = "admission")]
const READS: &str = "#!lua flags=no-writes\n";
#[cfg(not(test))]
const CLOCK: &str = include_str!("lua/clock.lua");
/// Tests of what happens at a window's edge say what time it is.
#[cfg(test)]
const CLOCK: &str = concat!(
    include_str!("lua/clock.lua"),
    "local told = redis.call('GET', '{clock}')\n",
    "if told then clock = told + 0 end\n"
);
const GCRA: &str = include_str!("lua/gcra.lua");

/// Throttles, quotas and a stream. Its reply is a [`Packed`](super::reply::Packed).
pub(super) static ADMIT: Lazy<Script> = Lazy::new(|| {
    let decide = ["local function decide()\n", include_str!("lua/admit.lua"), "end\n"];
    Script::new(&[WRITES, CLOCK, GCRA, &decide.concat(), include_str!("lua/pack.lua")])
});
/// How throttles and quotas stand.
#[cfg(feature = "admission")]
pub(super) static PEEK: Lazy<Script> =
    Lazy::new(|| Script::new(&[READS, CLOCK, GCRA, include_str!("lua/peek.lua")]));
/// Quotas given back.
#[cfg(feature = "admission")]
pub(super) static REFUND: Lazy<Script> = Lazy::new(|| Script::new(&[WRITES, include_str!("lua/refund.lua")]));

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

    /// Bytes that it brings into a packet, but for a few.
    #[cfg(feature = "admission")]
    pub(super) fn size(self) -> usize {
        if self.by_text { self.script.text.len() } else { self.script.by_hash.len() }
    }

    /// Appends the command up to the number of keys.
    pub(super) fn append(self, packet: &mut Packet, keys: usize, args: usize) {
        if self.by_text {
            packet.then("EVAL", 2 + keys + args).arg(self.script.text.as_bytes());
        } else {
            packet.then_encoded("EVALSHA", 2 + keys + args).encoded_args(&self.script.by_hash, 2);
        }
        packet.int(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

pub(super) fn is_unknown(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Runs a script, whose call `encode` completes. Each of its calls may be unanswered for `patience`.
pub(super) async fn run(
    conn: &Connection,
    script: &Script,
    patience: Option<Duration>,
    encode: impl Fn(Head<'_>) -> Result<Packet>,
) -> Result<Value> {
    let head = Head::of(script);
    let begun = loads::now();
    let mut reply = conn.exchange(encode(head)?, patience).await?;
    if is_unknown(&reply) && !loads::is_mine(conn.alias(), &script.by_hash, begun) {
        // Another call brings the text: on the same connection this one comes behind it.
        reply = conn.exchange(encode(head)?, patience).await?;
    }
    if is_unknown(&reply) {
        reply = conn.exchange(encode(head.by_text())?, patience).await?;
    }
    conn.check(reply)
}

/// Connects, if that has not happened, and has the server learn the scripts: what the first decision of a process then waits
/// for is the decision alone. A user who may not load scripts is no error, since a call brings the text of one that is missing.
///
/// # Errors
/// The connection's, and what else the server refuses.
///
/// ```no_run
/// # async fn example(conn: &vcache::Connection) -> vcache::Result<()> {
/// vcache::admission::load_scripts(conn).await?;
/// # Ok(()) }
/// ```
#[cfg(feature = "admission")]
pub async fn load_scripts(conn: &Connection) -> Result<()> {
    let mut packet = Packet::pipeline();
    for script in [&*ADMIT, &*PEEK, &*REFUND] {
        packet.then("SCRIPT", 2).arg(b"LOAD").arg(script.text.as_bytes());
    }
    let replies = match conn.exchange(packet, None).await? {
        Value::Array(replies) => replies,
        single => vec![single],
    };
    for reply in replies {
        match conn.check(reply) {
            Err(error) if error.code() == Some("NOPERM") => {}
            checked => drop(checked?),
        }
    }
    Ok(())
}

/// Who brings a script to a server that does not know it. Of many calls that learn of it together only the first does: the
/// text has some 12 KB, and a thousand of them would keep the server from deciding within the deadline.
mod loads {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use crate::fork::Lazy;

    static START: Lazy<Instant> = Lazy::new(Instant::now);
    /// When a text was last brought, by alias and script. Two that share a place bring theirs once too often.
    static BROUGHT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

    /// Nanoseconds since the first call, and never 0.
    pub(super) fn now() -> u64 {
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Whether a call that began then is the one that brings the text.
    pub(super) fn is_mine(alias: &str, script: &[u8], begun: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        (alias, script).hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % 64).unwrap_or(0);
        let brought = BROUGHT[place].load(Ordering::Acquire);
        brought < begun
            && BROUGHT[place].compare_exchange(brought, now(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
