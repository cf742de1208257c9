//! A throttle alone.

use std::time::Duration;

use vcache::ErrorKind;
use vcache::admission::{Outage, Rate, RuleKind, Scope, Source, Subject, Throttle, allow};
use vcache::prelude::*;
use vcache::testing::Server;

use crate::{everything, keys, patient, refused_by, scripts_run};

/// Nothing flows back into it while a test runs.
fn throttle() -> Throttle {
    let mut settings = patient();
    settings.deny_cache = false;
    Throttle::new("org", "10/d").unwrap().settings(settings).unwrap()
}

#[vcache::test]
async fn exactly_the_burst_passes_and_what_is_left_is_told(conn: &mut Connection) {
    let throttle = throttle();
    for left in (0..10).rev() {
        let decision = throttle.check(conn, 1, 1).await.unwrap();
        assert!(decision.allowed && decision.source == Source::Server);
        assert_eq!((decision.rules.len(), decision.rules[0].remaining), (1, Some(left)));
        assert_eq!(
            (decision.retry_after, decision.never(), decision.status()),
            (Some(Duration::ZERO), false, 200)
        );
    }
    let refused = throttle.check(conn, 1, 1).await.unwrap();
    assert!(!refused.allowed);
    assert_eq!((refused_by(&refused), refused.status()), (Some(("org", RuleKind::Throttle)), 429));
    let (unit, full) = (Duration::from_secs(8_640), Duration::from_secs(86_400));
    assert!(refused.retry_after.is_some_and(|wait| wait > unit / 2 && wait <= unit));
    let state = &refused.rules[0];
    assert_eq!((state.limit, state.burst, state.remaining, state.window), (10, 10, Some(0), full));
    assert!(state.reset_after > full - unit && state.reset_after <= full);
    assert_eq!(refused.receipt, None, "there is nothing to refund");
}

#[vcache::test]
async fn a_burst_of_its_own_is_what_passes_at_once(conn: &mut Connection) {
    for (burst, passes) in [(3, 3), (25, 25)] {
        let throttle = throttle().burst(burst).unwrap();
        throttle.reset(conn, 1).await.unwrap();
        let mut passed = 0;
        while throttle.check(conn, 1, 1).await.unwrap().allowed {
            passed += 1;
        }
        assert_eq!(passed, passes);
    }
}

#[vcache::test]
async fn a_refused_call_leaves_the_key_as_it_was(conn: &mut Connection) {
    let throttle = throttle();
    throttle.check(conn, 1, 8).await.unwrap();
    let before = everything(conn).await;
    for cost in [3, 10, 11, 1_000_000, 1 << 53] {
        assert!(!throttle.check(conn, 1, cost).await.unwrap().allowed, "{cost}");
    }
    assert_eq!(everything(conn).await, before);
    assert!(throttle.check(conn, 1, 2).await.unwrap().allowed);
}

#[vcache::test]
async fn a_cost_above_the_burst_never_passes(conn: &mut Connection) {
    let refused = throttle().check(conn, 1, 11).await.unwrap();
    assert_eq!((refused.allowed, refused.retry_after), (false, None));
    assert_eq!(refused.rules[0].remaining, Some(10), "nothing was charged");
    assert!(keys(conn).await.is_empty());
}

#[vcache::test]
async fn a_cost_of_nothing_asks_and_writes_nothing(conn: &mut Connection) {
    let throttle = throttle();
    assert!(throttle.check(conn, 1, 0).await.unwrap().allowed);
    assert!(keys(conn).await.is_empty());
    throttle.check(conn, 1, 10).await.unwrap();
    let before = everything(conn).await;
    let asked = throttle.check(conn, 1, 0).await.unwrap();
    assert!(!asked.allowed && asked.retry_after.is_some(), "it is used up");
    assert_eq!(everything(conn).await, before);
}

#[vcache::test]
async fn costs_that_are_none_are_told_before_anything_is_sent(conn: &mut Connection, server: &mut Server) {
    server.kill();
    for cost in [-1, i64::MIN, (1 << 53) + 1, i64::MAX] {
        let error = throttle().check(conn, 1, cost).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains(&cost.to_string()), "{error}");
    }
}

#[vcache::test]
async fn a_limit_of_nothing_and_no_limit_need_no_server(conn: &mut Connection, server: &mut Server) {
    server.kill();
    let nothing = Throttle::new("org", "0/s").unwrap();
    let refused = nothing.check(conn, 1, 1).await.unwrap();
    assert_eq!((refused.allowed, refused.retry_after, refused.source), (false, None, Source::Settings));
    assert_eq!((refused.rules[0].limit, refused.rules[0].remaining), (0, Some(0)));
    assert!(!nothing.check(conn, 1, 0).await.unwrap().allowed);
    assert_eq!(nothing.peek(conn, 1).await.unwrap().remaining, Some(0));
    let unlimited = Throttle::new("org", "-1/s").unwrap();
    let admitted = unlimited.check(conn, 1, 1 << 53).await.unwrap();
    assert_eq!((admitted.allowed, admitted.source), (true, Source::Settings));
    assert_eq!((admitted.rules[0].limit, admitted.rules[0].remaining), (-1, None));
    assert!(admitted.headers(true).is_empty());
    assert_eq!((nothing.metrics().refused, unlimited.metrics().admitted), (2, 1));
    for throttle in [nothing, unlimited] {
        let error = throttle.check(conn, &Scope::new().with("user", 1), 1).await.unwrap_err();
        assert!(error.to_string().contains("\"org\""), "it is still told what is missing: {error}");
    }
}

#[vcache::test]
async fn values_do_not_share_a_budget_and_a_number_is_its_text(conn: &mut Connection) {
    let throttle = throttle();
    for value in ["1", "2", "a:b", "a%3Ab", "{x}", "clé 🔑", "new\nline", "\0", "*", "a/b?c"] {
        assert!(throttle.check(conn, value, 10).await.unwrap().allowed, "{value}");
        assert!(!throttle.check(conn, value, 1).await.unwrap().allowed, "{value}");
    }
    assert!(!throttle.check(conn, 1, 1).await.unwrap().allowed);
    assert!(!throttle.check(conn, &Scope::new().with("user", 5).with("org", 1), 1).await.unwrap().allowed);
    let keys = keys(conn).await;
    assert!(keys.contains(&"vcache:2:{v00}:t:org:org=1".to_owned()), "{keys:?}");
    assert!(keys.contains(&"vcache:2:{v00}:t:org:org=a%3Ab".to_owned()), "{keys:?}");
    assert!(keys.contains(&"vcache:2:{v00}:t:org:org=clé%20🔑".to_owned()), "{keys:?}");
}

#[vcache::test]
async fn values_that_cannot_be_keys_are_told(conn: &mut Connection) {
    let long = "x".repeat(513);
    for (subject, text) in [
        (Subject::from(""), "the scope's \"org\" is empty"),
        (Subject::from(long.as_str()), "too long"),
        (Subject::from(&Scope::new()), "throttle 'org' is keyed by \"org\", but the scope is empty"),
        (
            Subject::from(&Scope::new().with("user", 1).with("ip", 2)),
            "but the scope has only \"user\", \"ip\"",
        ),
        (Subject::from(&Scope::new().with("org", 1).with("org", 2)), "\"org\" twice"),
    ] {
        let error = throttle().check(conn, subject, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(keys(conn).await.is_empty());
}

#[vcache::test]
async fn a_key_of_several_entries_needs_them_all(conn: &mut Connection) {
    let throttle = throttle().key(["user", "ip"]).unwrap();
    let scope = Scope::new().with("ip", "::1").with("user", 7).with("more", "x");
    assert!(throttle.check(conn, &scope, 1).await.unwrap().allowed);
    assert_eq!(keys(conn).await, ["vcache:2:{v00}:t:org:ip=%3A%3A1:user=7"]);
    for subject in [Subject::from(7), Subject::from(&Scope::new().with("user", 7))] {
        let error = throttle.check(conn, subject, 1).await.unwrap_err().to_string();
        assert!(
            error.contains("\"ip\" and \"user\": give a scope") || error.contains("keyed by \"ip\", but"),
            "{error}"
        );
    }
    let renamed = super::throttle::throttle().key(["ip"]).unwrap();
    assert!(
        renamed.check(conn, "10.0.0.1", 1).await.unwrap().allowed,
        "a bare value is that of the one entry"
    );
}

#[vcache::test]
async fn a_rate_of_the_call_keeps_what_is_owed(conn: &mut Connection) {
    let throttle = Throttle::per_call("org").unwrap();
    let rate = |text: &str| text.parse::<Rate>().unwrap();
    assert!(throttle.check(conn, 1, 1).await.unwrap_err().to_string().contains("no fixed rate"));
    assert!(throttle.check_at(conn, 1, 8, rate("10/d")).await.unwrap().allowed);
    assert!(!throttle.check_at(conn, 1, 3, rate("10/d")).await.unwrap().allowed);
    let raised = throttle.check_at(conn, 1, 3, rate("20/d")).await.unwrap();
    assert_eq!((raised.allowed, raised.rules[0].remaining), (true, Some(9)), "8 and 3 of 20");
    let lowered = throttle.check_at(conn, 1, 1, rate("5/d")).await.unwrap();
    assert_eq!((lowered.allowed, lowered.rules[0].remaining), (false, Some(0)));
    assert_eq!(throttle.peek_at(conn, 1, rate("20/d")).await.unwrap().remaining, Some(9));
    assert!(throttle.check_at(conn, 1, 1, rate("-1/d")).await.unwrap().allowed);
}

#[vcache::test]
async fn a_peek_changes_nothing_and_a_reset_forgets(conn: &mut Connection) {
    let throttle = throttle();
    assert_eq!(throttle.peek(conn, 1).await.unwrap().remaining, Some(10));
    assert!(keys(conn).await.is_empty());
    throttle.check(conn, 1, 4).await.unwrap();
    let before = everything(conn).await;
    let state = throttle.peek(conn, 1).await.unwrap();
    assert_eq!((state.remaining, &*state.name, state.kind), (Some(6), "org", RuleKind::Throttle));
    assert!(state.reset_after > Duration::from_secs(30_000));
    assert_eq!(everything(conn).await, before);
    assert!(throttle.reset(conn, 1).await.unwrap());
    assert!(!throttle.reset(conn, 1).await.unwrap(), "there was nothing");
    assert_eq!(throttle.peek(conn, 1).await.unwrap().remaining, Some(10));
}

#[test]
fn names_rates_and_bursts_that_are_none_are_told() {
    for (made, text) in [
        (Throttle::new("a b", "1/s"), "\"a b\" is not a name"),
        (Throttle::new("", "1/s"), "\"\" is not a name"),
        (Throttle::new("org", "1"), "\"1\" is not a rate"),
        (Throttle::new("org", "1/s").unwrap().burst(0), "burst of throttle 'org' is 0"),
        (Throttle::new("org", "1/d").unwrap().burst(u64::MAX), "too large"),
        (Throttle::new("org", "1/d").unwrap().burst(1 << 40), "too large"),
        (Throttle::new("org", "1/s").unwrap().key([""; 0]), "names no entry"),
        (Throttle::new("org", "1/s").unwrap().key(["a", "a"]), "\"a\" twice"),
        (Throttle::new("org", "1/s").unwrap().key(["a:b"]), "\"a:b\" is not a name"),
    ] {
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[vcache::test]
async fn one_check_is_one_script(conn: &mut Connection) {
    let throttle = throttle();
    throttle.check(conn, 1, 1).await.unwrap();
    let before = scripts_run(conn).await;
    for _ in 0..5 {
        throttle.check(conn, 1, 1).await.unwrap();
    }
    assert_eq!(scripts_run(conn).await - before, 5);
}

#[vcache::test]
async fn a_forgotten_script_is_brought_again(conn: &mut Connection) {
    let throttle = throttle();
    for left in (4..10).rev() {
        let () = vcache::redis::cmd("SCRIPT").arg("FLUSH").query_async(conn).await.unwrap();
        assert_eq!(throttle.check(conn, 1, 1).await.unwrap().rules[0].remaining, Some(left));
    }
}

#[vcache::test]
async fn a_key_that_holds_something_else_is_told_and_the_outage_policy_decides(conn: &mut Connection) {
    let () = conn.rpush("vcache:2:{v00}:t:org:org=1", "x").await.unwrap();
    let () = conn.set("vcache:2:{v00}:t:org:org=2", "x").await.unwrap();
    for (org, code) in [(1, "WRONGTYPE"), (2, "FOREIGN")] {
        let decision = throttle().check(conn, org, 1).await.unwrap();
        assert_eq!((decision.allowed, decision.source), (true, Source::Outage));
        let told = decision.outage.unwrap();
        assert_eq!(told.code(), Some(code));
        let key = format!("one of its keys (vcache:2:{{v00}}:t:org:org={org}) holds another program's value");
        assert!(told.to_string().contains(&key), "{told}");
        let closed = throttle().outage(Outage::Closed).check(conn, org, 1).await.unwrap();
        assert_eq!((closed.allowed, closed.status()), (false, 503));
        let error = throttle().outage(Outage::Raise).check(conn, org, 1).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Response, Some(code)), "{error}");
    }
    for _ in 0..10 {
        assert!(throttle().check(conn, 1, 1).await.unwrap().allowed);
    }
    assert!(throttle().check(conn, 3, 1).await.unwrap().source == Source::Server, "no breaker opens");
}

#[vcache::test]
async fn what_flows_back_passes_again(conn: &mut Connection) {
    let throttle = Throttle::new("org", "20/s").unwrap().burst(20).unwrap().settings(patient()).unwrap();
    assert!(throttle.check(conn, 1, 20).await.unwrap().allowed);
    // A second's worth is owed: however slow the machine, this comes before all of it has flown back.
    let decision = throttle.check(conn, 1, 20).await.unwrap();
    assert!(!decision.allowed);
    let wait = decision.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(1));
    std::thread::sleep(wait);
    assert!(throttle.check(conn, 1, 20).await.unwrap().allowed, "after the wait that was told");
}

#[vcache::test]
async fn allow_is_a_throttle_under_a_key_of_the_callers_own(conn: &mut Connection) {
    let answer = allow(conn, "mine", 5, 3_600.0, 3).await.unwrap();
    assert_eq!((answer.allowed, answer.remaining, answer.retry_after), (true, 2, Some(Duration::ZERO)));
    let answer = allow(conn, "mine", 5, 3_600.0, 3).await.unwrap();
    assert!(!answer.allowed && answer.retry_after.is_some_and(|wait| wait <= Duration::from_secs(720)));
    assert_eq!(allow(conn, "mine", 5, 3_600.0, 6).await.unwrap().retry_after, None);
    assert!(allow(conn, "mine", 5, 3_600.0, 2).await.unwrap().allowed);
    let asked = allow(conn, "mine", 5, 3_600.0, 0).await.unwrap();
    assert_eq!((asked.allowed, asked.remaining), (false, 0), "it is used up");
    assert!(asked.retry_after.is_some_and(|wait| !wait.is_zero() && wait <= Duration::from_secs(720)));
    assert!(allow(conn, "another", 5, 3_600.0, 0).await.unwrap().allowed);
    assert_eq!(keys(conn).await, ["mine"]);
}
