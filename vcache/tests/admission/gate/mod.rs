//! Rules and a stream together.

mod admit;
mod care;
mod dedupe;
mod mistakes;
mod owner;

use vcache::admission::{Gate, GateBuilder, Period, Quota, Scope, Stream, Throttle};

use crate::patient;

fn scope() -> Scope<'static> {
    Scope::new().with("org", 1).with("project", "back end")
}

/// Two throttles, a quota and a stream, of which each can be the one that refuses.
fn builder() -> GateBuilder {
    let mut settings = patient();
    settings.deny_cache = false;
    Gate::builder()
        .settings(settings)
        .owner("org")
        .throttle(Throttle::new("org", "10/d").unwrap())
        .throttle(Throttle::new("project", "8/h").unwrap().key(["org", "project"]).unwrap())
        .quota(Quota::new("events", 6, Period::Month).unwrap())
        .stream(Stream::new("incoming").unwrap().maxlen(4))
}
