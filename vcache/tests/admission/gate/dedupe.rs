//! Ids under which something is admitted once only.

use vcache::admission::{Admission, Event, Gate, Period, Quota, Scope, Stream, Throttle};
use vcache::prelude::*;

use super::{builder, scope};
use crate::{everything, keys, patient};

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
async fn a_dedupe_id_needs_an_owner(conn: &mut Connection) {
    let gate = Gate::builder().throttle(Throttle::new("org", "10/d").unwrap()).build().unwrap();
    let scope = scope();
    let error = gate.admit(conn, Admission::new(&scope).dedupe("a")).await.unwrap_err();
    assert!(error.to_string().contains("make the gate with one"), "{error}");
    assert!(gate.admit(conn, Admission::new(&scope)).await.unwrap().allowed);
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
                        let scope = super::scope();
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
