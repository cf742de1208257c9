//! What is decided without the server: what it is known to refuse, what no process may ask of it, and what is said while it
//! cannot be asked. Everything here is per process and bounded, and nothing waits.
//!
//! | module | is for |
//! |---|---|
//! | [`deny`] | refusals that still hold |
//! | [`bucket`] | limits that this process counts by itself: the guard, and the outage policy `local` |
//! | [`breaker`] | leaving a server alone that fails |
//! | [`outage`] | which errors are an outage |

use std::sync::atomic::{AtomicU64, Ordering};

pub(super) mod breaker;
pub(super) mod bucket;
pub(super) mod deny;
pub(super) mod outage;

/// Rules' keys that each of the tables remembers, of all gates of the process together.
const MOST_KEYS: usize = 10_000;

/// How often everything was forgotten: what a call learns that began before is not remembered.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
/// How often it was also forgotten which servers fail.
static RESET: AtomicU64 = AtomicU64::new(0);

/// Forgets what this process has refused, and what it has counted by itself, for all gates: their counters on the server
/// were deleted.
pub fn forget_refusals() {
    FORGOTTEN.fetch_add(1, Ordering::AcqRel);
    deny::forget_all();
    bucket::forget_all();
}

/// Forgets the same, and which servers fail: the aliases have got others.
pub fn forget_servers() {
    RESET.fetch_add(1, Ordering::AcqRel);
    forget_refusals();
}

/// How often everything was forgotten.
pub(super) fn forgotten() -> u64 {
    FORGOTTEN.load(Ordering::Acquire)
}

/// What a rule's key is known by in this process: the gate's number, and the key on the server.
pub(super) fn key(
    gate: u64,
    write: impl FnOnce(&mut Vec<u8>) -> crate::Result<()>,
) -> crate::Result<Vec<u8>> {
    let mut key = Vec::with_capacity(64);
    key.extend_from_slice(&gate.to_ne_bytes());
    write(&mut key)?;
    Ok(key)
}

/// The same of a key that is written already.
pub(super) fn key_of(gate: u64, on_server: &[u8]) -> Vec<u8> {
    [&gate.to_ne_bytes(), on_server].concat()
}

/// The key on the server, of such a key.
pub(super) fn on_server(key: &[u8]) -> &[u8] {
    &key[size_of::<u64>()..]
}
