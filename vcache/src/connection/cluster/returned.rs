//! Calls that come back from a node unanswered, and what to do with each.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::sending::end;
use crate::connection::driver::Driver;
use crate::connection::in_flight::Entry;
use crate::connection::refusal::WhenRefused;
use crate::error::Error;

/// How often a call follows the word of a node that another one has its keys.
const MOST_REDIRECTS: u8 = 5;
/// After a refusal that passes, the first pause; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// A call that comes back.
pub(in crate::connection) struct Returned {
    pub(in crate::connection) entry: Box<Entry>,
    pub(in crate::connection) why: Why,
}

/// Why it comes back.
pub(in crate::connection) enum Why {
    /// The server refused it, and executed nothing of what it refused.
    Refused(Value),
    /// The connection was lost; the call was not sent, or may be sent again.
    Lost(Error),
    /// There is no connection, and no new one could be made.
    Unreachable(Error),
    /// The server that was reached is one of a cluster's, and perhaps not the right one.
    IsACluster,
}

/// A call that waits to be sent again, and the connection that it comes from.
pub(super) struct Held {
    pub(super) entry: Box<Entry>,
    pub(super) from: Arc<Driver>,
    /// What its caller gets if it waits in vain.
    pub(super) error: Option<Error>,
}

impl Held {
    /// Ends it with what is known.
    pub(super) fn end(self) {
        let Self { mut entry, error, .. } = self;
        let result = match (entry.refusal.take(), error) {
            (Some(refusal), None) => Ok(refusal),
            (_, Some(error)) => Err(error),
            (None, None) => Err(Error::timeout(match entry.slot {
                Some(slot) => format!(
                    "no node of the cluster served slot {slot} while the call waited; it was not executed (CLUSTER SLOTS \
                     tells which nodes serve which slots)"
                ),
                None => {
                    "no node of the cluster was found while the call waited; it was not executed".to_owned()
                }
            })),
        };
        end(*entry, result);
    }
}

impl Entry {
    /// Counts one more redirect; false if there were too many.
    pub(super) fn may_follow(&mut self) -> bool {
        self.redirects += 1;
        self.redirects <= MOST_REDIRECTS
    }

    /// How long to wait before it is sent again.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(8)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        pause
    }
}

/// Where an error reply sends a call: the slot, the host (none: the node that says so) and the port.
pub(super) fn target(reply: &Value) -> Option<(u16, Option<String>, u16)> {
    let Value::ServerError(error) = reply else { return None };
    let mut words = error.details()?.split(' ');
    let slot = words.next()?.parse().ok().filter(|slot| *slot < super::key_slot::SLOTS)?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((slot, (!host.is_empty() && host != "?").then(|| host.to_owned()), port.parse().ok()?))
}

/// The reply among these that says what to do.
pub(super) fn telling(replies: &[Value]) -> Option<(WhenRefused, &Value)> {
    replies.iter().find_map(|reply| Some((WhenRefused::in_a_cluster(reply)?, reply)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_names_a_slot_and_a_node() {
        let of = |line: &str| target(&redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap());
        assert_eq!(of("MOVED 3999 127.0.0.1:6381"), Some((3999, Some("127.0.0.1".to_owned()), 6381)));
        assert_eq!(of("ASK 1 n1.example:7000"), Some((1, Some("n1.example".to_owned()), 7000)));
        assert_eq!(of("MOVED 3999 [::1]:6381"), Some((3999, Some("::1".to_owned()), 6381)));
        assert_eq!(of("MOVED 3999 ::1:6381"), Some((3999, Some("::1".to_owned()), 6381)));
        assert_eq!(of("MOVED 3999 :6381"), Some((3999, None, 6381)));
        for wrong in ["MOVED", "MOVED 16384 a:1", "MOVED x a:1", "MOVED 1 a", "MOVED 1 a:x"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
