//! `incr`: a step that keeps the time to live, refuses a missing key, and leaves alone what is not a number. A script does
//! it atomically. A user whose ACL allows no scripts, or a server that knows none, gets it by plain commands.

use std::sync::atomic::{AtomicBool, Ordering};

use vcache::redis::Script;
use vcache::{Connection, Packet, Result, Value};

const INCR: &str = "local value = redis.call('GET', KEYS[1])
if not value then return false end
if string.find(value, '^-?%d+$') then return redis.call('INCRBY', KEYS[1], ARGV[1]) end
return {value}";

/// What became of it.
pub(super) enum Outcome {
    Missing,
    Number(i64),
    /// The stored value, which is not a number.
    Other(Vec<u8>),
}

/// Whether a server refused scripts. Once it did, it is not asked again.
pub(super) struct Scripting {
    /// With its SHA-1, which is how the server knows it.
    script: Script,
    is_refused: AtomicBool,
}

impl Default for Scripting {
    fn default() -> Self {
        Self { script: Script::new(INCR), is_refused: AtomicBool::new(false) }
    }
}

impl Scripting {
    /// Adds `delta` to the number at `key`. `on_refused` is called once.
    pub(super) async fn incr(
        &self,
        connection: Connection,
        key: Vec<u8>,
        delta: i64,
        on_refused: impl FnOnce(),
    ) -> Result<Outcome> {
        if !self.is_refused.load(Ordering::Relaxed) {
            let reply = by_script(&connection, self.script.get_hash(), &key, delta).await?;
            if !is_refusal(&reply) {
                return Ok(outcome(connection.check(reply)?));
            }
            if !self.is_refused.swap(true, Ordering::Relaxed) {
                on_refused();
            }
        }
        by_commands(&connection, &key, delta).await
    }
}

fn is_refusal(reply: &Value) -> bool {
    let Value::ServerError(error) = reply else { return false };
    let words = error.details().unwrap_or_default();
    match error.code() {
        // "... has no permissions to run the 'evalsha' command", and not a key that the user may not touch.
        "NOPERM" => words.contains("'eval"),
        "ERR" => words.starts_with("unknown command"),
        _ => false,
    }
}

async fn by_script(connection: &Connection, hash: &str, key: &[u8], delta: i64) -> Result<Value> {
    let mut call = Packet::command("EVALSHA", 4);
    call.arg(hash.as_bytes()).arg(b"1").arg(key).int(delta);
    let reply = connection.send(call).await?;
    if !matches!(&reply, Value::ServerError(error) if error.code() == "NOSCRIPT") {
        return Ok(reply);
    }
    // The one error after which a repetition is safe. EVAL also loads the script.
    let mut call = Packet::command("EVAL", 4);
    call.arg(INCR.as_bytes()).arg(b"1").arg(key).int(delta);
    connection.send(call).await
}

fn outcome(reply: Value) -> Outcome {
    match reply {
        Value::Int(number) => Outcome::Number(number),
        Value::Array(items) => match items.into_iter().next() {
            Some(Value::BulkString(stored)) => Outcome::Other(stored),
            _ => Outcome::Missing,
        },
        _ => Outcome::Missing,
    }
}

async fn by_commands(connection: &Connection, key: &[u8], delta: i64) -> Result<Outcome> {
    let mut get = Packet::command("GET", 1);
    get.arg(key);
    let stored = match connection.check(connection.send(get).await?)? {
        Value::BulkString(stored) => stored,
        _ => return Ok(Outcome::Missing),
    };
    let digits = stored.strip_prefix(b"-").unwrap_or(&stored);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(Outcome::Other(stored));
    }
    let mut add = Packet::pipeline();
    add.then("EXISTS", 1).arg(key);
    add.then("INCRBY", 2).arg(key).int(delta);
    let mut replies = match connection.send(add).await? {
        Value::Array(replies) => replies.into_iter(),
        single => vec![single].into_iter(),
    };
    let existed = connection.check(replies.next().unwrap_or(Value::Nil))?;
    let number = connection.check(replies.next().unwrap_or(Value::Nil))?;
    if existed == Value::Int(0) {
        // It expired since the GET, and INCRBY made it anew, without a time to live.
        let mut undo = Packet::command("UNLINK", 1).repeatable(true);
        undo.arg(key);
        connection.check(connection.send(undo).await?)?;
        return Ok(Outcome::Missing);
    }
    Ok(outcome(number))
}
