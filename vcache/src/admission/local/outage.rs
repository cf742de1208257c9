//! Which errors say that the server cannot be asked: it is not there, does not answer, or cannot serve now.

use crate::error::{Error, ErrorKind};

/// What scripts say of a key that holds something else than what belongs there, and what the server says of one of another type.
const FOREIGN: [&str; 2] = ["FOREIGN", "WRONGTYPE"];

/// Whether a key in the way is why nothing could be decided: an older format, or another program's.
pub(in crate::admission) fn is_foreign(error: &Error) -> bool {
    error.kind() == ErrorKind::Response && error.code().is_some_and(|code| FOREIGN.contains(&code))
}

/// The codes of errors by which a server says that it is there and cannot do its work: out of memory, busy, starting, a
/// replica, not safe to write to. For limits they are an outage.
pub const OUTAGE_CODES: [&str; 9] =
    ["OOM", "BUSY", "LOADING", "READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"];

pub(in crate::admission) fn is_outage(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connection | ErrorKind::Timeout => true,
        ErrorKind::Response => error.code().is_some_and(|code| OUTAGE_CODES.contains(&code)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Error {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() {
            redis::Value::ServerError(error) => Error::response(&error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_that_is_away_or_cannot_serve_is_an_outage() {
        assert!(is_outage(&Error::connection("lost")) && is_outage(&Error::timeout("no reply")));
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "LOADING Valkey is loading the dataset in memory",
            "BUSY Valkey is busy running a script.",
            "READONLY You can't write against a read only replica.",
            "MISCONF Valkey is configured to save RDB snapshots",
        ] {
            assert!(is_outage(&said(line)), "{line}");
        }
    }

    #[test]
    fn a_key_in_the_way_is_told_apart() {
        for line in ["WRONGTYPE Operation", "FOREIGN the key k holds something else than a counter"] {
            assert!(is_foreign(&said(line)) && !is_outage(&said(line)), "{line}");
        }
        assert!(!is_foreign(&said("ERR no")) && !is_foreign(&Error::connection("lost")));
    }

    #[test]
    fn what_the_caller_did_wrong_is_not() {
        for line in [
            "WRONGTYPE Operation",
            "ERR the cost is x",
            "NOPERM no",
            "NOAUTH no",
            "CROSSSLOT no",
            "NOSCRIPT no",
        ] {
            assert!(!is_outage(&said(line)), "{line}");
        }
        assert!(!is_outage(&Error::value("negative")) && !is_outage(&Error::configuration("alias")));
    }
}
