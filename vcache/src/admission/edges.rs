//! Quotas at the edges of their windows, on a server whose time the test sets: the client's calendar, the bounds that
//! it sends, the script's look at them, and the key of the counter, together.

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;

use super::{Gate, Period, Quota, Settings};
use crate::testing::Server;
use crate::{Connection, block_on};

/// The microsecond at which it is midnight in a zone.
fn midnight(zone: &str, year: i16, month: i8, day: i8) -> i64 {
    date(year, month, day).to_zoned(TimeZone::get(zone).unwrap()).unwrap().timestamp().as_microsecond()
}

fn hours(hours: i64) -> i64 {
    hours * 3_600_000_000
}

/// What a limit of 2 says when it is asked three times in a row: how often yes, and the microseconds until the window's
/// end that each time is told.
fn admitted(quota: &Quota, conn: &Connection, now: i64) -> (usize, i64) {
    block_on(async {
        let mut writer = conn.clone();
        writer.set::<_, _, ()>("{clock}", now).await.unwrap();
        let mut allowed = 0;
        let mut left = 0;
        for _ in 0..3 {
            let decision = quota.consume(conn, 1, 1).await.unwrap();
            allowed += usize::from(decision.allowed);
            left = i64::try_from(decision.rules[0].reset_after.as_micros()).unwrap();
        }
        (allowed, left)
    })
}

#[test]
fn a_window_ends_at_its_edge_to_the_microsecond_and_the_next_is_as_long_as_the_calendar_says() {
    let server = Server::start();
    let conn = server.connection();
    let settings = Settings { deadline: None, deny_cache: false, ..Settings::default() };
    let (day, month) = (Period::Day, Period::Month);
    for (name, zone, period, edge, hours_before, hours_after) in [
        // The clock is set forward on the 29th at 2 o'clock, and back on the 25th of October at 3.
        ("a", "Europe/Vienna", day, (2026, 3, 29), 24, 23),
        ("b", "Europe/Vienna", day, (2026, 3, 30), 23, 24),
        ("c", "Europe/Vienna", day, (2026, 10, 26), 25, 24),
        ("d", "America/New_York", day, (2026, 3, 9), 23, 24),
        ("e", "America/New_York", day, (2026, 11, 1), 24, 25),
        ("f", "America/New_York", month, (2026, 4, 1), 31 * 24 - 1, 30 * 24),
        ("g", "Asia/Kolkata", day, (2026, 12, 31), 24, 24),
        ("h", "Asia/Kolkata", month, (2027, 1, 1), 31 * 24, 31 * 24),
        ("i", "UTC", month, (2028, 3, 1), 29 * 24, 31 * 24),
    ] {
        let quota = Quota::new(name, 2, period).unwrap().key(["org"]).unwrap().timezone(zone).unwrap();
        let quota = quota.settings(settings.clone()).unwrap();
        let edge = midnight(zone, edge.0, edge.1, edge.2);
        assert_eq!(
            admitted(&quota, &conn, edge - hours(hours_before)),
            (2, hours(hours_before)),
            "{name}: its start"
        );
        assert_eq!(admitted(&quota, &conn, edge - 1), (0, 1), "{name}: its last microsecond");
        assert_eq!(admitted(&quota, &conn, edge), (2, hours(hours_after)), "{name}: the next begins");
        assert_eq!(admitted(&quota, &conn, edge + hours(hours_after) - 1), (0, 1), "{name}: and ends");
        assert_eq!(admitted(&quota, &conn, edge + hours(hours_after)).0, 2, "{name}: the one after");
    }
}

#[test]
fn half_an_hour_of_daylight_saving_is_a_window_of_its_own() {
    let server = Server::start();
    let conn = server.connection();
    let settings = Settings { deadline: None, deny_cache: false, ..Settings::default() };
    let quota = Quota::new("events", 2, Period::Hour)
        .unwrap()
        .key(["org"])
        .unwrap()
        .timezone("Australia/Lord_Howe")
        .unwrap()
        .settings(settings);
    let quota = quota.unwrap();
    // On the 5th of April 2026 at 2 o'clock the clock is set back to half past one.
    let change = "2026-04-04T15:00:00Z".parse::<Timestamp>().unwrap().as_microsecond();
    assert_eq!(admitted(&quota, &conn, change - hours(1)), (2, hours(1)));
    assert_eq!(admitted(&quota, &conn, change - 1), (0, 1));
    assert_eq!(admitted(&quota, &conn, change), (2, hours(1) / 2));
    assert_eq!(admitted(&quota, &conn, change + hours(1) / 2 - 1), (0, 1));
    assert_eq!(admitted(&quota, &conn, change + hours(1) / 2), (2, hours(1)));
}

#[test]
fn a_receipt_is_refunded_in_the_window_that_it_was_charged_in_though_another_has_begun() {
    let server = Server::start();
    let conn = server.connection();
    let gate = Gate::builder()
        .settings(Settings { deadline: None, deny_cache: false, ..Settings::default() })
        .owner("org")
        .quota(Quota::new("events", 2, Period::Day).unwrap().timezone("Europe/Vienna").unwrap())
        .build()
        .unwrap();
    let edge = midnight("Europe/Vienna", 2026, 3, 29);
    block_on(async {
        let scope = super::Scope::new().with("org", 1);
        let mut writer = conn.clone();
        writer.set::<_, _, ()>("{clock}", edge - 1).await.unwrap();
        let receipt = gate.admit(&conn, super::Admission::new(&scope)).await.unwrap().receipt.unwrap();
        writer.set::<_, _, ()>("{clock}", edge).await.unwrap();
        assert_eq!(gate.admit(&conn, super::Admission::new(&scope)).await.unwrap().rules[0].used, 1);
        let refund = gate.refund(&conn, &receipt).await.unwrap();
        assert_eq!((refund.refunded, refund.usage[0].used), (true, 0), "yesterday's");
        let states = gate.peek(&conn, super::Admission::new(&scope)).await.unwrap();
        assert_eq!(states[0].used, 1, "today's is as it was");
    });
}
