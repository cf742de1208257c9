//! Lines for people that come from threads which have no caller to tell: a program says where they go. Under Django that is the
//! log `django_vcache`. Without a place they are dropped.

use std::sync::OnceLock;

type Place = fn(&str);

static PLACE: OnceLock<Place> = OnceLock::new();

/// Has lines of warning go to `place`, which is called on short-lived threads. The first call counts.
pub fn set_notes(place: fn(&str)) {
    let _ = PLACE.set(place);
}

pub(crate) fn say(line: &str) {
    if let Some(place) = PLACE.get() {
        place(line);
    }
}
