//! Calls that wait for a connection, or for room on it, with their bytes in hand.

use std::collections::VecDeque;
use std::time::Instant;

use super::in_flight::Entry;

/// Calls that wait at most; more are refused at once.
const MOST: usize = 65_536;
/// Bytes of those, at most.
const MOST_BYTES: usize = 256 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Calls given up since the queue was last cleared of such.
    abandoned: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a call may join the queue. One that is larger than all that may wait still may, alone.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        self.is_empty()
            || (self.len() < MOST && self.bytes.saturating_add(entry.packet.bytes.len()) <= MOST_BYTES)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.packet.bytes.len();
        self.entries.push_back(entry);
    }

    /// The next call, if it fits; those whose callers went away are let go.
    pub(super) fn next(&mut self, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
        while let Some(entry) = self.entries.front() {
            let wanted = entry.is_wanted();
            if wanted && !fits(entry) {
                return None;
            }
            let entry = self.entries.pop_front()?;
            self.bytes -= entry.packet.bytes.len();
            if wanted {
                return Some(entry);
            }
        }
        None
    }

    pub(super) fn take(&mut self) -> VecDeque<Entry> {
        self.bytes = 0;
        self.abandoned = 0;
        std::mem::take(&mut self.entries)
    }

    /// Takes out those for which `out` holds.
    pub(super) fn take_if(&mut self, out: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        for entry in self.take() {
            if out(&entry) {
                taken.push(entry);
            } else {
                self.push(entry);
            }
        }
        taken
    }

    /// A caller has gone away. Once many have, those of them that wait here are let go with their bytes.
    pub(super) fn abandoned(&mut self) {
        self.abandoned += 1;
        if self.abandoned > 16 && self.abandoned > self.len() / 2 {
            drop(self.take_if(|entry| !entry.is_wanted()));
        }
    }

    /// The earliest moment at which one is given up.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.waits_until).min()
    }
}
