//! What was decided, for the program and for its client.

use std::sync::Arc;
use std::time::Duration;

use super::receipt::Receipt;
use crate::error::Error;

/// What kind of rule it is; as a refusal's, what refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "driver", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RuleKind {
    /// A [`Throttle`](super::Throttle).
    Throttle,
    /// A [`Quota`](super::Quota).
    Quota,
    /// A [`Stream`](super::Stream), which is full.
    Stream,
    /// The server could not be asked: the rule's policy refused, or there was a payload to store.
    Outage,
}

impl RuleKind {
    /// `"throttle"`, `"quota"`, `"stream"` or `"outage"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::Quota => "quota",
            Self::Stream => "stream",
            Self::Outage => "outage",
        }
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "driver", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Source {
    /// The server.
    Server,
    /// The rules' own settings, without asking anybody: a limit of 0, or no limit.
    Settings,
    /// A refusal of the server's that still holds.
    DenyCache,
    /// This process's own guard.
    Guard,
    /// The outage policies: the server could not be asked.
    Outage,
    /// Limits are switched off: nothing was asked.
    Disabled,
}

impl Source {
    /// `"server"`, `"settings"`, `"deny_cache"`, `"guard"`, `"outage"` or `"disabled"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Settings => "settings",
            Self::DenyCache => "deny_cache",
            Self::Guard => "guard",
            Self::Outage => "outage",
            Self::Disabled => "disabled",
        }
    }
}

/// Which rule refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Refusal {
    /// The name of the rule or stream.
    pub rule: Arc<str>,
    /// Its kind, or [`RuleKind::Outage`].
    pub kind: RuleKind,
}

/// How a rule stands after a decision.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RuleState {
    /// The rule's name.
    pub name: Arc<str>,
    /// [`RuleKind::Throttle`] or [`RuleKind::Quota`].
    pub kind: RuleKind,
    /// Units in a window; -1 is no limit.
    pub limit: i64,
    /// Units that may go at once; of a quota, its limit.
    pub burst: i64,
    /// Units left, never below 0; `None` if there is no limit, and if it is not known: the server was not asked.
    pub remaining: Option<i64>,
    /// Of a quota, the units counted in the window so far, which may be more than the limit; of a throttle, 0.
    pub used: i64,
    /// Until everything is there again: a throttle's burst, or a quota's next window.
    pub reset_after: Duration,
    /// The length of the window.
    pub window: Duration,
}

/// What was decided. Of a refusal nothing was charged and nothing written.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Decision {
    /// Whether it may go on.
    pub allowed: bool,
    /// Whether the dedupe id was admitted before: nothing was charged or written now, `id` and `receipt` are the first's.
    pub duplicate: bool,
    /// The stream entry's id, if one was written.
    pub id: Option<String>,
    /// For a refund, if a quota was charged.
    pub receipt: Option<Receipt>,
    /// Which rule refused; of several, the one that takes longest.
    pub refused_by: Option<Refusal>,
    /// How long to wait until the same may be admitted: zero if it was, `None` if it never will be. When a full stream has
    /// room, and when an outage ends, is not known: then it is a second, or until the server is asked again.
    pub retry_after: Option<Duration>,
    /// Every rule, throttles first. What is not known, because the server was not asked, has no `remaining`.
    pub rules: Vec<RuleState>,
    /// Who decided.
    pub source: Source,
    /// Why the server could not be asked, if the outage policies decided.
    #[cfg_attr(feature = "driver", serde(with = "outage_text"))]
    pub outage: Option<Error>,
}

impl Decision {
    /// The HTTP status of the answer: 200; 429 if a rule refused; 503 if the stream is full, or if it was refused because of
    /// an outage.
    #[must_use]
    pub fn status(&self) -> u16 {
        match &self.refused_by {
            None => 200,
            Some(refusal) if matches!(refusal.kind, RuleKind::Outage | RuleKind::Stream) => 503,
            Some(_) => 429,
        }
    }

    /// Whether the same will never be admitted: it costs more than the limit, or the limit is 0.
    #[must_use]
    pub fn never(&self) -> bool {
        !self.allowed && self.retry_after.is_none()
    }

    /// The state of a rule.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&RuleState> {
        self.rules.iter().find(|rule| &*rule.name == name)
    }
}

/// How much a quota has counted after a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Usage {
    /// The quota's name.
    pub name: Arc<str>,
    /// Units counted in the window that the receipt is of.
    pub used: i64,
}

/// What a refund did. The default is one of nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Refund {
    /// Whether units were given back now; `false` if this receipt was refunded before, or nothing of what it charged is
    /// counted any more.
    pub refunded: bool,
    /// Every quota that had been charged.
    pub usage: Vec<Usage>,
}

/// Why the server could not be asked, as a text: a decision that is kept elsewhere tells that.
#[cfg(feature = "driver")]
mod outage_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::error::Error;

    pub(super) fn serialize<S: Serializer>(outage: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
        outage.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Error>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Error::connection))
    }
}
