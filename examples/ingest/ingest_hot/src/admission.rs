//! The gate: a project's rate, its events and bytes of a month, and the stream where events wait to be stored, all decided
//! in one round trip. `ingest/limits.py` has the same gate for Python, which consumes the stream.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vcache::admission::{Admission, Decision, Gate, Period, Quota, Rate, Scope, Settings, Stream, Throttle};
use vcache::{Connection, Error};

use crate::event::{Event, LARGEST};
use crate::project::Project;
use crate::settings;

const MINUTE: Duration = Duration::from_secs(60);
/// How long the server may take before an event is refused.
const DEADLINE: Duration = Duration::from_secs(2);

/// Made once, and then shared: it remembers refusals and outages.
fn gate() -> vcache::Result<&'static Gate> {
    static GATE: OnceLock<Gate> = OnceLock::new();
    if let Some(gate) = GATE.get() {
        return Ok(gate);
    }
    let mut settings = Settings::default();
    settings.owner = Some("project".into());
    settings.deadline = Some(DEADLINE);
    settings.max_payload = LARGEST;
    let gate = Gate::builder()
        .settings(settings)
        .throttle(Throttle::per_call("project")?)
        .quota(Quota::per_call("events", Period::Month)?)
        .quota(Quota::per_call("bytes", Period::Month)?)
        .stream(Stream::new("events")?.maxlen(settings::get()?.maxlen))
        .build()?;
    Ok(GATE.get_or_init(|| gate))
}

/// What is decided of each event, in their order. An event whose id was there before is a duplicate, and charged nothing.
///
/// # Errors
/// What the server refuses to do for anybody, such as `NOPERM`. That it is away is a decision.
pub async fn admit(
    conn: &Connection,
    id: u64,
    project: &Project,
    events: &[Event<'_>],
) -> vcache::Result<Vec<Decision>> {
    let gate = gate()?;
    let rate = Rate::new(project.rate, MINUTE)?;
    let received = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let received = i64::try_from(received).map_err(|_| Error::value("the clock is wrong"))?;
    // The rules are keyed by the project; all of them become fields of the stream's entry.
    let scope = |event: &Event<'_>| {
        Scope::new().with("project", id).with("event", event.id.clone()).with("received", received)
    };
    let scopes: Vec<_> = events.iter().map(scope).collect();
    let admissions = events.iter().zip(&scopes).map(|(event, scope)| {
        Admission::new(scope)
            .payload(&*event.payload)
            .cost_of("bytes", i64::try_from(event.payload.len()).unwrap_or(i64::MAX))
            .dedupe(&event.id)
            .rate("project", rate)
            .limit("events", project.events)
            .limit("bytes", project.bytes)
    });
    gate.admit_many(conn, admissions).await?.into_iter().collect()
}
