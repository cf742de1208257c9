//! A server that is down, that hangs, that cannot serve, and that comes back.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use vcache::ErrorKind;
use vcache::admission::{
    Admission, Event, Gate, Mode, Outage, Period, Quota, RuleKind, Scope, Settings, Source, Stream, Throttle,
};
use vcache::prelude::*;
use vcache::redis::cmd;
use vcache::testing::Server;

use crate::{Stopped, keys, refused_by};

const LONG: Duration = Duration::from_secs(20);

fn settings(outage: Outage) -> Settings {
    let mut settings = Settings::default();
    settings.outage = outage;
    settings.breaker = false;
    settings
}

fn throttle(outage: Outage) -> Throttle {
    Throttle::new("org", "10/d").unwrap().settings(settings(outage)).unwrap()
}

#[vcache::test]
async fn each_policy_says_what_it_is_for(conn: &mut Connection, server: &mut Server) {
    server.kill();
    let open = throttle(Outage::Open);
    let decision = open.check(conn, 1, 1).await.unwrap();
    assert_eq!((decision.allowed, decision.source), (true, Source::Outage));
    let state = decision.rule("org").unwrap();
    assert_eq!((state.limit, state.remaining), (10, None), "how much is left is not known");
    assert!(decision.closest_rule().is_none() && decision.headers(true).is_empty());
    let closed = throttle(Outage::Closed);
    let decision = closed.check(conn, 1, 1).await.unwrap();
    assert_eq!((decision.allowed, decision.source, decision.status()), (false, Source::Outage, 503));
    assert_eq!(refused_by(&decision), Some(("org", RuleKind::Outage)));
    assert!(decision.retry_after.is_some());
    let why = decision.outage.unwrap();
    assert_eq!((why.kind(), why.alias()), (ErrorKind::Connection, Some(conn.alias())));
    let error = throttle(Outage::Raise).check(conn, 1, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    let (open, closed) = (open.metrics(), closed.metrics());
    assert_eq!((open.outages, open.outage_open, open.outage_closed, open.admitted), (1, 1, 0, 0));
    assert_eq!((closed.outages, closed.outage_open, closed.outage_closed, closed.refused), (1, 0, 1, 0));
}

#[vcache::test]
async fn a_wrong_call_is_told_whether_the_server_is_asked_or_not(conn: &mut Connection, server: &mut Server) {
    server.kill();
    let throttle = Throttle::new("org", "10/d").unwrap();
    let (nobody, long) = (Scope::new().with("user", 1), Scope::new().with("org", "x".repeat(600)));
    loop {
        for scope in [&nobody, &long] {
            assert_eq!(throttle.check(conn, scope, 1).await.unwrap_err().kind(), ErrorKind::Value);
        }
        let decision = throttle.check(conn, 1, 1).await.unwrap();
        assert!(decision.allowed);
        // The last time round, the breaker was open.
        if decision.outage.unwrap().to_string().contains("left alone") {
            break;
        }
    }
}

#[vcache::test]
async fn local_counts_this_process_share(conn: &mut Connection, server: &mut Server) {
    server.kill();
    let mut shared = settings(Outage::Local);
    shared.processes = Some(2);
    let throttle = Throttle::new("org", "10/d").unwrap().settings(shared.clone()).unwrap();
    let mut passed = 0;
    let refused = loop {
        let decision = throttle.check(conn, 1, 1).await.unwrap();
        assert_eq!(decision.source, Source::Outage);
        if !decision.allowed {
            break decision;
        }
        passed += 1;
    };
    assert_eq!(passed, 5, "half of 10");
    assert_eq!((refused.status(), refused_by(&refused)), (429, Some(("org", RuleKind::Throttle))));
    assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(8_640)), "at half the rate");
    assert!(throttle.check(conn, 2, 5).await.unwrap().allowed, "of each key");
    assert_eq!((throttle.metrics().outage_local, throttle.metrics().outage_open), (1, 6));
    let quota =
        Quota::new("events", 100, Period::Month).unwrap().key(["org"]).unwrap().settings(shared).unwrap();
    assert!(quota.consume(conn, 1, 50).await.unwrap().allowed);
    assert!(!quota.consume(conn, 1, 5).await.unwrap().allowed);
    let looks = quota.mode(Mode::CheckOnly);
    assert!(looks.consume(conn, 2, 50).await.unwrap().allowed);
    assert!(
        looks.consume(conn, 2, 50).await.unwrap().allowed,
        "what counts nothing counts nothing here either"
    );
}

#[vcache::test]
async fn one_rule_that_refuses_is_enough(conn: &mut Connection, server: &mut Server) {
    server.kill();
    let gate = |events: Mode, limit: i64| {
        Gate::builder()
            .owner("org")
            .throttle(Throttle::new("org", "10/d").unwrap())
            .throttle(Throttle::new("free", "-1/d").unwrap().key(["org"]).unwrap().outage(Outage::Closed))
            .quota(Quota::new("events", limit, Period::Month).unwrap().mode(events).outage(Outage::Closed))
            .build()
            .unwrap()
    };
    let scope = Scope::new().with("org", 1);
    let closed = gate(Mode::Strict, 5).admit(conn, Admission::new(&scope)).await.unwrap();
    assert_eq!(refused_by(&closed), Some(("events", RuleKind::Outage)));
    for (mode, limit) in [(Mode::Shadow, 5), (Mode::Strict, -1)] {
        let open = gate(mode, limit).admit(conn, Admission::new(&scope)).await.unwrap();
        assert!(open.allowed, "what never refuses does not because of an outage: {mode:?} {limit}");
    }
}

#[vcache::test]
async fn a_payload_is_never_admitted_unstored(conn: &mut Connection, server: &mut Server) {
    server.kill();
    let gate = Gate::builder()
        .owner("org")
        .throttle(Throttle::new("org", "10/d").unwrap().outage(Outage::Open))
        .stream(Stream::new("events").unwrap())
        .build()
        .unwrap();
    let scope = Scope::new().with("org", 1);
    let refused = gate.admit(conn, Admission::new(&scope).payload(b"x").dedupe("a")).await.unwrap();
    assert_eq!((refused.status(), refused_by(&refused)), (503, Some(("events", RuleKind::Outage))));
    assert!(gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed, "without one the policy counts");
    let alone = Stream::new("events").unwrap();
    let refused = alone.add(conn, Event::new("x")).await.unwrap();
    assert_eq!((refused.status(), refused_by(&refused)), (503, Some(("events", RuleKind::Outage))));
    let error = alone.add_many(conn, &[Event::new("x")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "what is not one decision is an error");
    let raising = alone.settings(settings(Outage::Raise)).unwrap();
    assert_eq!(raising.add(conn, Event::new("x")).await.unwrap_err().kind(), ErrorKind::Connection);
}

#[vcache::test]
async fn a_server_that_cannot_serve_is_an_outage(conn: &mut Connection) {
    let mut patient = settings(Outage::Open);
    patient.deadline = None;
    let gate = Gate::builder()
        .settings(patient)
        .owner("org")
        .throttle(Throttle::new("org", "10/d").unwrap())
        .stream(Stream::new("events").unwrap())
        .build()
        .unwrap();
    let scope = Scope::new().with("org", 1);
    let other = conn.clone();
    let config = async |name: &str, value: &str| {
        let () = cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut other.clone()).await.unwrap();
    };
    // By its text and by its hash: a script that is known is checked elsewhere than one that is not.
    for _ in 0..2 {
        config("maxmemory", "1").await;
        let refused = gate.admit(conn, Admission::new(&scope).payload(b"x")).await.unwrap();
        assert_eq!((refused.status(), refused.source), (503, Source::Outage));
        assert!(gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed);
        assert_eq!(gate.peek(conn, Admission::new(&scope)).await.unwrap()[0].remaining, Some(10));
        assert!(keys(conn).await.is_empty(), "nothing was written");
        config("maxmemory", "0").await;
        assert!(gate.admit(conn, Admission::new(&scope).cost(0)).await.unwrap().source == Source::Server);
    }
    let () = cmd("REPLICAOF").arg("127.0.0.1").arg("1").query_async(conn).await.unwrap();
    assert_eq!(gate.admit(conn, Admission::new(&scope)).await.unwrap().source, Source::Outage);
    let () = cmd("REPLICAOF").arg("NO").arg("ONE").query_async(conn).await.unwrap();
    assert_eq!(gate.admit(conn, Admission::new(&scope)).await.unwrap().source, Source::Server);
    assert_eq!(gate.metrics().outages, 5);
}

#[vcache::test]
async fn a_server_that_hangs_is_waited_for_no_longer_than_the_deadline(conn: &mut Connection) {
    let mut settings = settings(Outage::Open);
    settings.deadline = Some(Duration::from_millis(500));
    let throttle = Throttle::new("org", "10/d").unwrap().settings(settings).unwrap();
    assert_eq!(throttle.check(conn, 1, 1).await.unwrap().source, Source::Server);
    let stopped = Stopped::now(conn).await;
    // The connection's own time-out would be seconds.
    let decision = throttle.check(conn, 1, 1).await.unwrap();
    assert_eq!((decision.allowed, decision.source), (true, Source::Outage));
    assert_eq!(throttle.metrics().replayed, 0, "without an id nothing is sent twice");
    let error = throttle.check(&conn.with_deadline(Instant::now()), 1, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "the caller's own time being over is no outage");
    drop(stopped);
    assert_eq!(throttle.check(conn, 2, 1).await.unwrap().source, Source::Server);
    let left = throttle.peek(conn, 1).await.unwrap().remaining.unwrap();
    assert_eq!(left, 8, "it was executed all the same");
}

#[vcache::test]
async fn a_call_with_an_id_is_sent_again_and_admitted_once(conn: &mut Connection) {
    let mut settings = settings(Outage::Open);
    settings.deadline = Some(Duration::from_secs(1));
    let gate = Gate::builder()
        .settings(settings)
        .owner("org")
        .quota(Quota::new("events", 10, Period::Month).unwrap())
        .stream(Stream::new("events").unwrap())
        .build()
        .unwrap();
    let scope = Scope::new().with("org", 1);
    gate.admit(conn, Admission::new(&scope).payload(b"first")).await.unwrap();
    let stopped = Stopped::now(conn).await;
    let waker = {
        let gate = gate.clone();
        std::thread::spawn(move || {
            let until = Instant::now() + LONG;
            while gate.metrics().replayed == 0 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(stopped);
        })
    };
    let decision = gate.admit(conn, Admission::new(&scope).payload(b"second").dedupe("a")).await.unwrap();
    waker.join().unwrap();
    assert_eq!((decision.allowed, decision.source), (true, Source::Server));
    assert!(!decision.duplicate, "the first of its two attempts is its own");
    assert_eq!((decision.rules[0].used, gate.stream().unwrap().length(conn).await.unwrap()), (2, 2));
    let again = gate.admit(conn, Admission::new(&scope).payload(b"second").dedupe("a")).await.unwrap();
    assert!(again.duplicate && again.id == decision.id && again.receipt == decision.receipt);
    assert!(gate.refund(conn, &decision.receipt.unwrap()).await.unwrap().refunded);
}

#[vcache::test]
async fn the_breaker_leaves_a_failing_server_alone_and_finds_it_again(conn: &mut Connection) {
    let mut settings = Settings::default();
    settings.deadline = Some(Duration::from_millis(300));
    let throttle = Throttle::new("org", "1000/d").unwrap().settings(settings).unwrap();
    assert_eq!(throttle.check(conn, 1, 1).await.unwrap().source, Source::Server);
    let stopped = Stopped::now(conn).await;
    for failure in 1..=5 {
        throttle.check(conn, 1, 1).await.unwrap();
        assert_eq!(throttle.metrics().breaker_opened, u64::from(failure == 5), "{failure}");
    }
    let opened = Instant::now();
    drop(stopped);
    let source = throttle.check(conn, 1, 1).await.unwrap().source;
    if opened.elapsed() < Duration::from_millis(900) {
        assert_eq!(source, Source::Outage, "it is not asked, though it would answer");
    }
    let until = Instant::now() + LONG;
    while throttle.check(conn, 1, 1).await.unwrap().source != Source::Server {
        assert!(Instant::now() < until, "the breaker never closes");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(throttle.check(conn, 1, 1).await.unwrap().source, Source::Server, "for all again");
    assert_eq!(throttle.metrics().breaker_opened, 1);
}

#[vcache::test]
async fn a_server_that_was_restarted_is_asked_again(conn: &mut Connection, server: &mut Server) {
    let throttle = Throttle::new("org", "10/d").unwrap();
    throttle.check(conn, 1, 5).await.unwrap();
    server.kill();
    while throttle.metrics().breaker_opened == 0 {
        assert_eq!(throttle.check(conn, 1, 1).await.unwrap().source, Source::Outage);
    }
    server.restart();
    let until = Instant::now() + LONG;
    let decision = loop {
        let decision = throttle.check(conn, 1, 1).await.unwrap();
        if decision.source == Source::Server {
            break decision;
        }
        assert!(Instant::now() < until, "it is not asked again");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(decision.rules[0].remaining, Some(9), "it has forgotten what it held, and its scripts");
}

#[vcache::test]
async fn a_call_that_is_given_up_leaves_nothing_half_done(conn: &mut Connection) {
    let mut patient = Settings::default();
    patient.deadline = None;
    let throttle = Throttle::new("org", "1000/d").unwrap().settings(patient).unwrap();
    throttle.check(conn, 1, 1).await.unwrap();
    let stopped = Stopped::now(conn).await;
    for _ in 0..20 {
        let mut call = pin!(throttle.check(conn, 1, 1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    let metrics = throttle.metrics();
    assert_eq!((metrics.admitted, metrics.outages, metrics.breaker_opened), (1, 0, 0));
    drop(stopped);
    let until = Instant::now() + LONG;
    while throttle.check(conn, 1, 1).await.unwrap().source != Source::Server {
        assert!(Instant::now() < until, "it is not asked again");
    }
    assert_eq!(throttle.metrics().breaker_opened, 0);
}

#[vcache::test]
async fn without_a_deadline_the_connections_own_counts(conn: &mut Connection) {
    let mut patient = settings(Outage::Raise);
    patient.deadline = None;
    let throttle = Throttle::new("org", "10/d").unwrap().settings(patient).unwrap();
    throttle.check(conn, 1, 1).await.unwrap();
    let stopped = Stopped::now(conn).await;
    let error = throttle.check(&conn.with_timeout(Duration::from_millis(50)), 1, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("0.05 s"), "{error}");
    drop(stopped);
}
