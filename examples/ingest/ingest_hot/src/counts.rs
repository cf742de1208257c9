//! How many events were accepted and refused, over time.
//!
//! A counter on the server for each event would be another command for each. So this process adds them up, and has them
//! written together at most once a second, beside the question that the next request asks anyway: no further round trip.
//! Who reads them has this process's written first.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use vcache::{Connection, redis};

use crate::settings;

/// Seconds that are counted together.
pub const SLOT: u64 = 5;
/// Seconds for which counts are kept.
const KEPT: i64 = 3 * 3_600;
/// While the server is away no more than so many are kept here.
const MOST_PENDING: usize = 10_000;
/// The project that stands for all.
pub const ALL: u64 = 0;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is on the stream.
    Accepted,
    /// It had been accepted before.
    Duplicate,
    /// The project is over one of its limits.
    Limited,
    /// It was no event, or too large.
    Invalid,
    /// There was no room, or no server.
    Unavailable,
    /// The client has dropped it by itself.
    Dropped,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Limited => "limited",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Dropped => "dropped",
        }
    }
}

/// Project, slot, outcome.
type Place = (u64, u64, Outcome);

#[derive(Default)]
struct Pending {
    counts: HashMap<Place, u64>,
    /// When it was written last, in seconds since 1970.
    written: u64,
}

impl Pending {
    fn add(&mut self, place: Place, count: u64) {
        if self.counts.len() < MOST_PENDING || self.counts.contains_key(&place) {
            *self.counts.entry(place).or_default() += count;
        }
    }
}

static PENDING: Mutex<Option<Pending>> = Mutex::new(None);

fn pending() -> MutexGuard<'static, Option<Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Count events of a project.
pub fn count(project: u64, outcome: Outcome, events: u64) {
    if events == 0 {
        return;
    }
    let slot = now() / SLOT;
    let mut pending = pending();
    let pending = pending.get_or_insert_default();
    pending.add((project, slot, outcome), events);
    pending.add((ALL, slot, outcome), events);
}

/// Counts that are on their way to the server. They are pending again if they do not get there.
struct Taken {
    counts: HashMap<Place, u64>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.counts.is_empty() {
            return;
        }
        let mut pending = pending();
        let pending = pending.get_or_insert_default();
        for (place, count) in self.counts.drain() {
            pending.add(place, count);
        }
    }
}

/// Write what is pending, if that was done last a second ago or before.
pub async fn write_if_due(conn: &mut Connection) {
    let due = pending().as_ref().is_some_and(|pending| !pending.counts.is_empty() && pending.written < now());
    if due {
        // They stay pending, and the events do not wait for it.
        let _ = write(conn).await;
    }
}

/// Write what is pending.
///
/// # Errors
/// The connection's; the counts are pending again.
pub async fn write(conn: &mut Connection) -> vcache::Result<()> {
    let mut taken = {
        let mut pending = pending();
        let pending = pending.get_or_insert_default();
        pending.written = now();
        Taken { counts: std::mem::take(&mut pending.counts) }
    };
    if taken.counts.is_empty() {
        return Ok(());
    }
    let prefix = &settings::get()?.prefix;
    let mut pipe = redis::pipe();
    for ((project, slot, outcome), count) in &taken.counts {
        let key = key(prefix, *project, slot * SLOT / 60);
        pipe.hincr(&key, format!("{}:{}", slot * SLOT % 60, outcome.as_str()), *count).ignore();
        pipe.expire(&key, KEPT).ignore();
    }
    let () = pipe.query_async(conn).await?;
    taken.counts.clear();
    Ok(())
}

/// The counts of a project in each of `minutes` from `first`, both in minutes since 1970: the second since 1970 at which a
/// slot begins, what became of the events, and how many they were.
///
/// # Errors
/// The connection's.
pub async fn read(
    conn: &mut Connection,
    project: u64,
    first: u64,
    minutes: u64,
) -> vcache::Result<Vec<(u64, String, u64)>> {
    let prefix = &settings::get()?.prefix;
    let mut pipe = redis::pipe();
    for minute in first..first + minutes {
        pipe.hgetall(key(prefix, project, minute));
    }
    let found: Vec<HashMap<String, u64>> = pipe.query_async(conn).await?;
    let mut counts = Vec::new();
    for (minute, slots) in (first..).zip(found) {
        for (field, count) in slots {
            if let Some((second, outcome)) = field.split_once(':')
                && let Ok(second) = second.parse::<u64>()
            {
                counts.push((minute * 60 + second, outcome.to_owned(), count));
            }
        }
    }
    Ok(counts)
}

fn key(prefix: &str, project: u64, minute: u64) -> String {
    format!("{prefix}counts:{project}:{minute}")
}
