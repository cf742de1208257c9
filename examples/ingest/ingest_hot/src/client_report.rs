//! What clients say that they have dropped by themselves: because they were told to slow down, or by their own settings.

use serde::Deserialize;

use crate::json;

/// A client's report names so many kinds at the most.
const MOST_KINDS: usize = 100;
/// More than a client can have dropped between two reports.
const MOST_DROPPED: u64 = 1_000_000;

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    discarded_events: Vec<Discarded>,
}

#[derive(Deserialize)]
struct Discarded {
    #[serde(default)]
    category: String,
    #[serde(default)]
    quantity: u64,
}

/// The errors that the client has dropped. A report that cannot be read says nothing: it is no reason to refuse the events
/// beside it.
pub fn dropped_errors(payload: &[u8]) -> u64 {
    let report = json::object::<Report>("the client report", payload);
    let discarded = report.map_or_else(|_| Vec::new(), |report| report.discarded_events);
    let errors = discarded.iter().take(MOST_KINDS).filter(|kind| kind.category == "error");
    errors.map(|kind| kind.quantity.min(MOST_DROPPED)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_whatever_the_reason() {
        let report = br#"{"timestamp": 1, "discarded_events": [
            {"reason": "ratelimit_backoff", "category": "error", "quantity": 3},
            {"reason": "sample_rate", "category": "transaction", "quantity": 5},
            {"reason": "queue_overflow", "category": "error", "quantity": 4}]}"#;
        assert_eq!(dropped_errors(report), 7);
    }

    #[test]
    fn nonsense_counts_for_nothing_and_a_boast_for_little() {
        for report in
            ["", "[]", "{", "{\"discarded_events\": 3}", "{\"discarded_events\": [{\"quantity\": -1}]}"]
        {
            assert_eq!(dropped_errors(report.as_bytes()), 0, "{report}");
        }
        let boast = br#"{"discarded_events": [{"category": "error", "quantity": 18446744073709551615}]}"#;
        assert_eq!(dropped_errors(boast), MOST_DROPPED);
    }
}
