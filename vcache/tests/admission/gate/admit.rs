//! What is charged and written together, or not at all.

use vcache::ErrorKind;
use vcache::admission::{Admission, Event, Full, Gate, Period, Quota, RuleKind, Stream, Throttle};
use vcache::prelude::*;
use vcache::testing::Server;

use super::{builder, scope};
use crate::{entries, everything, keys, patient, refused_by, scripts_run};

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
