//! What each rule is charged, and several admissions with one call.

use vcache::ErrorKind;
use vcache::admission::{
    Admission, Gate, Mode, Outage, Period, Quota, RuleKind, Scope, Settings, Source, Stream, Throttle,
};
use vcache::prelude::*;

use crate::{entries, everything, patient, refused_by, scripts_run};

fn scope() -> Scope<'static> {
    Scope::new().with("org", 1)
}

/// Calls, events and bytes.
fn gate(settings: Settings) -> Gate {
    Gate::builder()
        .settings(settings)
        .owner("org")
        .throttle(Throttle::new("calls", "10/d").unwrap().key(["org"]).unwrap())
        .quota(Quota::new("events", 100, Period::Month).unwrap())
        .quota(Quota::new("bytes", 10_000, Period::Month).unwrap())
        .stream(Stream::new("incoming").unwrap().maxlen(100))
        .build()
        .unwrap()
}

fn strict() -> Settings {
    let mut settings = patient();
    settings.deny_cache = false;
    settings
}

fn left(decision: &vcache::admission::Decision) -> Vec<Option<i64>> {
    decision.rules.iter().map(|rule| rule.remaining).collect()
}

#[vcache::test]
async fn each_rule_is_charged_its_own(conn: &mut Connection) {
    let (gate, scope) = (gate(strict()), scope());
    let one = || Admission::new(&scope).cost_of("bytes", 5_000);
    let decision = gate.admit(conn, one()).await.unwrap();
    assert_eq!(left(&decision), [Some(9), Some(99), Some(5_000)], "what is not named costs 1");
    let decision = gate.admit(conn, one().cost(2).cost_of("events", 20)).await.unwrap();
    assert_eq!(left(&decision), [Some(7), Some(79), Some(0)], "or what all cost");
    let before = everything(conn).await;
    let refused = gate.admit(conn, Admission::new(&scope).cost_of("bytes", 1)).await.unwrap();
    assert_eq!(refused_by(&refused), Some(("bytes", RuleKind::Quota)));
    let never = gate.admit(conn, Admission::new(&scope).cost_of("events", 101)).await.unwrap();
    assert!(never.never() && refused_by(&never) == Some(("events", RuleKind::Quota)));
    let never = gate.admit(conn, Admission::new(&scope).cost_of("calls", 11)).await.unwrap();
    assert!(never.never() && refused_by(&never) == Some(("calls", RuleKind::Throttle)));
    assert_eq!(everything(conn).await, before, "of a refusal nothing is charged");
    let last = gate.admit(conn, Admission::new(&scope).cost_of("calls", 1).cost_of("calls", 3)).await;
    assert!(!last.unwrap().allowed, "a rule that is not named is asked as ever");
}

#[vcache::test]
async fn a_rule_at_no_cost_is_left_out(conn: &mut Connection) {
    for settings in [strict(), patient()] {
        let _: () = vcache::redis::cmd("FLUSHALL").query_async(conn).await.unwrap();
        let (gate, scope) = (gate(settings), scope());
        assert!(gate.admit(conn, Admission::new(&scope).cost_of("bytes", 10_000)).await.unwrap().allowed);
        assert!(!gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed, "there are no bytes left");
        let without =
            gate.admit(conn, Admission::new(&scope).cost_of("bytes", 0).payload("x")).await.unwrap();
        assert_eq!((without.allowed, left(&without)), (true, vec![Some(8), Some(98), Some(0)]));
        let asked = Admission::new(&scope).cost(0);
        assert!(!gate.admit(conn, asked.clone()).await.unwrap().allowed, "a cost of 0 asks all of them");
        let free = asked.cost_of("bytes", 0).cost_of("calls", 0);
        assert!(gate.admit(conn, free).await.unwrap().allowed, "and with costs, none");
    }
    let shut = Gate::builder()
        .settings(patient())
        .owner("org")
        .quota(Quota::new("open", 5, Period::Day).unwrap())
        .quota(Quota::new("shut", 0, Period::Day).unwrap())
        .quota(Quota::new("crossed", 0, Period::Day).unwrap().mode(Mode::Crossing))
        .build()
        .unwrap();
    let scope = scope();
    let refused = shut.admit(conn, Admission::new(&scope).cost_of("crossed", 0)).await.unwrap();
    assert_eq!((refused.source, refused_by(&refused)), (Source::Settings, Some(("shut", RuleKind::Quota))));
    let both = Admission::new(&scope).cost_of("crossed", 0).cost_of("shut", 0);
    assert!(shut.admit(conn, both).await.unwrap().allowed, "a limit of 0 is no matter to it either");
}

#[vcache::test]
async fn a_refund_gives_each_quota_back_what_it_was_charged(conn: &mut Connection) {
    let (gate, scope) = (gate(strict()), scope());
    for (calls, events, bytes) in [(1, 3, 500), (2, 0, 7), (1, 4, 4), (1, 0, 0)] {
        let admission = Admission::new(&scope)
            .dedupe("id")
            .cost_of("calls", calls)
            .cost_of("events", events)
            .cost_of("bytes", bytes);
        let decision = gate.admit(conn, admission.clone()).await.unwrap();
        let again = gate.admit(conn, admission).await.unwrap();
        assert_eq!((again.duplicate, &again.receipt), (true, &decision.receipt));
        let used: Vec<_> = decision.rules[1..].iter().map(|rule| rule.used).collect();
        assert_eq!(used, [events, bytes]);
        match &decision.receipt {
            Some(receipt) => {
                let refund = gate.refund(conn, receipt).await.unwrap();
                assert!(refund.refunded && refund.usage.iter().all(|usage| usage.used == 0));
                assert!(!gate.refund(conn, receipt).await.unwrap().refunded, "once");
            }
            None => assert_eq!((events, bytes), (0, 0), "nothing was charged to a quota"),
        }
        gate.reset(conn, &scope, None).await.unwrap();
        let _: () = vcache::redis::cmd("FLUSHALL").query_async(conn).await.unwrap();
    }
}

#[vcache::test]
async fn a_cost_for_no_rule_or_that_is_none_is_told(conn: &mut Connection) {
    let (gate, scope) = (gate(strict()), scope());
    for (rule, cost, told) in [
        ("byte", 1, "there is a cost for \"byte\", and no rule of that name: there are calls, events, bytes"),
        ("incoming", 1, "no rule of that name"),
        ("bytes", -1, "the cost of \"bytes\" is -1: give a whole number from 0 to 2^53"),
        ("bytes", (1 << 53) + 1, "the cost of \"bytes\" is"),
    ] {
        let error = gate.admit(conn, Admission::new(&scope).cost_of(rule, cost)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Value && error.to_string().contains(told), "{error}");
        let good = Admission::new(&scope);
        let bad = Admission::new(&scope).cost_of(rule, cost);
        assert!(gate.admit_many(conn, [good, bad]).await.is_err());
    }
    assert!(everything(conn).await.is_empty(), "nothing was sent");
}

#[vcache::test]
async fn without_a_server_each_rule_counts_its_own(conn: &mut Connection) {
    let server = vcache::testing::Server::start();
    let nowhere = server.connection();
    drop(server);
    let mut settings = strict();
    (settings.outage, settings.processes) = (Outage::Local, Some(1));
    let gate = Gate::builder()
        .settings(settings)
        .owner("org")
        .throttle(Throttle::new("calls", "3/d").unwrap().key(["org"]).unwrap())
        .quota(Quota::new("bytes", 100, Period::Month).unwrap().outage(Outage::Closed))
        .build()
        .unwrap();
    let scope = scope();
    let without_bytes = || Admission::new(&scope).cost_of("bytes", 0);
    let refused = gate.admit(&nowhere, Admission::new(&scope)).await.unwrap();
    assert_eq!(refused_by(&refused), Some(("bytes", RuleKind::Outage)), "its policy is closed");
    let two = gate.admit(&nowhere, without_bytes().cost_of("calls", 2)).await.unwrap();
    assert_eq!((two.allowed, two.source), (true, Source::Outage), "and is not asked where it costs nothing");
    assert!(!gate.admit(&nowhere, without_bytes().cost_of("calls", 2)).await.unwrap().allowed);
    assert!(gate.admit(&nowhere, without_bytes()).await.unwrap().allowed);
    assert!(everything(conn).await.is_empty());
}

#[vcache::test]
async fn many_are_decided_each_by_itself_and_in_order(conn: &mut Connection) {
    let gate = gate(strict());
    let scopes: Vec<_> = (0..3).map(|org| Scope::new().with("org", org)).collect();
    gate.admit(conn, Admission::new(&scopes[0])).await.unwrap();
    let before = scripts_run(conn).await;
    let admissions = [(0, 9_000), (1, 9_000), (0, 9_000), (2, 10_001), (0, 900)]
        .map(|(org, bytes)| Admission::new(&scopes[org]).payload("x").cost_of("bytes", bytes));
    let decisions: Vec<_> =
        gate.admit_many(conn, admissions).await.unwrap().into_iter().map(Result::unwrap).collect();
    let allowed: Vec<_> = decisions.iter().map(|decision| decision.allowed).collect();
    assert_eq!(allowed, [true, true, false, false, true]);
    assert_eq!(decisions[4].rule("bytes").unwrap().used, 9_901, "the one before it came before it");
    assert_eq!(scripts_run(conn).await - before, 5);
    assert_eq!(entries(conn, "vcache:2:{v00}:s:incoming").await.len(), 3);
    assert!(gate.admit_many(conn, []).await.unwrap().is_empty());
}
