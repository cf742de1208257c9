//! What an ingest endpoint decides and writes: [`allow`], a throttle, and [`enqueue`], an entry on a stream.

mod allow;
#[cfg(feature = "admission")]
mod decision;
mod enqueue;
#[cfg(feature = "admission")]
mod gate;
#[cfg(feature = "admission")]
mod metrics;
#[cfg(feature = "admission")]
mod quota;
#[cfg(feature = "admission")]
mod rate;
#[cfg(feature = "admission")]
mod receipt;
#[cfg(feature = "admission")]
mod scope;
#[cfg(feature = "admission")]
mod settings;
#[cfg(feature = "admission")]
mod stream;
#[cfg(feature = "admission")]
mod throttle;

pub use allow::{Allowance, allow};
#[cfg(feature = "admission")]
pub use decision::{Decision, Refund, Refusal, RuleKind, RuleState, Source, Usage};
pub use enqueue::enqueue;
#[cfg(feature = "admission")]
pub use gate::{Admission, Gate, GateBuilder};
#[cfg(feature = "admission")]
pub use metrics::Metrics;
#[cfg(feature = "admission")]
pub use quota::{Mode, Period, Quota};
#[cfg(feature = "admission")]
pub use rate::Rate;
#[cfg(feature = "admission")]
pub use receipt::Receipt;
#[cfg(feature = "admission")]
pub use scope::{Scope, ScopeValue, Subject};
#[cfg(feature = "admission")]
pub use settings::{Outage, Settings};
#[cfg(feature = "admission")]
pub use stream::{Event, Full, Stream};
#[cfg(feature = "admission")]
pub use throttle::Throttle;
