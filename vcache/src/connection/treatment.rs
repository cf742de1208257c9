//! How a command is to be treated, by its name and arguments: whether the shared connection takes it at all, whether it may
//! be sent twice, whether the server may sit on it. It is asked for every command, so it allocates nothing.

use redis::{Arg, Cmd};

use super::command::Blocking;
use crate::error::{Error, Result};

pub(super) struct Treatment {
    pub(super) idempotent: bool,
    pub(super) blocking: Blocking,
}

/// # Errors
/// If the command would change the connection for others.
pub(super) fn treatment(command: &Cmd) -> Result<Treatment> {
    let words = Words(command);
    let upper = Upper::of(words.get(0).unwrap_or_default());
    let name = upper.as_str();
    refuse(name, words)?;
    Ok(Treatment { idempotent: is_idempotent(name, words), blocking: blocks(name, words) })
}

/// A command's name and arguments.
#[derive(Clone, Copy)]
struct Words<'a>(&'a Cmd);

impl<'a> Words<'a> {
    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.args_iter().map(|arg| match arg {
            Arg::Simple(bytes) => bytes,
            Arg::Cursor => b"0".as_slice(),
            _ => b"".as_slice(),
        })
    }

    fn get(self, index: usize) -> Option<&'a [u8]> {
        self.iter().nth(index)
    }
}

/// A word in upper case, if it is short enough to be one that we know; otherwise none that we know.
struct Upper {
    bytes: [u8; 24],
    len: usize,
}

impl Upper {
    fn of(word: &[u8]) -> Self {
        let mut bytes = [0; 24];
        let len = if word.is_ascii() { word.len() } else { bytes.len() + 1 };
        match bytes.get_mut(..len) {
            Some(place) => {
                place.copy_from_slice(word);
                place.make_ascii_uppercase();
                Self { bytes, len }
            }
            None => Self { bytes, len: 0 },
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// Commands that change the connection itself. It is shared, so they would change it under everybody else.
fn refuse(name: &str, words: Words<'_>) -> Result<()> {
    let subcommand = Upper::of(words.get(1).unwrap_or_default());
    let instead = match name {
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE"
        | "MONITOR" | "SYNC" | "PSYNC" => "it needs a connection of its own, opened with a client library",
        "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" => {
            "use a script, or in Rust redis::pipe().atomic()"
        }
        "WAIT" | "WAITAOF" => {
            "it waits for what its own connection wrote, and would hold up every other caller"
        }
        "REPLCONF" => "it is for replicas",
        "SELECT" => "configure another alias with that database number",
        "AUTH" | "HELLO" | "RESET" | "QUIT" | "READONLY" | "READWRITE" | "ASKING" => {
            "the connection looks after itself"
        }
        "CLIENT" => match subcommand.as_str() {
            "SETNAME" => "set OPTIONS[\"CLIENT_NAME\"], or client_name in the URL",
            "REPLY" | "TRACKING" | "CACHING" | "NO-EVICT" | "NO-TOUCH" | "SETINFO" | "CAPA"
            | "IMPORT-SOURCE" => "it would change the connection for every other caller",
            _ => return Ok(()),
        },
        "SCRIPT" if subcommand.as_str() == "DEBUG" => "it would stop the connection for every other caller",
        _ => return Ok(()),
    };
    let name = if matches!(name, "CLIENT" | "SCRIPT") {
        format!("{name} {}", subcommand.as_str())
    } else {
        name.to_owned()
    };
    Err(Error::refused(format!("{name} cannot run on the shared connection: {instead}")))
}

/// Whether running the command twice has the effect and the reply of running it once. Unknown commands are not.
fn is_idempotent(name: &str, words: Words<'_>) -> bool {
    match name {
        "GET" | "MGET" | "STRLEN" | "GETRANGE" | "EXISTS" | "TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME"
        | "TYPE" | "KEYS" | "SCAN" | "HSCAN" | "SSCAN" | "ZSCAN" | "DBSIZE" | "RANDOMKEY" | "PING"
        | "ECHO" | "TIME" | "INFO" | "HGET" | "HMGET" | "HGETALL" | "HKEYS" | "HVALS" | "HLEN"
        | "HEXISTS" | "HSTRLEN" | "HRANDFIELD" | "LRANGE" | "LLEN" | "LINDEX" | "LPOS" | "SMEMBERS"
        | "SISMEMBER" | "SMISMEMBER" | "SCARD" | "SRANDMEMBER" | "SINTER" | "SUNION" | "SDIFF" | "ZSCORE"
        | "ZMSCORE" | "ZRANGE" | "ZRANGEBYSCORE" | "ZREVRANGE" | "ZRANK" | "ZREVRANK" | "ZCARD"
        | "ZCOUNT" | "XRANGE" | "XREVRANGE" | "XLEN" | "XPENDING" | "XINFO" | "GETBIT" | "BITCOUNT"
        | "BITPOS" | "OBJECT" | "DUMP" | "EVAL_RO" | "EVALSHA_RO" | "FCALL_RO" | "COMMAND" | "MSET"
        | "SETEX" | "PSETEX" => true,
        "SET" => !words
            .iter()
            .skip(3)
            .any(|arg| ["NX", "XX", "GET"].iter().any(|o| arg.eq_ignore_ascii_case(o.as_bytes()))),
        "CLIENT" => words.get(1).is_some_and(|sub| {
            ["ID", "LIST", "INFO", "GETNAME"].iter().any(|known| sub.eq_ignore_ascii_case(known.as_bytes()))
        }),
        "SCRIPT" => words
            .get(1)
            .is_some_and(|sub| sub.eq_ignore_ascii_case(b"LOAD") || sub.eq_ignore_ascii_case(b"EXISTS")),
        "CONFIG" => words.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"GET")),
        _ => false,
    }
}

/// Whether the server may sit on the command, and for how long.
fn blocks(name: &str, words: Words<'_>) -> Blocking {
    let seconds = |arg: Option<&[u8]>, unit: f64| {
        let limit = arg
            .and_then(|a| std::str::from_utf8(a).ok())
            .and_then(|a| a.parse::<f64>().ok())
            .map(|v| v * unit);
        Blocking::Yes(limit.filter(|&limit| limit > 0.0))
    };
    match name {
        "BLPOP" | "BRPOP" | "BRPOPLPUSH" | "BLMOVE" | "BZPOPMIN" | "BZPOPMAX" => {
            seconds(words.iter().last(), 1.0)
        }
        "BLMPOP" | "BZMPOP" => seconds(words.get(1), 1.0),
        "XREAD" | "XREADGROUP" => words
            .iter()
            .position(|arg| arg.eq_ignore_ascii_case(b"BLOCK"))
            .map_or(Blocking::No, |at| seconds(words.get(at + 1), 0.001)),
        _ => Blocking::No,
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Packet;
    use super::*;
    use redis::cmd;

    fn packet(command: &redis::Cmd) -> Result<Packet> {
        Packet::checked(command.get_packed_command(), [command], false)
    }

    #[test]
    fn only_commands_that_repeat_harmlessly_are_idempotent() {
        for (command, expected) in [
            (cmd("get").arg("k").clone(), true),
            (cmd("SET").arg("k").arg("NX").clone(), true),
            (cmd("SET").arg("k").arg("v").arg("PX").arg(5).clone(), true),
            (cmd("SET").arg("k").arg("v").arg("nx").clone(), false),
            (cmd("INCR").arg("k").clone(), false),
            (cmd("DEL").arg("k").clone(), false),
            (cmd("EVALSHA").arg("x").arg(0).clone(), false),
            (cmd("CLIENT").arg("ID").clone(), true),
            (cmd("CLIENT").arg("KILL").clone(), false),
        ] {
            assert_eq!(packet(&command).unwrap().idempotent, expected);
        }
    }

    #[test]
    fn commands_that_block_are_known_with_their_limit() {
        for (command, expected) in [
            (cmd("BLPOP").arg("k").arg(1.5).clone(), Blocking::Yes(Some(1.5))),
            (cmd("BLPOP").arg("k").arg(0).clone(), Blocking::Yes(None)),
            (
                cmd("XREAD").arg("BLOCK").arg(250).arg("STREAMS").arg("s").arg("$").clone(),
                Blocking::Yes(Some(0.25)),
            ),
            (cmd("XREAD").arg("STREAMS").arg("s").arg("0").clone(), Blocking::No),
            (cmd("BLMPOP").arg(2).arg(1).arg("k").arg("LEFT").clone(), Blocking::Yes(Some(2.0))),
        ] {
            assert_eq!(packet(&command).unwrap().blocking, expected);
        }
    }

    #[test]
    fn commands_that_would_change_the_shared_connection_are_refused() {
        for name in [
            "SUBSCRIBE",
            "multi",
            "Select",
            "QUIT",
            "CLIENT reply",
            "client TRACKING",
            "WAIT 1 0",
            "script debug",
        ] {
            let mut words = name.split(' ');
            let mut command = cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
            let error = packet(&command).unwrap_err();
            assert!(error.to_string().contains("shared connection"), "{error}");
        }
    }
}
