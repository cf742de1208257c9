//! A quota alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vcache::ErrorKind;
use vcache::admission::{Mode, Period, Quota, Receipt, RuleKind, Scope};
use vcache::prelude::*;
use vcache::redis::cmd;

use crate::{everything, keys, patient, refused_by};

/// In a window that does not end while a test runs, unless the month does.
fn quota(limit: i64) -> Quota {
    let mut settings = patient();
    settings.deny_cache = false;
    Quota::new("events", limit, Period::Month).unwrap().key(["org"]).unwrap().settings(settings).unwrap()
}

async fn consume(quota: &Quota, conn: &Connection, cost: i64) -> bool {
    quota.consume(conn, 1, cost).await.unwrap().allowed
}

#[vcache::test]
async fn exactly_the_limit_is_admitted(conn: &mut Connection) {
    let quota = quota(5);
    for used in 1..=5 {
        let decision = quota.consume(conn, 1, 1).await.unwrap();
        let state = &decision.rules[0];
        assert!(decision.allowed && decision.receipt.is_some());
        assert_eq!(
            (state.used, state.remaining, state.limit, state.kind),
            (used, Some(5 - used), 5, RuleKind::Quota)
        );
    }
    let before = everything(conn).await;
    let refused = quota.consume(conn, 1, 1).await.unwrap();
    assert_eq!(refused_by(&refused), Some(("events", RuleKind::Quota)));
    assert_eq!((refused.allowed, refused.receipt.clone()), (false, None));
    let state = &refused.rules[0];
    assert_eq!(refused.retry_after, Some(state.reset_after), "until the next month");
    assert!(state.reset_after <= Duration::from_secs(31 * 86_400));
    assert!(state.window >= Duration::from_secs(28 * 86_400));
    assert_eq!(everything(conn).await, before);
}

#[vcache::test]
async fn a_cost_that_does_not_fit_is_refused_and_a_smaller_one_passes(conn: &mut Connection) {
    let quota = quota(10);
    assert!(consume(&quota, conn, 7).await);
    let refused = quota.consume(conn, 1, 4).await.unwrap();
    assert!(!refused.allowed && refused.retry_after.is_some());
    assert_eq!(quota.consume(conn, 1, 11).await.unwrap().retry_after, None, "never, in any month");
    assert!(consume(&quota, conn, 3).await);
    assert!(!consume(&quota, conn, 0).await, "it is used up");
}

#[vcache::test]
async fn the_modes_differ_at_the_limit(conn: &mut Connection) {
    let crossing = quota(10).mode(Mode::Crossing);
    assert!(consume(&crossing, conn, 9).await && consume(&crossing, conn, 5).await);
    assert!(!consume(&crossing, conn, 1).await, "14 of 10");
    let usage = crossing.peek(conn, 1).await.unwrap();
    assert_eq!((usage.used, usage.remaining), (14, Some(0)));

    let () = cmd("FLUSHALL").query_async(conn).await.unwrap();
    let check = quota(10).mode(Mode::CheckOnly);
    let decision = check.consume(conn, 1, 10).await.unwrap();
    assert!(decision.allowed && decision.receipt.is_none(), "nothing was charged");
    assert!(!consume(&check, conn, 11).await);
    assert!(keys(conn).await.is_empty());

    let shadow = quota(10).mode(Mode::Shadow);
    assert!(consume(&shadow, conn, 9).await && consume(&shadow, conn, 100).await);
    assert_eq!(shadow.peek(conn, 1).await.unwrap().used, 109);
    assert!(!consume(&check, conn, 1).await, "the same counter");
}

#[vcache::test]
async fn no_limit_only_counts_and_a_limit_of_nothing_refuses(conn: &mut Connection) {
    assert!(consume(&quota(-1), conn, 1 << 40).await);
    let usage = quota(-1).peek(conn, 1).await.unwrap();
    assert_eq!((usage.used, usage.remaining, usage.limit), (1 << 40, None, -1));
    for mode in [Mode::Strict, Mode::Crossing, Mode::CheckOnly] {
        let refused = quota(0).mode(mode).consume(conn, 1, 1).await.unwrap();
        assert_eq!((refused.allowed, refused.retry_after), (false, None), "{mode:?}");
    }
    assert!(consume(&quota(0).mode(Mode::Shadow), conn, 1).await);
}

#[vcache::test]
async fn a_limit_of_the_call_counts(conn: &mut Connection) {
    let quota = Quota::per_call("events", Period::Month).unwrap().key(["org"]).unwrap();
    assert!(quota.consume(conn, 1, 1).await.unwrap_err().to_string().contains("no fixed limit"));
    assert!(quota.consume_at(conn, 1, 5, 5).await.unwrap().allowed);
    assert!(!quota.consume_at(conn, 1, 1, 5).await.unwrap().allowed);
    assert!(quota.consume_at(conn, 1, 1, 6).await.unwrap().allowed, "raised");
    assert!(!quota.consume_at(conn, 1, 1, 3).await.unwrap().allowed, "lowered");
    assert!(!quota.consume_at(conn, 1, 1, 0).await.unwrap().allowed);
    assert!(quota.consume_at(conn, 1, 1, -1).await.unwrap().allowed);
    assert_eq!(quota.peek_at(conn, 1, 10).await.unwrap().remaining, Some(3));
    let error = quota.consume_at(conn, 1, 1, -2).await.unwrap_err();
    assert!(error.to_string().contains("'events' is -2"), "{error}");
}

#[vcache::test]
async fn the_counter_stands_under_its_windows_start_and_ends_after_it(conn: &mut Connection) {
    let quota = Quota::new("events", 5, Period::Hour)
        .unwrap()
        .key(["org"])
        .unwrap()
        .keep(Duration::from_secs(600))
        .settings(patient())
        .unwrap();
    assert!(quota.consume(conn, &Scope::new().with("org", "a b").with("user", 2), 1).await.unwrap().allowed);
    let keys = keys(conn).await;
    let start: i64 = keys[0].strip_prefix("vcache:2:{v00}:q:events:org=a%20b:h").unwrap().parse().unwrap();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    assert!(start % 3_600 == 0 && (now - 3_601..=now).contains(&start), "{start} at {now}");
    let ends: i64 = cmd("PEXPIRETIME").arg(&keys[0]).query_async(conn).await.unwrap();
    assert!((ends - (start + 3_600 + 600) * 1_000).abs() < 5_000, "{ends}");
}

#[vcache::test]
async fn quotas_of_one_name_and_several_periods_count_apart(conn: &mut Connection) {
    let quota =
        |period| Quota::new("events", 5, period).unwrap().key(["org"]).unwrap().settings(patient()).unwrap();
    let mut receipts = Vec::new();
    for period in [Period::Hour, Period::Day, Period::Month] {
        let decision = quota(period).consume(conn, 1, 5).await.unwrap();
        assert_eq!((decision.allowed, decision.rules[0].used), (true, 5));
        receipts.push(decision.receipt.unwrap());
    }
    // They may begin at the same moment, and so differ in a letter only.
    let letters: Vec<_> = keys(conn)
        .await
        .iter()
        .map(|key| key.strip_prefix("vcache:2:{v00}:q:events:org=1:").unwrap().chars().next().unwrap())
        .collect();
    assert_eq!(letters, ['d', 'h', 'm']);
    let error = quota(Period::Hour).refund(conn, &receipts[1]).await.unwrap_err();
    assert!(error.to_string().contains("not of these quotas"), "{error}");
}

#[vcache::test]
async fn a_quota_without_a_key_is_for_a_gate(conn: &mut Connection) {
    let quota = Quota::new("events", 5, Period::Day).unwrap();
    let scope = Scope::new().with("org", 1);
    for error in [
        quota.consume(conn, 1, 1).await.unwrap_err(),
        quota.consume(conn, &scope, 1).await.unwrap_err(),
        quota.peek(conn, &scope).await.unwrap_err(),
    ] {
        let told = "quota 'events' is keyed by the owner of its gate, and it is in no gate: give it a key";
        assert!(error.to_string().contains(told), "{error}");
    }
    assert!(quota.entries().is_empty() && keys(conn).await.is_empty());
}

#[vcache::test]
async fn a_time_zone_has_windows_of_its_own(conn: &mut Connection) {
    let quota = |zone: &str| {
        let quota = Quota::new(&zone.replace('/', "."), 5, Period::Day).unwrap().key(["org"]).unwrap();
        quota.timezone(zone).unwrap()
    };
    let mut resets = Vec::new();
    for zone in ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe"] {
        let decision = quota(zone).consume(conn, 1, 1).await.unwrap();
        assert!(decision.allowed, "{zone}");
        resets.push(decision.rules[0].reset_after.as_secs() / 900);
    }
    assert_ne!(resets[0], resets[1]);
    let error = Quota::new("events", 5, Period::Day).unwrap().timezone("Europe/Wien").unwrap_err();
    assert!(error.to_string().contains("\"Europe/Wien\""), "{error}");
}

#[vcache::test]
async fn a_refund_twice_is_a_refund_once(conn: &mut Connection) {
    let quota = quota(10);
    let receipt = quota.consume(conn, 1, 4).await.unwrap().receipt.unwrap();
    assert!(consume(&quota, conn, 6).await && !consume(&quota, conn, 1).await);
    let key = keys(conn).await.remove(0);
    let ends: i64 = cmd("PEXPIRETIME").arg(&key).query_async(conn).await.unwrap();
    for first in [true, false, false] {
        let refund = quota.refund(conn, &receipt).await.unwrap();
        assert_eq!((refund.refunded, refund.usage.len(), refund.usage[0].used), (first, 1, 6));
        assert_eq!(&*refund.usage[0].name, "events");
    }
    let after: i64 = cmd("PEXPIRETIME").arg(&key).query_async(conn).await.unwrap();
    assert_eq!(ends, after, "it ends when it did");
    assert!(consume(&quota, conn, 4).await && !consume(&quota, conn, 1).await);
}

#[vcache::test]
async fn a_refund_makes_no_key_and_goes_not_below_nothing(conn: &mut Connection) {
    let quota = quota(10);
    let one = quota.consume(conn, 1, 4).await.unwrap().receipt.unwrap();
    let two = quota.consume(conn, 1, 4).await.unwrap().receipt.unwrap();
    assert!(quota.reset(conn, 1).await.unwrap());
    assert!(consume(&quota, conn, 1).await);
    let refund = quota.refund(conn, &one).await.unwrap();
    assert_eq!((refund.refunded, refund.usage[0].used), (true, 0), "1 less 4");
    quota.reset(conn, 1).await.unwrap();
    let refund = quota.refund(conn, &two).await.unwrap();
    assert_eq!((refund.refunded, refund.usage[0].used), (false, 0), "there is nothing to give back");
    assert!(keys(conn).await.iter().all(|key| key.contains("}:r:")), "{:?}", keys(conn).await);
}

#[vcache::test]
async fn a_receipt_of_something_else_is_refused(conn: &mut Connection) {
    let quota = quota(10);
    let receipt = quota.consume(conn, "a,b.c:d", 2).await.unwrap().receipt.unwrap();
    assert!(receipt.as_str().is_ascii() && !receipt.as_str().contains(' '), "{receipt}");
    let mut elsewhere = patient();
    elsewhere.prefix = "elsewhere".into();
    let others = [
        Quota::new("other", 10, Period::Month).unwrap(),
        Quota::new("events", 10, Period::Month).unwrap().settings(elsewhere).unwrap(),
        Quota::new("events", 10, Period::Month).unwrap().key(["user"]).unwrap(),
        Quota::new("events", 10, Period::Month).unwrap().mode(Mode::CheckOnly),
    ];
    let before = everything(conn).await;
    for other in &others {
        let error = other.refund(conn, &receipt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("not of these quotas"), "{error}");
    }
    let forged: Receipt = receipt.as_str().replacen(".0.2.", ".7.2.", 1).parse().unwrap();
    assert!(quota.refund(conn, &forged).await.is_err(), "there is no shard 7");
    assert_eq!(everything(conn).await, before);
    let again: Receipt = receipt.to_string().parse().unwrap();
    assert!(quota.refund(conn, &again).await.unwrap().refunded);
}

#[vcache::test]
async fn many_at_once_get_exactly_the_limit(conn: &mut Connection) {
    let quota = quota(777);
    let admitted = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (conn, quota) = (conn.clone(), quota.clone());
                scope.spawn(move || {
                    vcache::block_on(async {
                        let mut admitted = 0;
                        for _ in 0..250 {
                            admitted += u32::from(consume(&quota, &conn, 1).await);
                        }
                        admitted
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    assert_eq!(admitted, 777);
    let metrics = quota.metrics();
    assert_eq!((metrics.admitted, metrics.refused), (777, 223));
}

#[test]
fn names_limits_and_words_that_are_none_are_told() {
    for (name, limit, text) in [("a:b", 1, "\"a:b\""), ("q", -2, "is -2"), ("q", (1 << 53) + 1, "2^53")] {
        let error = Quota::new(name, limit, Period::Day).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!("week".parse::<Period>().unwrap_err().to_string().contains("\"week\""));
    assert!("loose".parse::<Mode>().unwrap_err().to_string().contains("\"loose\""));
    assert_eq!("check_only".parse::<Mode>().unwrap(), Mode::CheckOnly);
}
