//! The table of hot routes: a path becomes the number of a route and its parameters, as Django's URLconf would find them.
//!
//! | module | is for |
//! |---|---|
//! | [`segments`] | one route: its segments, and whether a path fits |
//! | [`table`] | all routes of a site, in the order of the URLconf |

mod segments;
mod table;

pub use table::RouteTable;
