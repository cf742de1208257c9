//! `incr`: one atomic step that keeps the time to live, refuses a missing key, and leaves alone what is not a number.

use vcache::{Connection, Packet, Result, Value};

const INCR: &str = "local value = redis.call('GET', KEYS[1])
if not value then return false end
if string.find(value, '^-?%d+$') then return redis.call('INCRBY', KEYS[1], ARGV[1]) end
return {value}";

/// SHA-1 of the script, which is how the server knows it.
static SCRIPT: std::sync::LazyLock<vcache::redis::Script> =
    std::sync::LazyLock::new(|| vcache::redis::Script::new(INCR));

/// What became of it.
pub(super) enum Outcome {
    Missing,
    Number(i64),
    /// The stored value, which is not a number.
    Other(Vec<u8>),
}

/// Adds `delta` to the number at `key`.
pub(super) async fn incr(connection: Connection, key: Vec<u8>, delta: i64) -> Result<Outcome> {
    let mut call = Packet::command("EVALSHA", 4);
    call.arg(SCRIPT.get_hash().as_bytes()).arg(b"1").arg(&key).int(delta);
    let mut reply = connection.send(call).await?;
    if matches!(&reply, Value::ServerError(error) if error.code() == "NOSCRIPT") {
        // The one error after which a repetition is safe. EVAL also loads the script.
        let mut call = Packet::command("EVAL", 4);
        call.arg(INCR.as_bytes()).arg(b"1").arg(&key).int(delta);
        reply = connection.send(call).await?;
    }
    Ok(match connection.check(reply)? {
        Value::Int(number) => Outcome::Number(number),
        Value::Array(items) => match items.into_iter().next() {
            Some(Value::BulkString(stored)) => Outcome::Other(stored),
            _ => Outcome::Missing,
        },
        _ => Outcome::Missing,
    })
}
