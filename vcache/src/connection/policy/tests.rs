//! The table against itself, and against a server's own.

use redis::cmd;

use super::table::COMMANDS;
use super::{Policy, Row, Taken};
use crate::connection::command::Packet;
use crate::connection::policy::Blocking;
use crate::error::{ErrorKind, Result};

fn packet(command: &str) -> Result<Packet> {
    let mut words = command.split(' ');
    let mut command = cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    Packet::received(command.get_packed_command(), false)
}

fn tables() -> Vec<(String, &'static [Row])> {
    let subcommands = COMMANDS.iter().filter_map(|(name, policy)| match policy.taken {
        Taken::By(rows, _) => Some((format!("{name} "), rows)),
        _ => None,
    });
    std::iter::once((String::new(), COMMANDS)).chain(subcommands).collect()
}

/// All rows, those of subcommands under both names.
fn rows() -> Vec<(String, &'static Policy)> {
    let rows = tables().into_iter().flat_map(|(prefix, rows)| {
        rows.iter().map(move |(name, policy)| (format!("{prefix}{name}"), policy))
    });
    rows.collect()
}

#[test]
fn the_table_is_sorted_and_names_each_command_once() {
    for (prefix, rows) in tables() {
        for pair in rows.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{prefix}{} stands before {}", pair[0].0, pair[1].0);
        }
        for (name, _) in rows {
            assert_eq!(*name, name.to_ascii_uppercase());
        }
    }
}

#[test]
fn what_changes_the_shared_connection_is_refused_in_any_case() {
    let refused = rows().into_iter().filter(|(_, policy)| matches!(policy.taken, Taken::No(_)));
    let refused: Vec<String> = refused.map(|(name, _)| name).collect();
    for name in [
        "SELECT",
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "SSUBSCRIBE",
        "UNSUBSCRIBE",
        "MONITOR",
        "RESET",
        "QUIT",
        "POST",
        "HOST:",
        "HELLO",
        "AUTH",
        "SYNC",
        "PSYNC",
        "WAIT",
        "WAITAOF",
        "DISCARD",
        "WATCH",
        "UNWATCH",
        "READONLY",
        "READWRITE",
        "ASKING",
        "CLIENT REPLY",
        "CLIENT TRACKING",
        "CLIENT CACHING",
        "CLIENT SETNAME",
        "SCRIPT DEBUG",
    ] {
        assert!(refused.iter().any(|refused| refused == name), "{name}");
    }
    for name in
        refused.iter().map(String::as_str).chain(["MULTI", "EXEC", "CLIENT", "CLIENT NOSUCH", "CLIENT re"])
    {
        for form in
            [name.to_owned(), name.to_ascii_lowercase(), format!("{name} ON"), format!("{name} 1 2 3")]
        {
            let error = packet(&form).unwrap_err();
            let told = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert!(
                told.starts_with(&name.to_ascii_uppercase()) && told.contains("shared connection: "),
                "{form}: {told}"
            );
        }
    }
}

#[test]
fn what_is_said_of_a_refusal_holds_no_argument() {
    for command in ["AUTH s3cret", "HELLO 3 AUTH user s3cret", "CLIENT s3cret", "CLIENT SETNAME s3cret"] {
        assert!(!packet(command).unwrap_err().to_string().to_lowercase().contains("s3cret"), "{command}");
    }
}

#[test]
fn only_what_is_listed_as_safe_is_repeated() {
    for (command, expected) in [
        ("get k", true),
        ("SET k NX", true),
        ("SET k v", true),
        ("SET k v PX 5", true),
        ("set k v ex 5", true),
        ("SET k v EXAT 5", true),
        ("SET k v pxat 5", true),
        ("SET k v KEEPTTL", true),
        ("SET k v nx", false),
        ("SET k v PX 5 XX", false),
        ("SET k v EX 5 GET", false),
        ("SET k v IFEQ old", false),
        ("SET k v EX 5 IFEQ EX", false),
        ("SET k v EX IFEQ IFEQ old", false),
        ("SET k v OFTOMORROW", false),
        ("SET k v EX", false),
        ("SETEX k 5 v", true),
        ("SETNX k v", false),
        ("MSET a 1 b 2", true),
        ("MSETEX 1 k v", false),
        ("MSETNX a 1", false),
        ("GETEX k EX 5", false),
        ("GETDEL k", false),
        ("INCR k", false),
        ("EXPIRE k 5", false),
        ("DEL k", false),
        ("UNLINK k", false),
        ("DELIFEQ k v", false),
        ("HSETEX h EX 5 FIELDS 1 f v", false),
        ("HGETEX h EX 5 FIELDS 1 f", false),
        ("HPEXPIRE h 5 FIELDS 1 f", false),
        ("EVALSHA x 0", false),
        ("EVALSHA_RO x 0", true),
        ("FCALL f 0", false),
        ("XREAD STREAMS s 0", true),
        ("XREAD BLOCK 5 STREAMS s 0", false),
        ("XREADGROUP GROUP g c STREAMS s >", false),
        ("CLIENT ID", true),
        ("CLIENT KILL x", false),
        ("CONFIG GET maxmemory", true),
        ("CONFIG SET maxmemory 0", false),
        ("SCRIPT EXISTS x", true),
        ("SCRIPT FLUSH", false),
        ("OBJECT ENCODING k", true),
        ("NOSUCHCOMMAND", false),
    ] {
        assert_eq!(packet(command).unwrap().repeatable, expected, "{command}");
    }
}

#[test]
fn commands_that_block_are_known_with_their_limit() {
    let no = Blocking::No;
    let forever = Blocking::Yes(None);
    let seconds = |seconds| Blocking::Yes(Some(seconds));
    for (command, expected) in [
        ("BLPOP k 1.5", seconds(1.5)),
        ("brpop a b 0", forever),
        ("BLMOVE a b LEFT RIGHT 2", seconds(2.0)),
        ("BLMPOP 2 1 k LEFT", seconds(2.0)),
        ("BZMPOP 0 1 k MIN", forever),
        ("XREAD BLOCK 250 STREAMS s $", seconds(0.25)),
        ("xread count 5 block 0 streams s $", forever),
        ("XREAD STREAMS s 0", no),
        ("XREAD STREAMS block 0", no),
        ("XREAD COUNT 2 STREAMS block 0-0", no),
        ("XREAD BLOCK 250 STREAMS block 0", seconds(0.25)),
        ("XREADGROUP GROUP g c STREAMS s >", no),
        ("XREADGROUP GROUP block 250 STREAMS s >", no),
        ("XREADGROUP GROUP g block STREAMS s >", no),
        ("XREADGROUP GROUP g c COUNT 1 NOACK STREAMS block >", no),
        ("XREADGROUP GROUP block block BLOCK 100 STREAMS block >", seconds(0.1)),
        ("XREADGROUP BLOCK 100 BLOCK 300 GROUP g c STREAMS s >", seconds(0.3)),
        ("XREADGROUP OFTOMORROW 5 BLOCK 100 GROUP g c STREAMS s >", seconds(0.1)),
        // Those that the server does not take have the usual deadline.
        ("BLPOP k -1", seconds(0.0)),
        ("BLPOP k soon", seconds(0.0)),
        ("BLPOP k nan", seconds(0.0)),
        ("BLPOP", seconds(0.0)),
        ("BLMPOP", seconds(0.0)),
        ("XREAD BLOCK", seconds(0.0)),
    ] {
        assert_eq!(packet(command).unwrap().blocking, expected, "{command}");
    }
}

#[test]
fn keys_that_cannot_be_told_are_unknown() {
    for command in [
        "NOSUCHCOMMAND k",
        "MIGRATE h 1 k 0 5",
        "EVAL s",
        "EVAL s x k",
        "EVAL s 2 k",
        "EVAL s -1 k",
        "GET",
        "BLPOP k",
        "MSETEX 2 a 1 b",
        "EVAL s 18446744073709551615 k",
        "MSETEX 18446744073709551615 k v",
        "XREAD STREAMS s",
        "XREAD",
        "XREAD STREAMS",
        "XREAD COUNT 5",
        "ZDIFFSTORE d 2 k",
        "ZDIFFSTORE",
        "OBJECT ENCODING",
        "SORT",
    ] {
        assert_eq!(packet(command).unwrap().keys(), None, "{command}");
    }
}

/// Questions to a server.
#[cfg(feature = "testing")]
mod of_a_server {
    use std::collections::HashMap;

    use redis::Value;

    use super::*;
    use crate::block_on;
    use crate::connection::policy::Blocks;
    use crate::connection::policy::keys::Keys;
    use crate::testing::Server;
    use crate::{Connection, Error};

    /// Each command that has keys, in all forms in which they stand elsewhere.
    const SAMPLES: &str = include_str!("samples.txt");

    fn ask(conn: &Connection, words: &[&str]) -> Result<Value> {
        let mut command = cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        block_on(conn.send_command(&command)?).and_then(|reply| conn.check(reply))
    }

    fn text(value: &Value) -> String {
        redis::from_redis_value_ref(value).unwrap()
    }

    fn items(value: Value) -> Vec<Value> {
        match value {
            Value::Array(items) | Value::Set(items) => items,
            other => panic!("{other:?}"),
        }
    }

    /// The flags of each command, subcommands under both names.
    fn flags(conn: &Connection) -> HashMap<String, Vec<String>> {
        fn note(command: Value, flags: &mut HashMap<String, Vec<String>>) {
            let mut fields = items(command);
            if let Some(subcommands) = (fields.len() > 9).then(|| fields.swap_remove(9)) {
                items(subcommands).into_iter().for_each(|subcommand| note(subcommand, flags));
            }
            let words = items(fields.swap_remove(2)).iter().map(text).collect();
            flags.insert(text(&fields[0]).to_uppercase().replace('|', " "), words);
        }
        let mut found = HashMap::new();
        items(ask(conn, &["COMMAND"]).unwrap()).into_iter().for_each(|command| note(command, &mut found));
        found
    }

    fn is_valkey_9(conn: &Connection) -> bool {
        text(&ask(conn, &["INFO", "server"]).unwrap()).contains("valkey_version:9.")
    }

    #[test]
    fn what_reads_and_what_blocks_is_what_the_server_says() {
        let server = Server::start();
        let conn = server.connection();
        let flags = flags(&conn);
        let (mut asked, mut unknown) = (0, Vec::new());
        for (name, policy) in rows() {
            let Some(flags) = flags.get(&name) else {
                unknown.push(name);
                continue;
            };
            let is = |flag| flags.iter().any(|word| word == flag);
            assert_eq!(policy.reads, is("readonly"), "{name}");
            let refused = matches!(policy.taken, Taken::No(_));
            assert!(!matches!(policy.blocks, Blocks::Never) || refused || !is("blocking"), "{name}");
            assert!(is("blocking") || matches!(policy.blocks, Blocks::Never), "{name}");
            asked += 1;
        }
        assert!(asked > 250 && (unknown.len() < 3 || !is_valkey_9(&conn)), "{unknown:?}");
    }

    #[test]
    fn no_command_that_the_server_has_is_missing() {
        let server = Server::start();
        let conn = server.connection();
        let whole = is_valkey_9(&conn);
        let known: Vec<String> = rows().into_iter().map(|(name, _)| name).collect();
        for (name, flags) in flags(&conn) {
            // Another server may have commands that are not known here, but none that wait or change the connection.
            let matters = ["blocking", "pubsub", "no_auth", "no_multi"]
                .iter()
                .any(|flag| flags.iter().any(|f| f == flag));
            if !name.contains(' ') && (whole || matters) {
                assert!(known.contains(&name), "{name} {flags:?}");
            }
        }
    }

    #[test]
    fn keys_are_where_the_server_finds_them() {
        let server = Server::start();
        let conn = server.connection();
        let flags = flags(&conn);
        let mut skipped = Vec::new();
        for sample in SAMPLES.lines().filter(|line| !line.is_empty()) {
            let words: Vec<&str> = sample.split(' ').collect();
            if !flags.contains_key(&words[0].to_uppercase()) {
                skipped.push(words[0]);
                continue;
            }
            let theirs = match ask(&conn, &[&["COMMAND", "GETKEYS"], &words[..]].concat()) {
                Ok(keys) => items(keys).iter().map(text).collect(),
                Err(error) if error.to_string().contains("no key arguments") => Vec::new(),
                Err(error) => panic!("{sample}: {error}"),
            };
            let packet = packet(sample).unwrap();
            let ours: Vec<&str> =
                packet.keys().unwrap().into_iter().map(|key| std::str::from_utf8(key).unwrap()).collect();
            assert_eq!(ours, theirs, "{sample}");
        }
        assert!(skipped.len() < 8 || !is_valkey_9(&conn), "{skipped:?}");
    }

    #[test]
    fn every_command_that_has_keys_is_compared() {
        for (name, policy) in rows() {
            let has_keys = !matches!(policy.keys, Keys::None | Keys::Unknown) && name != "SPUBLISH";
            let sampled = SAMPLES
                .lines()
                .any(|sample| sample.strip_prefix(&name).is_some_and(|rest| rest.starts_with(' ')));
            assert!(!has_keys || sampled, "{name}");
        }
    }

    #[test]
    fn what_is_refused_reaches_no_server() {
        let server = Server::start();
        let conn = server.connection();
        let count = || {
            text(&ask(&conn, &["INFO", "stats"]).unwrap())
                .lines()
                .find_map(|line| line.strip_prefix("total_commands_processed:")?.trim().parse::<u64>().ok())
        };
        let before = count().unwrap();
        let mut pipeline = Packet::command("GET", 1);
        pipeline.arg(b"k").then("select", 1).arg(b"3").then("GET", 1).arg(b"k");
        let error = block_on(conn.send(pipeline)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(
            error.to_string().contains("SELECT") && error.to_string().contains("another alias"),
            "{error}"
        );
        let exchanged = block_on(conn.exchange(Packet::command("QUIT", 0), None));
        assert_eq!(exchanged.map_err(|error| error.kind()), Err(ErrorKind::Value));
        assert_eq!(count().unwrap(), before + 1, "the question before");
    }

    #[test]
    fn a_whole_transaction_is_taken_in_every_way() {
        let server = Server::start();
        let conn = server.connection();
        let mut packet = Packet::pipeline();
        packet.then("multi", 0).then("SET", 2).arg(b"k").arg(b"v").then("GET", 1).arg(b"k").then("EXEC", 0);
        let value = || Value::BulkString(b"v".to_vec());
        let queued = || Value::SimpleString("QUEUED".into());
        let replies =
            Value::Array(vec![Value::Okay, queued(), queued(), Value::Array(vec![Value::Okay, value()])]);
        assert_eq!(block_on(conn.send(packet)).unwrap(), replies);
        let mut by_hand = redis::pipe();
        by_hand.cmd("MULTI").cmd("GET").arg("k").cmd("EXEC");
        let found: (String, String, Vec<String>) =
            block_on(by_hand.query_async(&mut conn.clone())).map_err(Error::from).unwrap();
        assert_eq!(found, ("OK".into(), "QUEUED".into(), vec!["v".into()]));
        let found: (String,) = block_on(redis::pipe().atomic().get("k").query_async(&mut conn.clone()))
            .map_err(Error::from)
            .unwrap();
        assert_eq!(found.0, "v");
    }
}
