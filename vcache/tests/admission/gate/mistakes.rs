//! What is refused when a gate is built or asked.

use vcache::ErrorKind;
use vcache::admission::{Admission, Gate, Period, Quota, Scope, Settings, Stream, Throttle};
use vcache::prelude::*;

use super::{builder, scope};
use crate::{keys, patient};

#[vcache::test]
async fn what_cannot_be_admitted_is_told_and_nothing_is_written(conn: &mut Connection) {
    let mut settings = patient();
    settings.max_payload = 10;
    let gate = builder().settings(settings).owner("org").build().unwrap();
    let scope = scope();
    let (long, payload_entry, odd) = (
        Scope::new().with("org", 1).with("project", "x".repeat(513)),
        Scope::new().with("org", 1).with("project", 2).with("payload", 3),
        Scope::new().with("org", 1).with("project", 2).with("a b", 3),
    );
    let crowded = (0..40).fold(Scope::new(), |scope, at| scope.with(format!("e{at}"), at));
    let id = "x".repeat(600);
    let stored = Admission::new(&scope).payload(b"x");
    for (admission, text) in [
        (Admission::new(&scope).payload(&[0; 11]), "11 bytes: at most 10"),
        (Admission::new(&long).payload(b"x"), "513 bytes"),
        (Admission::new(&long), "too long"),
        (Admission::new(&payload_entry).payload(b"x"), "\"payload\""),
        (Admission::new(&odd).payload(b"x"), "\"a b\" is not a name"),
        (Admission::new(&crowded), "40 entries"),
        (stored.clone().dedupe(""), "dedupe id is empty"),
        (stored.clone().dedupe(&id), "dedupe id"),
        (stored.clone().cost(-1), "cost is -1"),
    ] {
        let error = gate.admit(conn, admission).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains(text), "{error}");
    }
    let rules_only =
        Gate::builder().owner("org").throttle(Throttle::new("org", "1/s").unwrap()).build().unwrap();
    assert!(rules_only.admit(conn, stored).await.unwrap_err().to_string().contains("no stream"));
    assert!(keys(conn).await.is_empty());
    assert!(
        gate.admit(conn, Admission::new(&payload_entry)).await.unwrap().allowed,
        "nothing is written of it"
    );
}

#[test]
fn a_gate_that_makes_no_sense_is_told() {
    let throttle = || Throttle::new("org", "1/s").unwrap();
    let ignored = || {
        let mut settings = Settings::default();
        (settings.prefix, settings.deny_cache) = ("shop".into(), false);
        settings
    };
    let many = (0..65).fold(Gate::builder().owner("org"), |gate, at| {
        gate.throttle(Throttle::new(&format!("r{at}"), "1/s").unwrap())
    });
    for (builder, text) in [
        (Gate::builder().owner("org"), "decide nothing"),
        (Gate::builder().owner("org").throttle(throttle()).throttle(throttle()), "two rules named 'org'"),
        (
            Gate::builder()
                .owner("org")
                .throttle(throttle())
                .quota(Quota::new("org", 1, Period::Day).unwrap()),
            "two rules named 'org'",
        ),
        (Gate::builder().owner("org").throttle(throttle()).shards(0), "shards is 0"),
        (Gate::builder().owner("org").throttle(throttle()).prefix("a b"), "\"a b\""),
        (many, "65 rules"),
        (
            Gate::builder().quota(Quota::new("events", 1, Period::Day).unwrap().key(["org"]).unwrap()),
            "the gate has a quota, 'events', and no owner",
        ),
        (Gate::builder().throttle(throttle()).shards(2), "the gate has 2 shards, and no owner"),
        (Gate::builder().throttle(throttle()).owner("a b"), "\"a b\" is not a name"),
        (
            Gate::builder().throttle(Throttle::new("ip", "1/s").unwrap()).owner("org").shards(2),
            "throttle 'ip' is not keyed by the owner \"org\", and the gate has 2 shards",
        ),
        (
            Gate::builder().throttle(throttle().settings(ignored()).unwrap()),
            "throttle 'org' has settings that its gate would ignore (prefix, deny_cache): give them to the gate",
        ),
        (
            Gate::builder()
                .owner("org")
                .quota(Quota::new("q", 1, Period::Day).unwrap().settings(ignored()).unwrap()),
            "quota 'q' has settings that its gate would ignore",
        ),
        (
            Gate::builder().stream(Stream::new("s").unwrap().settings(ignored()).unwrap()),
            "stream 's' has settings that its gate would ignore",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains(text), "{error}");
    }
}
