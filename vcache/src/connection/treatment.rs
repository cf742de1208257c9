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
    let name = words.get(0).unwrap_or_default();
    let kind = packed(name)
        .and_then(|name| KNOWN.binary_search_by_key(&name, |known| known.0).ok())
        .map_or(Kind::Plain, |at| KNOWN[at].1);
    let (idempotent, blocking) = match kind {
        Kind::Plain => (false, Blocking::No),
        Kind::Idempotent => (true, Blocking::No),
        Kind::Refused(instead) => return Err(refused(name, None, instead)),
        Kind::Set => (!words.iter().skip(3).any(|word| is_one_of(word, &["NX", "XX", "GET"])), Blocking::No),
        Kind::Config => (words.get(1).is_some_and(|word| is_one_of(word, &["GET"])), Blocking::No),
        Kind::Client => (client(name, words)?, Blocking::No),
        Kind::Script => (script(name, words)?, Blocking::No),
        Kind::BlocksByLast => (false, blocks(words.iter().last(), 1.0)),
        Kind::BlocksByFirst => (false, blocks(words.get(1), 1.0)),
        Kind::BlocksByOption => {
            let option = words.iter().position(|word| is_one_of(word, &["BLOCK"]));
            (false, option.map_or(Blocking::No, |at| blocks(words.get(at + 1), 0.001)))
        }
    };
    Ok(Treatment { idempotent, blocking })
}

/// What is known of a command. Of one that is not in the table nothing is: it is sent, and not sent twice.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    /// Running it twice has the effect and the reply of running it once.
    Idempotent,
    /// It would change the connection itself, which is shared, under everybody else. What to do instead.
    Refused(&'static str),
    Set,
    Config,
    Client,
    Script,
    /// The server may sit on it, for as many seconds as its last argument says.
    BlocksByLast,
    /// As its first one says.
    BlocksByFirst,
    /// As many milliseconds as stand behind the option `BLOCK`.
    BlocksByOption,
}

const OWN_CONNECTION: &str = "it needs a connection of its own, opened with a client library";
const SCRIPT_OR_PIPELINE: &str = "use a script, or in Rust redis::pipe().atomic()";
const LOOKS_AFTER_ITSELF: &str = "the connection looks after itself";
const HOLDS_UP: &str = "it waits for what its own connection wrote, and would hold up every other caller";
const CHANGES: &str = "it would change the connection for every other caller";

const IDEMPOTENT: [&str; 63] = [
    "GET",
    "MGET",
    "STRLEN",
    "GETRANGE",
    "EXISTS",
    "TTL",
    "PTTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "TYPE",
    "KEYS",
    "SCAN",
    "HSCAN",
    "SSCAN",
    "ZSCAN",
    "DBSIZE",
    "RANDOMKEY",
    "PING",
    "ECHO",
    "TIME",
    "INFO",
    "HGET",
    "HMGET",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "HLEN",
    "HEXISTS",
    "HSTRLEN",
    "HRANDFIELD",
    "LRANGE",
    "LLEN",
    "LINDEX",
    "LPOS",
    "SMEMBERS",
    "SISMEMBER",
    "SMISMEMBER",
    "SCARD",
    "SRANDMEMBER",
    "SINTER",
    "SUNION",
    "SDIFF",
    "ZSCORE",
    "ZMSCORE",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREVRANGE",
    "ZRANK",
    "ZREVRANK",
    "ZCARD",
    "ZCOUNT",
    "XRANGE",
    "XREVRANGE",
    "XLEN",
    "XPENDING",
    "XINFO",
    "GETBIT",
    "BITCOUNT",
    "BITPOS",
    "OBJECT",
    "DUMP",
    "EVAL_RO",
    "EVALSHA_RO",
];

const OTHERS: [(&str, Kind); 44] = [
    ("FCALL_RO", Kind::Idempotent),
    ("COMMAND", Kind::Idempotent),
    ("MSET", Kind::Idempotent),
    ("SETEX", Kind::Idempotent),
    ("PSETEX", Kind::Idempotent),
    ("SET", Kind::Set),
    ("CONFIG", Kind::Config),
    ("CLIENT", Kind::Client),
    ("SCRIPT", Kind::Script),
    ("BLPOP", Kind::BlocksByLast),
    ("BRPOP", Kind::BlocksByLast),
    ("BRPOPLPUSH", Kind::BlocksByLast),
    ("BLMOVE", Kind::BlocksByLast),
    ("BZPOPMIN", Kind::BlocksByLast),
    ("BZPOPMAX", Kind::BlocksByLast),
    ("BLMPOP", Kind::BlocksByFirst),
    ("BZMPOP", Kind::BlocksByFirst),
    ("XREAD", Kind::BlocksByOption),
    ("XREADGROUP", Kind::BlocksByOption),
    ("SUBSCRIBE", Kind::Refused(OWN_CONNECTION)),
    ("PSUBSCRIBE", Kind::Refused(OWN_CONNECTION)),
    ("SSUBSCRIBE", Kind::Refused(OWN_CONNECTION)),
    ("UNSUBSCRIBE", Kind::Refused(OWN_CONNECTION)),
    ("PUNSUBSCRIBE", Kind::Refused(OWN_CONNECTION)),
    ("SUNSUBSCRIBE", Kind::Refused(OWN_CONNECTION)),
    ("MONITOR", Kind::Refused(OWN_CONNECTION)),
    ("SYNC", Kind::Refused(OWN_CONNECTION)),
    ("PSYNC", Kind::Refused(OWN_CONNECTION)),
    ("MULTI", Kind::Refused(SCRIPT_OR_PIPELINE)),
    ("EXEC", Kind::Refused(SCRIPT_OR_PIPELINE)),
    ("DISCARD", Kind::Refused(SCRIPT_OR_PIPELINE)),
    ("WATCH", Kind::Refused(SCRIPT_OR_PIPELINE)),
    ("UNWATCH", Kind::Refused(SCRIPT_OR_PIPELINE)),
    ("WAIT", Kind::Refused(HOLDS_UP)),
    ("WAITAOF", Kind::Refused(HOLDS_UP)),
    ("REPLCONF", Kind::Refused("it is for replicas")),
    ("SELECT", Kind::Refused("configure another alias with that database number")),
    ("AUTH", Kind::Refused(LOOKS_AFTER_ITSELF)),
    ("HELLO", Kind::Refused(LOOKS_AFTER_ITSELF)),
    ("RESET", Kind::Refused(LOOKS_AFTER_ITSELF)),
    ("QUIT", Kind::Refused(LOOKS_AFTER_ITSELF)),
    ("READONLY", Kind::Refused(LOOKS_AFTER_ITSELF)),
    ("READWRITE", Kind::Refused(LOOKS_AFTER_ITSELF)),
    ("ASKING", Kind::Refused(LOOKS_AFTER_ITSELF)),
];

const COUNT: usize = IDEMPOTENT.len() + OTHERS.len();
/// All of them, sorted by their names as numbers.
static KNOWN: [(u128, Kind); COUNT] = known();

const fn known() -> [(u128, Kind); COUNT] {
    let mut known = [(0, Kind::Plain); COUNT];
    let mut count = 0;
    while count < COUNT {
        let (name, kind) = if count < IDEMPOTENT.len() {
            (IDEMPOTENT[count], Kind::Idempotent)
        } else {
            OTHERS[count - IDEMPOTENT.len()]
        };
        let entry = match packed(name.as_bytes()) {
            Some(number) => (number, kind),
            None => panic!("a name of more than 16 letters"),
        };
        let mut at = count;
        while at > 0 && known[at - 1].0 > entry.0 {
            known[at] = known[at - 1];
            at -= 1;
        }
        known[at] = entry;
        count += 1;
    }
    known
}

/// A name in upper case as one number, which compares faster than text; `None` for one longer than all that we know.
const fn packed(name: &[u8]) -> Option<u128> {
    let mut bytes = [0; 16];
    if name.len() > bytes.len() {
        return None;
    }
    let mut at = 0;
    while at < name.len() {
        bytes[at] = name[at].to_ascii_uppercase();
        at += 1;
    }
    Some(u128::from_be_bytes(bytes))
}

fn client(name: &[u8], words: Words<'_>) -> Result<bool> {
    let subcommand = words.get(1).unwrap_or_default();
    if is_one_of(subcommand, &["SETNAME"]) {
        let instead = "set OPTIONS[\"CLIENT_NAME\"], or client_name in the URL";
        return Err(refused(name, Some(subcommand), instead));
    }
    let changes =
        ["REPLY", "TRACKING", "CACHING", "NO-EVICT", "NO-TOUCH", "SETINFO", "CAPA", "IMPORT-SOURCE"];
    if is_one_of(subcommand, &changes) {
        return Err(refused(name, Some(subcommand), CHANGES));
    }
    Ok(is_one_of(subcommand, &["ID", "LIST", "INFO", "GETNAME"]))
}

fn script(name: &[u8], words: Words<'_>) -> Result<bool> {
    let subcommand = words.get(1).unwrap_or_default();
    if is_one_of(subcommand, &["DEBUG"]) {
        let instead = "it would stop the connection for every other caller";
        return Err(refused(name, Some(subcommand), instead));
    }
    Ok(is_one_of(subcommand, &["LOAD", "EXISTS"]))
}

fn blocks(limit: Option<&[u8]>, unit: f64) -> Blocking {
    let limit = limit
        .and_then(|limit| std::str::from_utf8(limit).ok())
        .and_then(|limit| limit.parse::<f64>().ok())
        .map(|limit| limit * unit);
    Blocking::Yes(limit.filter(|&limit| limit > 0.0))
}

fn is_one_of(word: &[u8], known: &[&str]) -> bool {
    known.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

#[cold]
fn refused(name: &[u8], subcommand: Option<&[u8]>, instead: &str) -> Error {
    let mut shown = String::from_utf8_lossy(name).to_ascii_uppercase();
    if let Some(subcommand) = subcommand {
        shown.push(' ');
        shown += &String::from_utf8_lossy(subcommand).to_ascii_uppercase();
    }
    Error::refused(format!("{shown} cannot run on the shared connection: {instead}"))
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
