//! What this process sends, for tests that say how many round trips something takes. It is off unless a test asks, and
//! costs a call one look at a flag then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::command::Packet;
use crate::fork::PerProcess;
use crate::sync::lock;

static ON: AtomicBool = AtomicBool::new(false);

fn kept() -> &'static Mutex<Vec<RoundTrip>> {
    static KEPT: PerProcess<Mutex<Vec<RoundTrip>>> = PerProcess::new();
    KEPT.get(Mutex::default)
}

/// What was sent together, and is answered together. It holds no values, which may be secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundTrip {
    /// Whose connection it went over.
    pub alias: String,
    /// The commands' names, in capitals.
    pub commands: Vec<String>,
    /// The keys of all commands; none if they are not known of one of them.
    pub keys: Vec<Vec<u8>>,
}

/// Begins to record what all threads of this process send, or begins anew.
pub fn record_round_trips() {
    lock(kept()).clear();
    ON.store(true, Ordering::Release);
}

/// What was sent since [`record_round_trips`], the oldest first.
pub fn recorded_round_trips() -> Vec<RoundTrip> {
    lock(kept()).clone()
}

/// Ends the recording.
pub fn stop_recording_round_trips() {
    ON.store(false, Ordering::Release);
    lock(kept()).clear();
}

#[inline]
pub(super) fn note(alias: &str, packet: &Packet) {
    if ON.load(Ordering::Relaxed) {
        keep(alias, packet);
    }
}

#[cold]
fn keep(alias: &str, packet: &Packet) {
    let names = packet.commands().filter_map(|(_, mut words)| words.next());
    let round_trip = RoundTrip {
        alias: alias.to_owned(),
        commands: names.map(|name| String::from_utf8_lossy(name).to_uppercase()).collect(),
        keys: packet.keys().unwrap_or_default().into_iter().map(<[u8]>::to_vec).collect(),
    };
    lock(kept()).push(round_trip);
}
