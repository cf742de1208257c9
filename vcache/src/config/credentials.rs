//! User names and passwords that are asked for at each connect, because they change.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

/// What a connection authenticates with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// None is the user `default`.
    pub username: Option<String>,
    /// The password, or the token that stands for it.
    pub password: String,
    /// When the server takes them no longer: a living connection authenticates anew before that. None is never.
    pub expires_at: Option<SystemTime>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Where credentials come from. It is asked on the short-lived thread that makes a connection, so it may block, and once more
/// before the credentials of a living connection expire.
///
/// ```
/// use std::sync::Arc;
/// use vcache::{Config, CredentialProvider, Credentials};
///
/// struct File;
///
/// impl CredentialProvider for File {
///     fn credentials(&self) -> Result<Credentials, String> {
///         let password = std::fs::read_to_string("/run/secrets/valkey").map_err(|error| error.kind().to_string())?;
///         Ok(Credentials { username: None, password, expires_at: None })
///     }
/// }
///
/// let config = Config::from_url("rediss://cache.example")?.with_credentials(Arc::new(File), false)?;
/// # Ok::<(), vcache::Error>(())
/// ```
pub trait CredentialProvider: Send + Sync {
    /// Those of now.
    ///
    /// # Errors
    /// Why there are none, in words that hold no part of a secret. The connection is tried again later.
    fn credentials(&self) -> Result<Credentials, String>;

    /// What tells this provider from others: configs with equal ones share a connection. By default, where it is in memory.
    fn identity(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }
}

/// A provider in a config, equal to those with its identity.
#[derive(Clone)]
pub(crate) struct Provider(pub(crate) Arc<dyn CredentialProvider>);

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity() == other.0.identity()
    }
}

impl Eq for Provider {}

impl Hash for Provider {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}
