//! Calendar windows: the hour, day or month of a time zone that a moment is in, as absolute bounds.
//!
//! Windows follow each other without a gap, so each moment is in exactly one, whatever is done to the clocks. A window is
//! told by its first second since 1970, which is part of its counter's key.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use super::keys::write_int;
use crate::error::{Error, Result};

/// A calendar window, in a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Period {
    /// From one full hour of the local clock to the next. Where the clock is changed a new window begins, so that none is
    /// longer than an hour.
    Hour,
    /// From the first moment of a local day to that of the next: 23 or 25 hours where the clock is changed.
    Day,
    /// From the first moment of a local month to that of the next.
    Month,
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            _ => Err(Error::value(format!(
                "{text:?} is not a quota's period: it is \"hour\", \"day\" or \"month\""
            ))),
        }
    }
}

/// From a second since 1970 until before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Window {
    pub(super) fn contains(self, second: i64) -> bool {
        self.start <= second && second < self.end
    }

    pub(super) fn seconds(self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }
}

/// The windows of a period in a time zone.
#[derive(Debug)]
pub(super) struct Calendar {
    period: Period,
    zone: TimeZone,
    /// The window that was asked for last, so that the calendar is looked at once a window. In one number, to be read and
    /// written in one go: its start, and its length in the lowest 24 bits, which is half a year. 0 is none.
    latest: AtomicU64,
}

const LENGTH_BITS: u32 = 24;

impl Clone for Calendar {
    fn clone(&self) -> Self {
        Self::new(self.period, self.zone.clone())
    }
}

/// The time zone of a name: the system's, or the one that was built in.
///
/// # Errors
/// `Value` if neither knows it.
pub(super) fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name)
        .or_else(|_| TimeZoneDatabase::bundled().get(name))
        .ok()
        .filter(|zone| !zone.is_unknown())
        .ok_or_else(|| {
            Error::value(format!(
                "there is no time zone {name:?}: give a name of the IANA database, such as \"UTC\" or \"Europe/Vienna\""
            ))
        })
}

impl Calendar {
    pub(super) const fn new(period: Period, zone: TimeZone) -> Self {
        Self { period, zone, latest: AtomicU64::new(0) }
    }

    pub(super) fn with_zone(&self, zone: TimeZone) -> Self {
        Self::new(self.period, zone)
    }

    /// What tells the window that begins then in a key: the hour, the day and the month may begin at the same moment.
    pub(super) fn write_start(&self, start: i64, out: &mut Vec<u8>) {
        out.push(self.letter());
        write_int(start, out);
    }

    /// The period's, in keys and in what a receipt is checked by.
    pub(super) fn letter(&self) -> u8 {
        match self.period {
            Period::Hour => b'h',
            Period::Day => b'd',
            Period::Month => b'm',
        }
    }

    /// The window that a second since 1970 is in.
    ///
    /// # Errors
    /// `Value` for a time that is in no calendar.
    pub(super) fn at(&self, second: i64) -> Result<Window> {
        let latest = unpack(self.latest.load(Ordering::Relaxed));
        if latest.contains(second) {
            return Ok(latest);
        }
        let window = self.look(second)?;
        if let Some(packed) = pack(window) {
            self.latest.store(packed, Ordering::Relaxed);
        }
        Ok(window)
    }

    /// The same of a time that is not now.
    ///
    /// # Errors
    /// As there.
    pub(super) fn look(&self, second: i64) -> Result<Window> {
        self.find(second).ok().filter(|window| window.contains(second)).ok_or_else(|| {
            Error::value(format!(
                "{second} s since 1970 is a time that has no calendar: are the clocks right?"
            ))
        })
    }

    fn find(&self, second: i64) -> Result<Window, jiff::Error> {
        let now = Timestamp::from_second(second)?;
        match self.period {
            Period::Hour => Ok(self.hour(now)),
            Period::Day => self.days(now, Ok, |date, count| date.checked_add(count.days())),
            Period::Month => self.days(
                now,
                |date| Ok(date.first_of_month()),
                |date, count| date.checked_add(count.months()),
            ),
        }
    }

    /// The hour of the local clock, unless that was changed within it.
    fn hour(&self, now: Timestamp) -> Window {
        let second = now.as_second();
        let offset = self.zone.to_offset(now);
        let past = (second + i64::from(offset.seconds())).rem_euclid(3_600);
        let (mut start, mut end) = (second - past, second - past + 3_600);
        // What changes no clock but only its name ends no window.
        let mut before = offset;
        for change in self.zone.following(now).take_while(|change| change.timestamp().as_second() < end) {
            if change.offset() != before {
                end = change.timestamp().as_second();
                break;
            }
            before = change.offset();
        }
        // One more second, because the change itself may be now.
        let Ok(next) = Timestamp::from_second(second + 1) else { return Window { start, end } };
        for change in self.zone.preceding(next).take_while(|change| change.timestamp().as_second() > start) {
            let at = change.timestamp();
            let earlier =
                Timestamp::from_second(at.as_second() - 1).map(|before| self.zone.to_offset(before));
            if earlier.is_ok_and(|earlier| earlier != change.offset()) {
                start = at.as_second();
                break;
            }
        }
        Window { start, end }
    }

    /// From the first moment of a date to that of another.
    fn days(
        &self,
        now: Timestamp,
        first: impl Fn(Date) -> Result<Date, jiff::Error>,
        step: impl Fn(Date, i64) -> Result<Date, jiff::Error>,
    ) -> Result<Window, jiff::Error> {
        let starts = |date: Date| -> Result<i64, jiff::Error> {
            Ok(date.to_zoned(self.zone.clone())?.timestamp().as_second())
        };
        let second = now.as_second();
        let mut date = first(self.zone.to_datetime(now).date())?;
        // A clock set back over midnight shows the day before once more.
        while second < starts(date)? {
            date = step(date, -1)?;
        }
        loop {
            let next = step(date, 1)?;
            let window = Window { start: starts(date)?, end: starts(next)? };
            if second < window.end {
                return Ok(window);
            }
            date = next;
        }
    }
}

fn pack(window: Window) -> Option<u64> {
    let start = u64::try_from(window.start).ok().filter(|start| *start < 1 << (64 - LENGTH_BITS))?;
    (window.seconds() < 1 << LENGTH_BITS).then_some(start << LENGTH_BITS | window.seconds())
}

fn unpack(packed: u64) -> Window {
    let start = i64::try_from(packed >> LENGTH_BITS).unwrap_or(0);
    let length = i64::try_from(packed & ((1 << LENGTH_BITS) - 1)).unwrap_or(0);
    Window { start, end: start + length }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONES: [&str; 4] = ["UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe"];

    fn calendar(period: Period, name: &str) -> Calendar {
        Calendar::new(period, zone(name).unwrap())
    }

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    /// Bounds as times of day in UTC.
    fn window(period: Period, zone: &str, at: &str) -> (String, String) {
        let window = calendar(period, zone).at(second(at)).unwrap();
        let text = |second| Timestamp::from_second(second).unwrap().to_string();
        (text(window.start), text(window.end))
    }

    fn bounds(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn a_day_ends_at_local_midnight() {
        for (zone, midnight) in [
            ("UTC", "2026-07-15T00:00:00Z"),
            ("Europe/Vienna", "2026-07-14T22:00:00Z"),
            ("America/New_York", "2026-07-15T04:00:00Z"),
            ("Australia/Lord_Howe", "2026-07-14T13:30:00Z"),
        ] {
            let calendar = calendar(Period::Day, zone);
            let midnight = second(midnight);
            let (before, after) = (calendar.at(midnight - 1).unwrap(), calendar.at(midnight).unwrap());
            assert_eq!(before, Window { start: midnight - 86_400, end: midnight }, "{zone}");
            assert_eq!(after, Window { start: midnight, end: midnight + 86_400 }, "{zone}");
            assert_eq!(calendar.at(midnight + 86_399).unwrap(), after, "{zone}");
        }
    }

    #[test]
    fn a_day_of_a_changed_clock_is_longer_or_shorter() {
        for (zone, at, hours) in [
            ("Europe/Vienna", "2026-03-29T12:00:00Z", 23.0),
            ("Europe/Vienna", "2026-10-25T12:00:00Z", 25.0),
            ("America/New_York", "2026-03-08T12:00:00Z", 23.0),
            ("America/New_York", "2026-11-01T12:00:00Z", 25.0),
            ("Australia/Lord_Howe", "2026-04-05T05:00:00Z", 24.5),
            ("Australia/Lord_Howe", "2026-10-04T05:00:00Z", 23.5),
            ("UTC", "2026-03-29T12:00:00Z", 24.0),
        ] {
            let window = calendar(Period::Day, zone).at(second(at)).unwrap();
            assert!((window.seconds() as f64 / 3_600.0 - hours).abs() < 1e-9, "{zone} {at}: {window:?}");
        }
    }

    #[test]
    fn a_month_is_the_local_calendars() {
        for (zone, at, start, end) in [
            ("UTC", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            // Its first local moments are still in UTC's month before.
            ("Europe/Vienna", "2026-02-28T23:30:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
            ("America/New_York", "2026-11-01T03:59:59Z", "2026-10-01T04:00:00Z", "2026-11-01T04:00:00Z"),
            ("America/New_York", "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-31T12:59:59Z", "2026-09-30T13:30:00Z", "2026-10-31T13:00:00Z"),
        ] {
            assert_eq!(window(Period::Month, zone, at), bounds(start, end), "{zone} {at}");
        }
    }

    #[test]
    fn an_hour_begins_with_the_local_clocks_hour() {
        for (zone, start, end) in [
            ("UTC", "2026-07-15T10:00:00Z", "2026-07-15T11:00:00Z"),
            ("Europe/Vienna", "2026-07-15T10:00:00Z", "2026-07-15T11:00:00Z"),
            ("Australia/Lord_Howe", "2026-07-15T09:30:00Z", "2026-07-15T10:30:00Z"),
            ("Asia/Kathmandu", "2026-07-15T10:15:00Z", "2026-07-15T11:15:00Z"),
        ] {
            assert_eq!(window(Period::Hour, zone, "2026-07-15T10:20:00Z"), bounds(start, end), "{zone}");
        }
    }

    #[test]
    fn an_hour_ends_where_the_clock_is_changed() {
        for (zone, at, start, end) in [
            // 1:00 to 2:00 comes twice.
            ("America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z"),
            ("America/New_York", "2026-11-01T06:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"),
            // 2:00 becomes 3:00.
            ("Europe/Vienna", "2026-03-29T00:59:59Z", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
            ("Europe/Vienna", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
            // 2:00 becomes 2:30, and the next hour begins half an hour later.
            ("Australia/Lord_Howe", "2026-10-03T15:29:59Z", "2026-10-03T14:30:00Z", "2026-10-03T15:30:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T16:00:00Z", "2026-10-03T16:00:00Z", "2026-10-03T17:00:00Z"),
            // 2:00 becomes 1:30 again.
            ("Australia/Lord_Howe", "2026-04-04T14:59:59Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:30:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z"),
        ] {
            assert_eq!(window(Period::Hour, zone, at), bounds(start, end), "{zone} {at}");
        }
    }

    #[test]
    fn days_without_a_midnight_and_days_that_were_left_out() {
        // At midnight the clock went to 1:00.
        assert_eq!(
            window(Period::Day, "America/Sao_Paulo", "2015-10-18T12:00:00Z"),
            bounds("2015-10-18T03:00:00Z", "2015-10-19T02:00:00Z")
        );
        // There was no 30 December.
        assert_eq!(
            window(Period::Day, "Pacific/Apia", "2011-12-30T09:59:59Z"),
            bounds("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z")
        );
        assert_eq!(
            window(Period::Day, "Pacific/Apia", "2011-12-30T10:00:00Z"),
            bounds("2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z")
        );
        // At midnight the clock went back to 23:00.
        assert_eq!(
            window(Period::Day, "America/Sao_Paulo", "2016-02-21T02:30:00Z"),
            bounds("2016-02-20T02:00:00Z", "2016-02-21T03:00:00Z")
        );
    }

    #[test]
    fn each_moment_is_in_one_window_and_windows_follow_each_other() {
        let (from, until) = (second("2025-12-30T00:00:00Z"), second("2027-01-03T00:00:00Z"));
        for name in
            ZONES.into_iter().chain(["Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu", "America/Havana"])
        {
            for period in [Period::Hour, Period::Day, Period::Month] {
                let calendar = calendar(period, name);
                let mut window = calendar.at(from).unwrap();
                while window.end < until {
                    assert!(window.seconds() > 0);
                    assert!(period != Period::Hour || window.seconds() <= 3_600, "{name} {window:?}");
                    for at in [
                        window.start,
                        window.start + 1,
                        i64::midpoint(window.start, window.end),
                        window.end - 1,
                    ] {
                        // By a calendar that remembers nothing.
                        assert_eq!(calendar.clone().at(at).unwrap(), window, "{name} {period:?} {at}");
                    }
                    let next = calendar.at(window.end).unwrap();
                    assert_eq!(next.start, window.end, "{name} {period:?}");
                    window = next;
                }
            }
        }
    }

    #[test]
    fn a_zone_that_is_not_there_is_told() {
        for name in ["Europe/Wien", "", "../etc/passwd", "Etc/Unknown", "CEST-2"] {
            let error = zone(name).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains("IANA"), "{error}");
        }
        assert!(zone("europe/vienna").is_ok(), "as the database itself, whatever the case");
    }

    #[test]
    fn the_zones_that_are_built_in_are_there() {
        let vienna = TimeZoneDatabase::bundled().get("Europe/Vienna").unwrap();
        let window = Calendar::new(Period::Day, vienna).at(second("2026-07-15T10:00:00Z")).unwrap();
        assert_eq!(window.start, second("2026-07-14T22:00:00Z"));
    }

    #[test]
    fn times_without_a_calendar_are_an_error() {
        let calendar = calendar(Period::Month, "UTC");
        for at in [i64::MIN, i64::MAX, 253_402_300_800_000] {
            assert!(calendar.at(at).unwrap_err().to_string().contains("clocks"));
        }
        // Before 1970 there is one, that is not remembered.
        assert!(calendar.at(-86_400).unwrap().contains(-86_400));
    }
}
