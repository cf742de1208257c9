//! Packets: their bytes, what is refused, what may be repeated, and what they tell of themselves.

use super::*;
use redis::cmd;

#[test]
fn packing_is_what_redis_rs_packs() {
    let mut ours = Packet::command("SET", 4);
    ours.arg(b"key");
    ours.arg_with(|out| {
        out.extend_from_slice(&[7; 300]);
        Ok::<_, ()>(())
    })
    .unwrap();
    ours.arg(b"PX").int(-1_500);
    let theirs = cmd("SET").arg("key").arg(&[7_u8; 300][..]).arg("PX").arg(-1_500).get_packed_command();
    assert_eq!(ours.bytes, theirs);
    ours.then("GET", 1).arg(b"");
    assert_eq!(ours.replies(), 2);
    assert!(ours.bytes.ends_with(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"));
}

#[test]
fn a_packet_that_would_shift_the_replies_of_others_is_refused() {
    let mut good = Packet::command("GET", 1);
    assert!(good.check().is_err(), "an argument is missing");
    good.arg(b"k");
    assert!(good.check().is_ok());
    good.arg(b"one too many");
    assert!(good.check().is_err());
    assert!(Packet::pipeline().check().is_err(), "nothing at all");
    let mut uneven = Packet::command("GET", 2);
    uneven.arg(b"k").then("GET", 1).arg(b"k");
    assert!(uneven.check().is_err(), "too few in the first");
}

#[test]
fn a_packet_with_half_an_argument_is_refused() {
    let mut failed = Packet::command("SET", 2);
    let _ = failed.arg(b"k").arg_with(|out| {
        out.extend_from_slice(b"half");
        Err(())
    });
    assert!(failed.check().is_err());
    let mut panicked = Packet::command("SET", 2);
    panicked.arg(b"k");
    let write = || panicked.arg_with(|_| -> Result<(), ()> { panic!("on purpose") }).is_ok();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err());
    assert!(panicked.check().is_err());
}

#[test]
fn arguments_that_were_encoded_before_are_the_same() {
    let mut at_once = Packet::command("X", 3);
    at_once.int(5).arg(b"text").int(0);
    let mut before = Packet::pipeline();
    let encoded = Packet::encode(|packet| packet.arg(b"X").int(5).arg(b"text").int(0));
    before.then_encoded("X", 3).encoded_args(&encoded, 4);
    assert_eq!((&before.bytes, before.replies), (&at_once.bytes, 1));
    assert!(before.check().is_ok());
    before.encoded_args(&Packet::encode(|packet| packet.int(1)), 1);
    assert!(before.check().is_err(), "one too many");
}

/// The same commands in a packet that is built here, and in one that another library encoded.
fn both_ways(commands: &[&str]) -> [Result<Packet>; 2] {
    let mut built = Packet::pipeline();
    let mut piped = redis::pipe();
    for command in commands {
        let mut words = command.split(' ');
        let name = words.next().unwrap();
        built.then(name, words.clone().count());
        piped.cmd(name);
        for word in words {
            built.arg(word.as_bytes());
            piped.arg(word);
        }
    }
    let received = Packet::received(piped.get_packed_pipeline(), false);
    let built = built.check().map(|()| built);
    assert!(received.is_err() || built.as_ref().unwrap().bytes == received.as_ref().unwrap().bytes);
    [built, received]
}

#[test]
fn what_is_refused_is_refused_anywhere_in_a_pipeline() {
    for refused in
        ["SELECT 3", "client reply OFF", "Watch k", "SCRIPT debug YES", "BLPOP k 1", "discard", "GE\0T k"]
    {
        for commands in [
            &[refused, "GET a"][..],
            &["GET a", refused],
            &["GET a", refused, "GET b"],
            &["MULTI", "GET a", refused, "EXEC"],
            &["MULTI", "GET a", "EXEC", refused],
        ] {
            for packet in both_ways(commands) {
                assert_eq!(packet.unwrap_err().kind(), crate::ErrorKind::Value, "{commands:?}");
            }
        }
    }
}

#[test]
fn the_first_refusal_is_told() {
    for packet in both_ways(&["GET a", "QUIT", "SELECT 1", "EXEC"]) {
        assert!(packet.unwrap_err().to_string().starts_with("QUIT "));
    }
}

#[test]
fn only_whole_transactions_are_taken() {
    for commands in [
        &["MULTI"][..],
        &["EXEC"],
        &["MULTI", "GET a"],
        &["GET a", "EXEC"],
        &["EXEC", "MULTI"],
        &["MULTI", "MULTI", "EXEC"],
        &["MULTI", "MULTI", "EXEC", "EXEC"],
        &["MULTI", "EXEC", "EXEC"],
        &["MULTI", "EXEC", "multi"],
    ] {
        for packet in both_ways(commands) {
            assert!(packet.unwrap_err().to_string().contains("MULTI") || commands.contains(&"EXEC"));
        }
    }
    for commands in
        [&["multi", "GET a", "Exec"][..], &["GET a", "MULTI", "EXEC", "MULTI", "GET b", "EXEC", "GET c"]]
    {
        for packet in both_ways(commands) {
            let packet = packet.unwrap();
            assert_eq!((packet.replies(), packet.repeatable), (commands.len(), false), "{commands:?}");
        }
    }
}

#[test]
fn a_pipeline_is_repeated_if_all_of_it_may_be() {
    for (commands, expected) in [
        (&["GET a", "SET a 1 PX 5", "MGET a b"][..], true),
        (&["GET a", "INCR a"], false),
        (&["INCR a", "GET a"], false),
        (&["GET a", "SET a 1 IFEQ 2", "GET a"], false),
    ] {
        for packet in both_ways(commands) {
            assert_eq!(packet.unwrap().repeatable, expected, "{commands:?}");
        }
    }
}

#[test]
fn a_callers_promise_stands_for_what_is_appended_later_too() {
    for (promise, name) in [(true, "UNLINK"), (false, "GET")] {
        let mut packet = Packet::command(name, 1).repeatable(promise);
        packet.arg(b"k").then(name, 1).arg(b"k").then("SET", 3).arg(b"k").arg(b"v").arg(b"NX");
        assert!(packet.check().is_ok());
        assert_eq!(packet.repeatable, promise);
    }
    let mut late = Packet::command("UNLINK", 1);
    late.arg(b"k");
    assert!(late.repeatable(true).repeatable);
}

#[test]
fn a_promise_made_elsewhere_does_not_stand_against_the_arguments() {
    let received =
        |command: &redis::Cmd| Packet::received(command.get_packed_command(), true).unwrap().repeatable;
    assert!(received(cmd("EVALSHA").arg("x").arg(0)) && received(cmd("UNLINK").arg("k")));
    assert!(received(cmd("MODULE.COMMAND").arg("k")));
    assert!(!received(cmd("SET").arg("k").arg("v").arg("IFEQ").arg("old")));
    assert!(!received(cmd("CONFIG").arg("RESETSTAT")) && !received(cmd("SCRIPT").arg("FLUSH")));
}

#[test]
fn the_connections_own_packet_may_say_what_callers_may_not() {
    let mut packet = Packet::unchecked();
    packet.then("HELLO", 1).arg(b"3").then("SELECT", 1).int(2);
    packet.then("CLIENT", 3).arg(b"SETINFO").arg(b"LIB-NAME").arg(b"vcache");
    assert!(packet.check().is_ok() && !packet.repeatable);
    packet.then("GET", 1);
    assert!(packet.check().is_err(), "its framing is looked at all the same");
}

#[test]
fn keys_and_reads_are_those_of_all_commands() {
    for (commands, keys, reads) in [
        (&["GET a", "MGET b c"][..], Some(&["a", "b", "c"][..]), true),
        (&["SET a v", "GET b"], Some(&["a", "b"]), false),
        (&["MULTI", "GET a", "EXEC"], Some(&["a"]), false),
        (&["PING"], Some(&[]), false),
        (&["GET a", "OBJECT ENCODING b"], Some(&["a", "b"]), true),
        (&["GET a", "NOSUCHCOMMAND b"], None, false),
    ] {
        for packet in both_ways(commands) {
            let packet = packet.unwrap();
            let expected: Option<Vec<&[u8]>> =
                keys.map(|keys| keys.iter().map(|key| key.as_bytes()).collect());
            assert_eq!((packet.keys(), packet.only_reads()), (expected, reads), "{commands:?}");
        }
    }
}

#[test]
fn numbers_are_written_as_digits() {
    for value in [0, 9, 10, -1, i64::MAX, i64::MIN] {
        let mut out = [0; 20];
        let start = format_int(value, &mut out);
        assert_eq!(std::str::from_utf8(&out[start..]).unwrap(), value.to_string());
    }
}
