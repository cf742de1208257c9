//! Giving back and forgetting.

use vcache::admission::{Admission, Gate, Mode, Period, Quota, Throttle};
use vcache::prelude::*;

use super::{builder, scope};
use crate::{keys, patient};

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
