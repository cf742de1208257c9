//! Rules and a stream together.

use std::collections::HashSet;

use vcache::ErrorKind;
use vcache::admission::{
    Admission, Event, Full, Gate, GateBuilder, Mode, Period, Quota, RuleKind, Scope, Settings, Stream,
    Throttle,
};
use vcache::prelude::*;
use vcache::redis::cmd;
use vcache::testing::Server;

use crate::{entries, everything, keys, patient, refused_by, scripts_run};

fn scope() -> Scope<'static> {
    Scope::new().with("org", 1).with("project", "back end")
}

/// Two throttles, a quota and a stream, of which each can be the one that refuses.
fn builder() -> GateBuilder {
    let mut settings = patient();
    settings.deny_cache = false;
    Gate::builder()
        .settings(settings)
        .owner("org")
        .throttle(Throttle::new("org", "10/d").unwrap())
        .throttle(Throttle::new("project", "8/h").unwrap().key(["org", "project"]).unwrap())
        .quota(Quota::new("events", 6, Period::Month).unwrap())
        .stream(Stream::new("incoming").unwrap().maxlen(4))
}

#[vcache::test]
async fn an_id_counts_for_its_owner_and_in_its_stream_or_gate(conn: &mut Connection) {
    let (gate, scope) = (builder().build().unwrap(), scope());
    let first = gate.admit(conn, Admission::new(&scope).payload(b"1").dedupe("a")).await.unwrap();
    let other = Scope::new().with("org", 2).with("project", 1);
    let others = gate.admit(conn, Admission::new(&other).payload(b"2").dedupe("a")).await.unwrap();
    assert!(!others.duplicate && others.receipt != first.receipt, "another owner chose the same id");
    let mails = Stream::new("mails").unwrap().settings(patient()).unwrap();
    let mail = mails.add(conn, Event::new("3").scope(&scope).dedupe("a")).await.unwrap();
    assert!(!mail.duplicate && mail.id.is_some(), "another stream");
    for name in ["org", "project"] {
        let gate =
            Gate::builder().settings(patient()).owner("org").throttle(Throttle::new(name, "10/d").unwrap());
        let gate = gate.build().unwrap();
        for again in [false, true] {
            let decision = gate.admit(conn, Admission::new(&scope).dedupe("a")).await.unwrap();
            assert_eq!((decision.allowed, decision.duplicate), (true, again), "other rules");
        }
    }
    assert_eq!(gate.stream().unwrap().length(conn).await.unwrap(), 2);
}

#[vcache::test]
async fn all_is_charged_and_written_in_one_script(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    gate.peek(conn, Admission::new(&scope)).await.unwrap();
    let before = scripts_run(conn).await;
    let decision = gate.admit(conn, Admission::new(&scope).payload(b"{}").cost(2).dedupe("a")).await.unwrap();
    // By its hash, and by its text because this server has not seen it.
    assert_eq!(scripts_run(conn).await - before, 2);
    gate.admit(conn, Admission::new(&scope).payload(b"{}").cost(0)).await.unwrap();
    assert_eq!(scripts_run(conn).await - before, 3);
    assert!(decision.allowed && !decision.duplicate && decision.receipt.is_some());
    let left: Vec<_> = decision.rules.iter().map(|rule| (&*rule.name, rule.remaining)).collect();
    assert_eq!(left, [("org", Some(8)), ("project", Some(6)), ("events", Some(4))]);
    assert!(decision.id.as_deref().is_some_and(|id| id.contains('-')));
    let fields = entries(conn, "vcache:2:{v00}:s:incoming").await.remove(0);
    let expected = [("payload", "{}"), ("org", "1"), ("project", "back end")];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[vcache::test]
async fn what_refuses_is_told_and_nothing_is_charged_or_written(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    let admission = || Admission::new(&scope).payload(b"x").dedupe("id");
    for id in ["1", "2", "3"] {
        assert!(gate.admit(conn, admission().dedupe(id)).await.unwrap().allowed);
    }
    let before = everything(conn).await;
    for (cost, rule, never) in
        [(4, "events", false), (7, "events", true), (9, "project", true), (11, "org", true)]
    {
        let decision = gate.admit(conn, admission().cost(cost)).await.unwrap();
        let (name, kind) = refused_by(&decision).unwrap();
        assert_eq!((decision.allowed, decision.id.as_deref(), decision.status()), (false, None, 429));
        assert_eq!(decision.retry_after.is_none(), never, "{cost}");
        if never {
            assert!(["org", "project", "events"].contains(&name), "any of those that never admit it");
        } else {
            assert_eq!((name, kind), (rule, RuleKind::Quota));
        }
        assert_eq!(decision.rules.len(), 3, "all are told");
        assert_eq!(everything(conn).await, before);
    }
    assert!(gate.admit(conn, admission().dedupe("4")).await.unwrap().allowed);
    let before = everything(conn).await;
    let full = gate.admit(conn, admission()).await.unwrap();
    assert_eq!(refused_by(&full), Some(("incoming", RuleKind::Stream)));
    assert!(full.retry_after.is_some(), "it may have room in a while");
    assert_eq!(everything(conn).await, before);
    assert!(gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed, "there is nothing to write");
}

#[vcache::test]
async fn of_several_the_longest_wait_is_told(conn: &mut Connection) {
    let gate = Gate::builder()
        .settings(patient())
        .owner("org")
        .throttle(Throttle::new("short", "1/m").unwrap().key(["org"]).unwrap())
        .throttle(Throttle::new("long", "1/d").unwrap().key(["org"]).unwrap())
        .throttle(Throttle::new("middle", "1/h").unwrap().key(["org"]).unwrap())
        .build()
        .unwrap();
    let scope = scope();
    assert!(gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed);
    // By the server, and from the deny cache.
    for _ in 0..2 {
        let refused = gate.admit(conn, Admission::new(&scope)).await.unwrap();
        assert_eq!(refused_by(&refused), Some(("long", RuleKind::Throttle)));
        assert!(refused.retry_after.is_some_and(|wait| wait.as_secs() > 80_000));
    }
    assert_eq!(gate.metrics().deny_cache, 1);
}

#[vcache::test]
async fn a_duplicate_is_answered_the_first_and_charged_nothing(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    let admission = Admission::new(&scope).payload(b"x").cost(6).dedupe("event 7:{x}");
    let first = gate.admit(conn, admission.clone()).await.unwrap();
    let before = everything(conn).await;
    for _ in 0..3 {
        let second = gate.admit(conn, admission.clone()).await.unwrap();
        assert!(second.allowed && second.duplicate && second.refused_by.is_none(), "though all is used up");
        assert_eq!((&second.id, &second.receipt), (&first.id, &first.receipt));
        assert_eq!(second.rules[2].remaining, Some(0));
    }
    assert_eq!(everything(conn).await, before);
    assert!(!gate.admit(conn, admission.dedupe("another")).await.unwrap().allowed);
    let metrics = gate.metrics();
    assert_eq!((metrics.admitted, metrics.duplicates, metrics.refused), (1, 3, 1));
    assert!(keys(conn).await.contains(&"vcache:2:{v00}:d:incoming:org=1:event%207%3A%7Bx%7D".to_owned()));
}

#[vcache::test]
async fn a_gate_of_one_rule_goes_by_the_owner_like_any_other(conn: &mut Connection) {
    let gate = Gate::builder()
        .settings(patient())
        .owner("org")
        .throttle(Throttle::new("project", "100/d").unwrap().key(["project", "org"]).unwrap())
        .shards(16)
        .build()
        .unwrap();
    for (project, duplicate) in [(42, false), (43, true), (44, true)] {
        let scope = Scope::new().with("org", 1).with("project", project);
        let decision = gate.admit(conn, Admission::new(&scope).dedupe("a")).await.unwrap();
        assert_eq!((decision.allowed, decision.duplicate), (true, duplicate), "{project}");
    }
    let tag = |key: &str| key.split(':').nth(2).unwrap().to_owned();
    let tags: std::collections::BTreeSet<_> = keys(conn).await.iter().map(|key| tag(key)).collect();
    assert_eq!(tags.len(), 1, "all of an owner is in one slot");
}

#[vcache::test]
async fn whose_budget_it_is_does_not_depend_on_the_scopes_order(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let (org, project) = (("org", 7), ("project", 42));
    for [first, second] in [[org, project], [project, org]] {
        let scope = Scope::new().with(first.0, first.1).with(second.0, second.1);
        gate.admit(conn, Admission::new(&scope).payload(b"x").cost(2)).await.unwrap();
    }
    let states =
        gate.peek(conn, Admission::new(&Scope::new().with("project", 42).with("org", 7))).await.unwrap();
    let used: Vec<_> = states.iter().map(|state| (&*state.name, state.remaining)).collect();
    assert_eq!(used, [("org", Some(6)), ("project", Some(4)), ("events", Some(2))]);
    let swapped = Scope::new().with("org", 42).with("project", 7);
    let fresh = gate.peek(conn, Admission::new(&swapped)).await.unwrap();
    assert!(fresh.iter().all(|state| state.remaining == Some(state.burst)), "another org: {fresh:?}");
    assert_eq!(gate.reset(conn, &Scope::new().with("project", 42).with("org", 1), None).await.unwrap(), 0);
    let error = gate.admit(conn, Admission::new(&Scope::new().with("project", 42))).await.unwrap_err();
    assert!(error.to_string().contains("keyed by \"org\", but the scope has only \"project\""), "{error}");
}

#[vcache::test]
async fn a_rule_asked_alone_looks_where_the_gate_charged(conn: &mut Connection) {
    let gate = builder().prefix("shop").shards(16).build().unwrap();
    for org in 1..=5 {
        let scope = Scope::new().with("org", org).with("project", 42);
        gate.admit(conn, Admission::new(&scope).cost(3)).await.unwrap();
        let events = gate.quota("events").unwrap();
        assert_eq!(events.peek(conn, org).await.unwrap().used, 3);
        let project = gate.throttle("project").unwrap();
        assert_eq!(project.peek(conn, &scope).await.unwrap().remaining, Some(5));
        assert!(project.check(conn, &scope, 5).await.unwrap().allowed);
        let refused = gate.admit(conn, Admission::new(&scope)).await.unwrap();
        assert_eq!(refused_by(&refused), Some(("project", RuleKind::Throttle)));
        assert!(events.reset(conn, org).await.unwrap());
    }
    assert!(gate.quota("nothing").is_none() && gate.throttle("events").is_none());
}

#[vcache::test]
async fn the_connections_key_prefix_is_part_of_every_key(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    let staging = conn.with_key_prefix("staging{1}");
    let mut receipts = Vec::new();
    for conn in [&*conn, &staging] {
        let decision =
            gate.admit(conn, Admission::new(&scope).payload(b"x").cost(4).dedupe("a")).await.unwrap();
        assert!(decision.allowed && !decision.duplicate);
        receipts.push(decision.receipt.unwrap());
        assert_eq!(gate.stream().unwrap().length(conn).await.unwrap(), 1);
    }
    let (of_staging, own): (Vec<_>, Vec<_>) =
        keys(conn).await.into_iter().partition(|key| key.starts_with("staging%7B1%7D:vcache:2:{v00}:"));
    assert_eq!((of_staging.len(), own.len()), (5, 5), "{of_staging:?} {own:?}");
    assert_eq!(gate.stream().unwrap().keys(&staging), ["staging%7B1%7D:vcache:2:{v00}:s:incoming"]);
    let error = gate.refund(&staging, &receipts[0]).await.unwrap_err();
    assert!(error.to_string().contains("not of these quotas"), "{error}");
    assert!(gate.refund(&staging, &receipts[1]).await.unwrap().refunded);
    assert_eq!(gate.quota("events").unwrap().peek(conn, 1).await.unwrap().used, 4, "the other's stays");
    assert_eq!(gate.reset(&staging, &scope, None).await.unwrap(), 3);
}

#[vcache::test]
async fn a_dedupe_id_needs_an_owner(conn: &mut Connection) {
    let gate = Gate::builder().throttle(Throttle::new("org", "10/d").unwrap()).build().unwrap();
    let scope = scope();
    let error = gate.admit(conn, Admission::new(&scope).dedupe("a")).await.unwrap_err();
    assert!(error.to_string().contains("make the gate with one"), "{error}");
    assert!(gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed);
}

#[vcache::test]
async fn what_never_fits_is_refused_also_where_a_counter_would_overflow(conn: &mut Connection) {
    let gate = Gate::builder()
        .settings(patient())
        .owner("org")
        .throttle(Throttle::new("org", "100/d").unwrap())
        .quota(Quota::new("seen", -1, Period::Month).unwrap())
        .build()
        .unwrap();
    let scope = scope();
    let refused = gate.admit(conn, Admission::new(&scope).cost(1 << 53)).await.unwrap();
    assert_eq!((refused_by(&refused), refused.retry_after), (Some(("org", RuleKind::Throttle)), None));
    assert!(keys(conn).await.is_empty());
    let error = gate.quota("seen").unwrap().consume(conn, 1, 1 << 53).await.unwrap_err();
    assert!(error.to_string().contains("would pass 2^53"), "{error}");
}

#[vcache::test]
async fn a_refused_id_may_come_again(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    let admission = Admission::new(&scope).dedupe("a");
    assert!(!gate.admit(conn, admission.clone().cost(9)).await.unwrap().allowed);
    let admitted = gate.admit(conn, admission).await.unwrap();
    assert!(admitted.allowed && !admitted.duplicate);
}

#[vcache::test]
async fn a_refund_gives_back_to_all_quotas_that_were_charged(conn: &mut Connection) {
    let gate = Gate::builder()
        .settings(patient())
        .owner("org")
        .throttle(Throttle::new("org", "100/d").unwrap())
        .quota(Quota::new("events", 10, Period::Month).unwrap())
        .quota(
            Quota::new("bytes", 10, Period::Day)
                .unwrap()
                .key(["org", "project"])
                .unwrap()
                .timezone("Europe/Vienna")
                .unwrap(),
        )
        .quota(Quota::new("seen", 100, Period::Hour).unwrap().mode(Mode::CheckOnly))
        .shards(16)
        .build()
        .unwrap();
    let scope = scope();
    let first = gate.admit(conn, Admission::new(&scope).cost(10).dedupe("a")).await.unwrap();
    let duplicate = gate.admit(conn, Admission::new(&scope).cost(10).dedupe("a")).await.unwrap();
    assert!(!gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed);
    let receipt = duplicate.receipt.unwrap();
    let refund = gate.refund(conn, &receipt).await.unwrap();
    let usage: Vec<_> = refund.usage.iter().map(|usage| (&*usage.name, usage.used)).collect();
    assert_eq!((refund.refunded, usage), (true, vec![("events", 0), ("bytes", 0)]));
    assert!(!gate.refund(conn, &first.receipt.unwrap()).await.unwrap().refunded, "it is the same receipt");
    let admitted = gate.admit(conn, Admission::new(&scope).cost(10)).await.unwrap();
    assert!(admitted.allowed, "the refusal is not remembered any more: {admitted:?}");
    assert_eq!(admitted.rules[0].remaining, Some(80), "throttles are not refunded");
    let alone = Quota::new("events", 10, Period::Month).unwrap().key(["org"]).unwrap();
    assert!(alone.refund(conn, &receipt).await.unwrap_err().to_string().contains("not of these quotas"));
}

#[vcache::test]
async fn limits_and_rates_of_the_call_count(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    let admission = || Admission::new(&scope).cost(7);
    assert!(!gate.admit(conn, admission()).await.unwrap().allowed);
    let decision = gate.admit(conn, admission().limit("events", 100).limit("project", 9)).await.unwrap();
    let left: Vec<_> = decision.rules.iter().map(|rule| rule.remaining).collect();
    assert_eq!(left, [Some(3), Some(2), Some(93)]);
    let rate = "1000/h".parse().unwrap();
    let decision =
        gate.admit(conn, admission().limit("events", -1).limit("org", -1).rate("project", rate)).await;
    let left: Vec<_> = decision.unwrap().rules.iter().map(|rule| rule.remaining).collect();
    assert_eq!(left, [None, Some(986), None], "8 of 1000 and then 7, and no limits");
    let state = gate.peek(conn, admission().limit("org", 20)).await.unwrap();
    assert_eq!(state[0].remaining, Some(13), "it was not asked, and not charged");
    assert!(!gate.admit(conn, Admission::new(&scope).limit("events", 0)).await.unwrap().allowed);
    for (wrong, text) in [
        (admission().limit("nobody", 1), "no rule 'nobody'"),
        (admission().rate("events", rate), "'events' has a limit and no rate"),
        (admission().limit("org", -2), "the limit is -2"),
    ] {
        let error = gate.admit(conn, wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains(text), "{error}");
    }
}

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

#[vcache::test]
async fn all_keys_of_an_owner_have_one_hash_tag(conn: &mut Connection) {
    let gate = builder().prefix("shop:eu").shards(16).build().unwrap();
    let mut tags = HashSet::new();
    for org in 0..40 {
        let () = cmd("FLUSHALL").query_async(conn).await.unwrap();
        let scope = Scope::new().with("org", org).with("project", "{evil}:{v00}");
        let decision = gate.admit(conn, Admission::new(&scope).payload(b"x").dedupe("{id}")).await.unwrap();
        gate.refund(conn, &decision.receipt.unwrap()).await.unwrap();
        let keys = keys(conn).await;
        assert_eq!(keys.len(), 6, "two throttles, a quota, a stream, an id and a refund: {keys:?}");
        let tag = |key: &String| key.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
        assert_eq!(keys.iter().map(tag).collect::<HashSet<_>>().len(), 1, "{keys:?}");
        assert!(keys.iter().all(|key| key.starts_with("shop:eu:2:{v")), "{keys:?}");
        tags.insert(tag(&keys[0]));
    }
    assert!(tags.len() > 8 && tags.iter().all(|tag| tag.len() == 3), "{tags:?}");
    assert_eq!(gate.stream().unwrap().keys(conn).len(), 16);
    assert!(gate.stream().unwrap().keys(conn).contains(&"shop:eu:2:{v07}:s:incoming".to_owned()));
}

#[vcache::test]
async fn a_full_stream_trims_if_it_is_told_to(conn: &mut Connection) {
    let gate =
        builder().stream(Stream::new("incoming").unwrap().maxlen(100).full(Full::Trim)).build().unwrap();
    let scope = scope();
    for _ in 0..500 {
        assert!(gate.admit(conn, Admission::new(&scope).payload(b"x").cost(0)).await.unwrap().allowed);
    }
    let length = gate.stream().unwrap().length(conn).await.unwrap();
    assert!((100..300).contains(&length), "{length}");
}

#[vcache::test]
async fn a_reset_forgets_one_rule_or_all(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    gate.admit(conn, Admission::new(&scope).cost(3).payload(b"x")).await.unwrap();
    assert_eq!(gate.reset(conn, &scope, Some("events")).await.unwrap(), 1);
    let states = gate.peek(conn, Admission::new(&scope)).await.unwrap();
    let left: Vec<_> = states.iter().map(|state| state.remaining).collect();
    assert_eq!(left, [Some(7), Some(5), Some(6)]);
    assert_eq!(gate.reset(conn, &scope, None).await.unwrap(), 2);
    assert_eq!(keys(conn).await, ["vcache:2:{v00}:s:incoming"]);
    let error = gate.reset(conn, &scope, Some("nobody")).await.unwrap_err();
    assert!(error.to_string().contains("'nobody'"), "{error}");
}

#[vcache::test]
async fn a_key_of_another_type_leaves_no_half_admission(conn: &mut Connection) {
    let gate = builder().build().unwrap();
    let scope = scope();
    let () = conn.set("vcache:2:{v00}:s:incoming", "no stream").await.unwrap();
    let decision = gate.admit(conn, Admission::new(&scope).payload(b"x").dedupe("a")).await.unwrap();
    assert_eq!(refused_by(&decision), Some(("incoming", RuleKind::Outage)), "it would not be stored");
    let error = decision.outage.unwrap();
    assert_eq!(error.code(), Some("WRONGTYPE"), "{error}");
    assert!(error.to_string().contains("delete it, or count under another prefix"), "{error}");
    assert_eq!(keys(conn).await, ["vcache:2:{v00}:s:incoming"]);
}

#[vcache::test]
async fn ids_at_the_same_time_are_charged_once(conn: &mut Connection) {
    let gate = builder()
        .stream(Stream::new("incoming").unwrap())
        .quota(Quota::new("all", -1, Period::Month).unwrap());
    let gate = gate.build().unwrap();
    let duplicates = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (conn, gate) = (conn.clone(), gate.clone());
                scope.spawn(move || {
                    vcache::block_on(async {
                        let scope = self::scope();
                        let mut duplicates = 0;
                        for id in ["1", "2", "3", "4"] {
                            let admission = Admission::new(&scope).payload(b"x").dedupe(id);
                            let decision = gate.admit(&conn, admission).await.unwrap();
                            assert!(decision.allowed);
                            duplicates += usize::from(decision.duplicate);
                        }
                        duplicates
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(duplicates, 28);
    assert_eq!(gate.stream().unwrap().length(conn).await.unwrap(), 4);
}

#[tokio::test]
async fn it_goes_anywhere_and_is_driven_by_tokio_too() {
    fn goes_anywhere<T: Send + 'static>(future: T) -> T {
        future
    }
    let server = Server::start();
    let (conn, gate) = (server.connection(), builder().build().unwrap());
    let admitted = tokio::spawn(goes_anywhere(async move {
        let scope = scope();
        let throttle = Throttle::new("alone", "1/s").unwrap();
        let quota = Quota::new("alone", 1, Period::Hour).unwrap().key(["org"]).unwrap();
        let stream = Stream::new("alone").unwrap();
        throttle.check(&conn, "x", 1).await?;
        quota.consume(&conn, 5, 1).await?;
        stream.add(&conn, Event::new(b"x").scope(&scope)).await?;
        stream.add_many(&conn, &[Event::new("y")]).await?;
        stream.length(&conn).await?;
        throttle.reset(&conn, "x").await?;
        gate.peek(&conn, Admission::new(&scope)).await?;
        gate.admit(&conn, Admission::new(&scope)).await
    }));
    assert!(admitted.await.unwrap().unwrap().allowed);
}
