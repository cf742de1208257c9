//! `sweep`, which is `clear()` by prefix: SCAN for the cache's keys and UNLINK them, batch by batch, so that neither we nor the server ever
//! hold all of them. Keys written meanwhile may stay.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vcache::{Connection, Error, Packet, Result, Value};

use crate::cache::forms::{Conversation, Operation};
use crate::cache::replies::Shared;

pub(in crate::cache) fn sweep(
    shared: &Arc<Shared>,
    layouts: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    version: &str,
) -> PyResult<impl Operation + use<>> {
    let mut layouts = layouts.into_iter().map(|(head, middle, tail)| Layout { head, middle, tail });
    let own = layouts.next().ok_or_else(|| PyValueError::new_err("the layout of the keys is missing"))?;
    let sweep = Sweep { own, others: layouts.collect(), version: version.as_bytes().to_vec() };
    let shared = Arc::clone(shared);
    Ok(Conversation::new(sweep.run(shared.connection.clone()), move |py: Python<'_>, deleted| {
        let _ignored = shared.outcome(py, deleted)?;
        Ok(py.None())
    }))
}

/// How many keys the server looks at per step.
const STEP: i64 = 1000;

/// Where version and key are in the keys of one cache: `head`, version, `middle`, key, `tail`.
struct Layout {
    head: Vec<u8>,
    middle: Vec<u8>,
    tail: Vec<u8>,
}

impl Layout {
    /// Whether `key` has this layout, with an integer for a version or with `version`.
    fn holds(&self, key: &[u8], version: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(&self.head[..]) else { return false };
        let digits = rest.strip_prefix(b"-").unwrap_or(rest);
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0 && self.ends(&digits[count..]))
            || rest.strip_prefix(version).is_some_and(|rest| self.ends(rest))
    }

    /// Whether `rest` can follow a version.
    fn ends(&self, rest: &[u8]) -> bool {
        rest.strip_prefix(&self.middle[..]).is_some_and(|key| key.ends_with(&self.tail))
    }

    /// A glob that matches every key of this layout, and maybe others.
    fn glob(&self, version: &[u8]) -> Vec<u8> {
        let mut glob = literal(&self.head);
        if is_integer(version) {
            // Spares the server from sending those of a longer prefix.
            glob.extend_from_slice(b"[-0-9]");
        }
        glob.push(b'*');
        glob.extend_from_slice(&literal(&self.middle));
        glob.push(b'*');
        glob.extend_from_slice(&literal(&self.tail));
        glob
    }
}

fn is_integer(version: &[u8]) -> bool {
    let digits = version.strip_prefix(b"-").unwrap_or(version);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// A glob that matches `text` only.
fn literal(text: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(text.len() + 8);
    for &byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
            glob.push(b'\\');
        }
        glob.push(byte);
    }
    glob
}

/// Whose keys a sweep deletes.
struct Sweep {
    own: Layout,
    /// Keys of these stay.
    others: Vec<Layout>,
    /// The cache's version, which may be something else than an integer.
    version: Vec<u8>,
}

impl Sweep {
    fn deletes(&self, key: &[u8]) -> bool {
        self.own.holds(key, &self.version)
            && !is_limit_or_stream(key)
            && !self.others.iter().any(|other| other.holds(key, &self.version))
    }

    /// Deletes the keys; returns how many there were. Of a cluster, those of one node after the other, and then those of
    /// nodes that have slots which they did not have before.
    async fn run(self, connection: Connection) -> Result<i64> {
        let mut deleted = 0;
        let mut before = connection.primaries().await?;
        let mut nodes = before.connections();
        while !nodes.is_empty() {
            for node in &nodes {
                deleted += self.run_on(&connection, node).await?;
            }
            let after = connection.primaries().await?;
            nodes = before.that_gained(&after);
            before = after;
        }
        Ok(deleted)
    }

    /// Deletes the keys of one server.
    async fn run_on(&self, connection: &Connection, node: &Connection) -> Result<i64> {
        let pattern = self.own.glob(&self.version);
        let mut cursor = b"0".to_vec();
        let mut deleted = 0;
        loop {
            let mut scan = Packet::command("SCAN", 5);
            scan.arg(&cursor).arg(b"MATCH").arg(&pattern).arg(b"COUNT").int(STEP);
            let reply = node.check(node.send(scan).await?)?;
            let (next, keys): (Vec<u8>, Vec<Vec<u8>>) = vcache::redis::from_redis_value(reply)
                .map_err(|error| Error::from(vcache::redis::RedisError::from(error)))?;
            let keys: Vec<_> = keys.into_iter().filter(|key| self.deletes(key)).collect();
            if !keys.is_empty() {
                deleted += unlink(connection, &keys).await?;
            }
            if next == b"0" {
                return Ok(deleted);
            }
            cursor = next;
        }
    }
}

/// Whether `key` is one of admission's: `vcache:2:{v07}:t:...`. To an alias with the prefix `vcache` it looks like version 2.
fn is_limit_or_stream(key: &[u8]) -> bool {
    const TAG: &[u8] = b":{v";
    let Some(at) = key.windows(TAG.len()).position(|part| part == TAG) else { return false };
    let shard = &key[at + TAG.len()..];
    let digits = shard.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && matches!(shard[digits..], [b'}', b':', b't' | b'q' | b'd' | b'r' | b's', b':', ..])
}

/// Unlinks each key by its own command: those of a cluster can be in different slots.
async fn unlink(connection: &Connection, keys: &[Vec<u8>]) -> Result<i64> {
    // Unlinking a key twice is as good as once: the count is all that differs.
    let mut packet = Packet::pipeline().repeatable(true);
    for key in keys {
        packet.then("UNLINK", 1).arg(key);
    }
    let replies = match connection.send(packet).await? {
        Value::Array(replies) => replies,
        single => vec![single],
    };
    let mut deleted = 0;
    for reply in replies {
        if let Value::Int(count) = connection.check(reply)? {
            deleted += count;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::{Layout, literal};

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(literal(b"a*[b]?\\:"), b"a\\*\\[b\\]\\?\\\\:");
        assert_eq!(literal(b"plain:"), b"plain:");
    }

    #[test]
    fn a_key_is_told_by_its_version() {
        let layout = |head: &str, middle: &str, tail: &str| Layout {
            head: head.into(),
            middle: middle.into(),
            tail: tail.into(),
        };
        let shop = layout("shop:", ":", "");
        for key in ["shop:1:k", "shop:-12:k", "shop:1:", "shop:1:a:b", "shop:beta:k"] {
            assert!(shop.holds(key.as_bytes(), b"beta"), "{key}");
        }
        for key in
            ["shop:", "shop:1", "shop:x:k", "shop:-:k", "shop::k", "shop:1x:k", "shopping:1:k", "ashop:1:k"]
        {
            assert!(!shop.holds(key.as_bytes(), b"beta"), "{key}");
        }
        let wrapped = layout("v", "/shop/", ".end");
        assert!(wrapped.holds(b"v3/shop/k.end", b"1"));
        assert!(!wrapped.holds(b"v3/shop/k", b"1"));
        assert!(!wrapped.holds(b"v3/other/k.end", b"1"));
    }

    #[test]
    fn the_glob_lets_the_server_skip_what_has_no_version() {
        let layout = Layout { head: b"shop:".to_vec(), middle: b":".to_vec(), tail: Vec::new() };
        assert_eq!(layout.glob(b"1"), b"shop:[-0-9]*:*");
        assert_eq!(layout.glob(b"beta"), b"shop:*:*");
    }
}
