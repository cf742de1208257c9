//! The table of hot routes: a path becomes the number of a route and its parameters, as Django's URLconf would find them.
//!
//! | module | is for |
//! |---|---|
//! | [`policy`] | hosts, https and the headers of security, for requests that Python's shell is not asked about |
//! | [`segments`] | one route: its segments, and whether a path fits |
//! | [`table`] | all routes of a site, in the order of the URLconf |

mod policy;
mod segments;
mod table;

pub use policy::{Header, HotPolicy};
pub use table::{RouteTable, Target};
