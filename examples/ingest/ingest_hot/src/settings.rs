//! What Django's settings say, told once when the app is ready.

use std::sync::OnceLock;

use vcache::Error;

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// The settings of this process.
#[derive(Debug)]
pub struct Settings {
    /// What the names of the cache's keys begin with, a colon included.
    pub prefix: String,
    /// So many events may wait to be stored.
    pub maxlen: u64,
}

/// # Errors
/// `Value` if Django has not told them.
pub fn get() -> vcache::Result<&'static Settings> {
    SETTINGS
        .get()
        .ok_or_else(|| Error::value("ingest_hot.configure() was not called: the app tracker does that"))
}

/// Has them hold for this process. A second call changes nothing.
pub fn set(settings: Settings) {
    // Django's test runners may set up the apps twice.
    let _ = SETTINGS.set(settings);
}
