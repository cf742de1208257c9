//! The operations of Django's cache API, a file each: what Python calls, what goes to the server, what the reply means.

pub(super) mod add;
mod answers;
pub(super) mod delete;
pub(super) mod delete_many;
pub(super) mod execute;
pub(super) mod flush;
pub(super) mod get;
pub(super) mod get_many;
pub(super) mod has_key;
pub(super) mod incr;
pub(super) mod move_version;
pub(super) mod set;
pub(super) mod set_many;
pub(super) mod sweep;
pub(super) mod touch;
pub(super) mod wait_changed;
