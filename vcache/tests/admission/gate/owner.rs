//! For whom a gate counts, and under which keys.

use std::collections::HashSet;

use vcache::admission::{Admission, Gate, RuleKind, Scope, Throttle};
use vcache::prelude::*;
use vcache::redis::cmd;

use super::{builder, scope};
use crate::{keys, patient, refused_by};

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
