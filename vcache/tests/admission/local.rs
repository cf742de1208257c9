//! What is decided without the server: the deny cache and the guard.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use vcache::admission::{Admission, Gate, Mode, Period, Quota, RuleKind, Scope, Source, Throttle};
use vcache::prelude::*;

use crate::{patient, refused_by, scripts_run};

fn throttle() -> Throttle {
    Throttle::new("org", "10/d").unwrap().settings(patient()).unwrap()
}

#[vcache::test]
async fn a_refusal_is_remembered_for_its_cost_and_larger_ones(conn: &mut Connection) {
    let throttle = throttle();
    assert!(throttle.check(conn, 1, 6).await.unwrap().allowed);
    let refused = throttle.check(conn, 1, 5).await.unwrap();
    assert_eq!(refused.source, Source::Server);
    let before = scripts_run(conn).await;
    for cost in [5, 6, 10] {
        let again = throttle.check(conn, 1, cost).await.unwrap();
        assert_eq!((again.allowed, again.source), (false, Source::DenyCache), "{cost}");
        assert_eq!(refused_by(&again), Some(("org", RuleKind::Throttle)));
        assert!(again.retry_after <= refused.retry_after, "it runs");
        assert!(again.retry_after.is_some_and(|wait| wait > Duration::from_secs(8_000)), "not cut to 5 s");
        assert_eq!(again.rules[0].remaining, Some(4));
    }
    let never = throttle.check(conn, 1, 11).await.unwrap();
    assert_eq!((never.source, never.retry_after), (Source::DenyCache, None), "it is above the burst");
    assert_eq!(scripts_run(conn).await, before, "nobody asked the server");
    assert_eq!(throttle.metrics().deny_cache, 4);
    let smaller = throttle.check(conn, 1, 4).await.unwrap();
    assert_eq!((smaller.allowed, smaller.source), (true, Source::Server), "4 are left");
}

#[vcache::test]
async fn it_refuses_nobody_else_and_no_other_rate(conn: &mut Connection) {
    let throttle = throttle();
    throttle.check(conn, 1, 10).await.unwrap();
    assert!(!throttle.check(conn, 1, 1).await.unwrap().allowed);
    assert!(throttle.check(conn, 2, 1).await.unwrap().allowed);
    let raised = throttle.check_at(conn, 1, 1, "11/d".parse().unwrap()).await.unwrap();
    assert_eq!((raised.allowed, raised.source), (true, Source::Server));
    let fresh = Throttle::new("org", "20/d").unwrap().settings(patient()).unwrap();
    assert!(fresh.check(conn, 1, 1).await.unwrap().allowed, "of another throttle nothing is known");
    let asked = throttle.check(conn, 1, 0).await.unwrap();
    assert_eq!(asked.source, Source::Server, "who only asks is told how it is");
}

#[vcache::test]
async fn it_ends_when_the_wait_does(conn: &mut Connection) {
    let throttle = Throttle::new("org", "2/s").unwrap().burst(1).unwrap().settings(patient()).unwrap();
    assert!(throttle.check(conn, 1, 1).await.unwrap().allowed);
    let refused = throttle.check(conn, 1, 1).await.unwrap();
    assert_eq!(refused.source, Source::Server);
    assert_eq!(throttle.check(conn, 1, 1).await.unwrap().source, Source::DenyCache);
    std::thread::sleep(refused.retry_after.unwrap());
    let decision = throttle.check(conn, 1, 1).await.unwrap();
    assert_eq!((decision.allowed, decision.source), (true, Source::Server));
}

#[vcache::test]
async fn a_reset_and_a_refund_end_it(conn: &mut Connection) {
    let throttle = throttle();
    throttle.check(conn, 1, 10).await.unwrap();
    for _ in 0..2 {
        assert!(!throttle.check(conn, 1, 1).await.unwrap().allowed);
    }
    throttle.reset(conn, 1).await.unwrap();
    assert!(throttle.check(conn, 1, 1).await.unwrap().allowed);

    let quota =
        Quota::new("events", 10, Period::Month).unwrap().key(["org"]).unwrap().settings(patient()).unwrap();
    let receipt = quota.consume(conn, 1, 10).await.unwrap().receipt.unwrap();
    for source in [Source::Server, Source::DenyCache] {
        let refused = quota.consume(conn, 1, 1).await.unwrap();
        assert_eq!((refused.allowed, refused.source), (false, source));
    }
    quota.refund(conn, &receipt).await.unwrap();
    assert!(quota.consume(conn, 1, 1).await.unwrap().allowed);
}

#[vcache::test]
async fn a_refusal_that_is_heard_of_after_the_reset_is_not_remembered(conn: &mut Connection) {
    let throttle = throttle();
    throttle.check(conn, 1, 10).await.unwrap();
    let mut late = pin!(throttle.check(conn, 1, 1));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(late.as_mut().poll(&mut cx).is_pending(), "it was sent before the reset");
    throttle.reset(conn, 1).await.unwrap();
    assert!(!late.await.unwrap().allowed);
    assert!(throttle.check(conn, 1, 1).await.unwrap().allowed);
}

#[vcache::test]
async fn a_duplicate_is_answered_also_while_others_are_refused(conn: &mut Connection) {
    let throttle = Throttle::new("org", "10/d").unwrap();
    let gate = Gate::builder().settings(patient()).owner("org").throttle(throttle).build().unwrap();
    let scope = Scope::new().with("org", 1);
    let admission = || Admission::new(&scope).cost(10);
    gate.admit(conn, admission().dedupe("a")).await.unwrap();
    for _ in 0..2 {
        assert!(!gate.admit(conn, admission()).await.unwrap().allowed);
    }
    assert_eq!(gate.metrics().deny_cache, 1);
    let duplicate = gate.admit(conn, admission().dedupe("a")).await.unwrap();
    assert!(duplicate.allowed && duplicate.duplicate);
}

#[vcache::test]
async fn quotas_that_do_not_refuse_are_not_remembered_to(conn: &mut Connection) {
    // One above the cost that is admitted: in the end only the quota refuses, however near the month's end is.
    let throttle = Throttle::new("org", "11/d").unwrap();
    let gate = Gate::builder()
        .settings(patient())
        .owner("org")
        .throttle(throttle)
        .quota(Quota::new("shadow", 1, Period::Month).unwrap().mode(Mode::Shadow))
        .quota(Quota::new("crossing", 5, Period::Month).unwrap().mode(Mode::Crossing))
        .build()
        .unwrap();
    let scope = Scope::new().with("org", 1);
    assert!(gate.admit(conn, Admission::new(&scope).cost(4)).await.unwrap().allowed);
    let refused = gate.admit(conn, Admission::new(&scope).cost(8)).await.unwrap();
    assert_eq!(refused_by(&refused), Some(("org", RuleKind::Throttle)));
    assert!(
        gate.admit(conn, Admission::new(&scope).cost(6)).await.unwrap().allowed,
        "it crosses, and that is all right"
    );
    let refused = gate.admit(conn, Admission::new(&scope).cost(1)).await.unwrap();
    assert_eq!(refused_by(&refused), Some(("crossing", RuleKind::Quota)));
    let again = gate.admit(conn, Admission::new(&scope).cost(1)).await.unwrap();
    assert_eq!((refused_by(&again), again.source), (refused_by(&refused), Source::DenyCache));
}

#[vcache::test]
async fn it_can_be_switched_off(conn: &mut Connection) {
    let mut settings = patient();
    settings.deny_cache = false;
    let throttle = throttle().settings(settings).unwrap();
    throttle.check(conn, 1, 10).await.unwrap();
    for _ in 0..3 {
        assert_eq!(throttle.check(conn, 1, 1).await.unwrap().source, Source::Server);
    }
    assert_eq!(throttle.metrics().deny_cache, 0);
}

#[vcache::test]
async fn the_guard_refuses_what_one_process_may_not_ask(conn: &mut Connection) {
    let mut settings = patient();
    settings.guard = Some(2.0);
    settings.deny_cache = false;
    let throttle = throttle().settings(settings).unwrap();
    let mut sources = Vec::new();
    for _ in 0..30 {
        let decision = throttle.check(conn, 1, 1).await.unwrap();
        sources.push((decision.allowed, decision.source));
    }
    let count = |wanted| sources.iter().filter(|source| **source == wanted).count();
    assert_eq!(count((true, Source::Server)), 10);
    assert_eq!(count((false, Source::Server)), 10);
    assert_eq!(count((false, Source::Guard)), 10);
    let metrics = throttle.metrics();
    assert_eq!((metrics.admitted, metrics.refused, metrics.guard), (10, 10, 10));
    assert!(throttle.check(conn, 2, 1).await.unwrap().allowed, "of each key");
    assert_eq!(throttle.check(conn, 1, 0).await.unwrap().source, Source::Server, "who only asks is told");
    let guarded = throttle.check(conn, 1, 1).await.unwrap();
    assert_eq!((guarded.status(), refused_by(&guarded)), (429, Some(("org", RuleKind::Throttle))));
    assert!(guarded.retry_after.is_some());
}
