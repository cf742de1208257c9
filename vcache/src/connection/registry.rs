//! The names of connections: an alias and what it stands for.

use arc_swap::ArcSwap;

use super::Connection;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fork::Lazy;

/// There are few, so that to compare them is quicker than to hash one.
type Aliases = Vec<(Box<str>, Connection)>;

/// NOTE: an `ArcSwap` and not a mutex: it stays usable in a child that was forked while another thread wrote to it.
static ALIASES: Lazy<ArcSwap<Aliases>> = Lazy::new(ArcSwap::default);

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
    if let Some(known) = of(&ALIASES.load(), alias.as_bytes())
        && *known.config() == config
        && known.key_head().is_empty()
    {
        return known.clone();
    }
    let connection = Connection::new(alias, config);
    insert(alias, &connection);
    connection
}

/// Gives `alias` a connection, with its key prefix: what [`configure`] does for one without.
///
/// ```
/// use vcache::{Config, Connection};
///
/// let config = Config::from_url("redis://localhost/1")?;
/// vcache::publish("default", &Connection::new("default", config).with_key_prefix("staging"));
/// # Ok::<(), vcache::Error>(())
/// ```
pub fn publish(alias: &str, connection: &Connection) {
    let is_known = of(&ALIASES.load(), alias.as_bytes()).is_some_and(|known| {
        known.config() == connection.config()
            && known.key_head() == connection.key_head()
            && known.alias() == connection.alias()
    });
    if !is_known {
        insert(alias, connection);
    }
}

fn insert(alias: &str, connection: &Connection) {
    ALIASES.rcu(|aliases| {
        let mut aliases = Aliases::clone(aliases);
        aliases.retain(|(known, _)| **known != *alias);
        aliases.push((alias.into(), connection.clone()));
        aliases
    });
}

/// Forgets what `alias` stands for, as if it had never been configured. Calls that are under way end as they would have.
pub fn unconfigure(alias: &str) {
    ALIASES.rcu(|aliases| {
        let mut aliases = Aliases::clone(aliases);
        aliases.retain(|(known, _)| **known != *alias);
        aliases
    });
}

fn of<'a>(aliases: &'a Aliases, alias: &[u8]) -> Option<&'a Connection> {
    aliases.iter().find(|(known, _)| known.as_bytes() == alias).map(|(_, connection)| connection)
}

/// The connection of an alias that is configured.
#[cfg(feature = "python")]
pub(super) fn known(alias: &[u8]) -> Option<Connection> {
    of(&ALIASES.load(), alias).cloned()
}

/// The connection of an alias, or an error that lists the aliases there are.
pub(super) fn find(alias: &str) -> Result<Connection> {
    let aliases = ALIASES.load();
    of(&aliases, alias.as_bytes()).cloned().ok_or_else(|| {
        let mut known: Vec<_> = aliases.iter().map(|(known, _)| &**known).collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Error::configuration(format!("no cache alias '{alias}' is configured (configured: {known})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_forgotten_and_configured_anew() {
        let config = |db| Config::from_url(&format!("redis://localhost/{db}")).unwrap();
        let first = configure("registry-tests", config(1));
        unconfigure("registry-tests");
        assert!(find("registry-tests").unwrap_err().to_string().contains("'registry-tests'"));
        configure("registry-tests", config(2));
        assert_eq!(find("registry-tests").unwrap().config().db, 2);
        assert_eq!(first.config().db, 1, "who has the old one keeps it");
        unconfigure("registry-tests");
        unconfigure("registry-tests");
    }
}
