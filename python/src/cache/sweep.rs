//! `clear()` by prefix: SCAN for the alias's keys and UNLINK them, batch by batch, so that neither we nor the server ever
//! hold all of them. Keys written meanwhile may stay.

use vcache::{Connection, Error, Packet, Result, Value};

/// How many keys the server looks at per step.
const STEP: i64 = 1000;

/// A glob that matches every key that starts with `prefix` taken literally.
fn glob(prefix: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(prefix.len() + 8);
    for &byte in prefix {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
            glob.push(b'\\');
        }
        glob.push(byte);
    }
    glob.push(b'*');
    glob
}

/// Deletes every key that starts with `prefix`; returns how many there were.
pub(super) async fn unlink_prefix(connection: Connection, prefix: Vec<u8>) -> Result<i64> {
    let pattern = glob(&prefix);
    let mut cursor = b"0".to_vec();
    let mut deleted = 0;
    loop {
        let mut scan = Packet::command("SCAN", 5);
        scan.arg(&cursor).arg(b"MATCH").arg(&pattern).arg(b"COUNT").int(STEP);
        let reply = connection.check(connection.send(scan).await?)?;
        let (next, keys): (Vec<u8>, Vec<Vec<u8>>) = vcache::redis::from_redis_value(reply)
            .map_err(|error| Error::from(vcache::redis::RedisError::from(error)))?;
        if !keys.is_empty() {
            // Unlinking a key twice is as good as once: the count is all that differs.
            let mut unlink = Packet::command("UNLINK", keys.len()).repeatable(true);
            for key in &keys {
                unlink.arg(key);
            }
            if let Value::Int(count) = connection.check(connection.send(unlink).await?)? {
                deleted += count;
            }
        }
        if next == b"0" {
            return Ok(deleted);
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(glob(b"a*[b]?\\:"), b"a\\*\\[b\\]\\?\\\\:*");
        assert_eq!(glob(b"plain:"), b"plain:*");
    }
}
