//! What is to be done with a packet that the server refused unexecuted. It may then be sent again, whatever is in it.

use redis::Value;

use super::command::Packet;
use super::policy::Taken;

/// What an error reply asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenRefused {
    /// The error names the node that has the keys, from now on.
    Moved,
    /// The error names the node that has the keys already, for this packet alone, behind an `ASKING`.
    Asked,
    /// The server is a replica: the primary is elsewhere.
    NotPrimary,
    /// The server cannot answer yet: the same again, after a while.
    NotYet,
    /// The server does not know the script: again, with its text.
    UnknownScript,
}

impl WhenRefused {
    fn of(reply: &Value) -> Option<Self> {
        let Value::ServerError(error) = reply else { return None };
        let when = match error.code() {
            "MOVED" => Self::Moved,
            "ASK" => Self::Asked,
            "READONLY" => Self::NotPrimary,
            "LOADING" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" => Self::NotYet,
            // It was blocked, and the server is a replica now.
            "UNBLOCKED" if error.details().is_some_and(|details| details.contains("state changed")) => {
                Self::NotPrimary
            }
            "NOSCRIPT" => Self::UnknownScript,
            _ => return None,
        };
        // An error that a script ran into, which may have written before. A replica has let it write nothing.
        let is_inside = error.details().is_some_and(|details| details.contains(" script: "));
        (!is_inside || when == Self::NotPrimary).then_some(when)
    }
}

#[cfg(feature = "driver")]
impl WhenRefused {
    /// The same in a cluster, where an error of a script says as much of where its keys are.
    pub(super) fn in_a_cluster(reply: &Value) -> Option<Self> {
        Self::of(reply).filter(|when| *when != Self::UnknownScript)
    }
}

impl Packet {
    /// What is to be done with it after these replies, if one says that the server has not executed it.
    ///
    /// Of a transaction, nothing was executed if its `EXEC` failed. Of a pipeline something was, unless each of its commands was
    /// refused, so all of it can go again only if it may be repeated.
    pub(crate) fn when_refused(&self, replies: &[Value]) -> Option<WhenRefused> {
        let first = replies.iter().find_map(WhenRefused::of)?;
        let unexecuted = if self.is_transaction() {
            matches!(replies.last(), Some(Value::ServerError(_)))
        } else {
            replies.iter().all(|reply| WhenRefused::of(reply).is_some())
        };
        (unexecuted || self.repeatable).then_some(first)
    }

    /// Whether it is one transaction and nothing else.
    fn is_transaction(&self) -> bool {
        let mut commands = self.commands().map(|(policy, _)| policy.taken);
        matches!(commands.next(), Some(Taken::Begins))
            && commands.position(|taken| matches!(taken, Taken::Ends)) == self.replies.checked_sub(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    fn packet(commands: &[&str]) -> Packet {
        let mut packet = Packet::pipeline();
        for name in commands {
            packet.then(name, 0);
        }
        packet
    }

    #[test]
    fn one_command_that_was_refused_is_sent_again() {
        for (line, expected) in [
            ("MOVED 3999 127.0.0.1:6381", Some(WhenRefused::Moved)),
            ("ASK 3999 127.0.0.1:6381", Some(WhenRefused::Asked)),
            ("READONLY You can't write against a read only replica.", Some(WhenRefused::NotPrimary)),
            ("LOADING Valkey is loading the dataset in memory", Some(WhenRefused::NotYet)),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Some(WhenRefused::NotYet)),
            ("CLUSTERDOWN The cluster is down", Some(WhenRefused::NotYet)),
            ("MASTERDOWN Link with MASTER is down", Some(WhenRefused::NotYet)),
            ("NOSCRIPT No matching script.", Some(WhenRefused::UnknownScript)),
            ("WRONGTYPE Operation against a key", None),
            ("ERR MOVED", None),
            ("OOM command not allowed", None),
            ("CLUSTERDOWN Hash slot not served script: abc, on @user_script:1.", None),
            ("READONLY You can't write script: abc, on @user_script:1.", Some(WhenRefused::NotPrimary)),
        ] {
            assert_eq!(packet(&["INCR"]).when_refused(&[error(line)]), expected, "{line}");
        }
        assert_eq!(packet(&["GET"]).when_refused(&[Value::Nil]), None);
    }

    #[test]
    fn a_pipeline_is_sent_again_if_nothing_of_it_was_executed_or_it_may_be_repeated() {
        let moved = || error("MOVED 1 a:1");
        let both = [moved(), error("ASK 1 a:1")];
        let one = [Value::Int(1), moved()];
        assert_eq!(packet(&["INCR", "INCR"]).when_refused(&both), Some(WhenRefused::Moved));
        assert_eq!(packet(&["INCR", "INCR"]).when_refused(&one), None);
        assert_eq!(packet(&["GET", "GET"]).when_refused(&one), Some(WhenRefused::Moved));
        assert_eq!(packet(&["INCR", "GET"]).repeatable(true).when_refused(&one), Some(WhenRefused::Moved));
    }

    #[test]
    fn a_transaction_is_sent_again_if_its_end_failed() {
        let transaction = packet(&["MULTI", "INCR", "INCR", "EXEC"]);
        let queued = || Value::SimpleString("QUEUED".into());
        let aborted = || error("EXECABORT Transaction discarded because of previous errors.");
        let refused = error("TRYAGAIN x");
        assert_eq!(
            transaction.when_refused(&[Value::Okay, queued(), refused, aborted()]),
            Some(WhenRefused::NotYet)
        );
        assert_eq!(
            transaction.when_refused(&[Value::Okay, queued(), queued(), error("MOVED 1 a:1")]),
            Some(WhenRefused::Moved)
        );
        assert_eq!(transaction.when_refused(&[Value::Okay, queued(), error("ERR unknown"), aborted()]), None);
        let done = Value::Array(vec![Value::Int(1), error("READONLY x")]);
        assert_eq!(transaction.when_refused(&[Value::Okay, queued(), queued(), done]), None);
        let two = packet(&["MULTI", "INCR", "EXEC", "MULTI", "INCR", "EXEC"]);
        let replies =
            [Value::Okay, queued(), Value::Array(vec![]), Value::Okay, error("MOVED 1 a:1"), aborted()];
        assert_eq!(two.when_refused(&replies), None, "the first was executed");
    }
}
