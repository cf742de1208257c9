//! The names of connections: an alias and what it stands for.

use std::collections::HashMap;
use std::sync::OnceLock;

use arc_swap::ArcSwap;

use super::Connection;
use crate::config::Config;
use crate::error::{Error, Result};

type Aliases = HashMap<String, Connection>;

/// NOTE: an `ArcSwap` and not a mutex: it stays usable in a child that was forked while another thread wrote to it.
fn aliases() -> &'static ArcSwap<Aliases> {
    static ALIASES: OnceLock<ArcSwap<Aliases>> = OnceLock::new();
    ALIASES.get_or_init(ArcSwap::default)
}

/// Gives `alias` its config and returns its connection. The same config again changes nothing; another one replaces it
/// for those who ask from then on.
///
/// ```
/// use vcache::Config;
///
/// vcache::configure("default", Config::from_url("redis://localhost/1")?);
/// assert_eq!(vcache::connection()?.alias(), "default");
/// # Ok::<(), vcache::Error>(())
/// ```
pub fn configure(alias: &str, config: Config) -> Connection {
    if let Some(known) = aliases().load().get(alias)
        && *known.config() == config
    {
        return known.clone();
    }
    let connection = Connection::new(alias, config);
    aliases().rcu(|aliases| {
        let mut aliases = Aliases::clone(aliases);
        aliases.insert(alias.to_owned(), connection.clone());
        aliases
    });
    connection
}

/// The connection of an alias, or an error that lists the aliases there are.
pub(super) fn find(alias: &str) -> Result<Connection> {
    let aliases = aliases().load();
    aliases.get(alias).cloned().ok_or_else(|| {
        let mut known: Vec<_> = aliases.keys().map(String::as_str).collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Error::configuration(format!("no cache alias '{alias}' is configured (configured: {known})"))
    })
}
