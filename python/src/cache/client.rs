//! `Client`: what it is made from, and its operations in their two forms, blocking (`get`) and awaited (`aget`). What each
//! does is in `operations`.
//!
//! A client belongs to one configured alias and is shared by all its backend objects, of which Django makes one per
//! thread or request; what can differ between those, and change at run time, is asked of the backend object in each call.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use vcache::{Config, Options, SslOptions};

use super::forms::{Object, Operation};
use super::operations;
use super::replies::Shared;
use super::scripts::Scripting;
use crate::codec::{Codec, Options as CodecOptions, Serializer};
use crate::credentials::Asked;

/// One cache alias on the shared connection. `version` is None for the cache's own.
#[pyclass(frozen, module = "django_vcache._vcache")]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

/// The class's one block of methods: those that are written out, and both forms of each operation, which is the function of
/// its blocking form's name in the module of that name. A parameter without a type is any Python object.
macro_rules! methods {
    (
        { $($written:tt)* }
        $(
            $(#[doc = $doc:literal])*
            $(#[pyo3 $options:tt])?
            $name:ident, $aname:ident($($parameter:ident $(: $type:ty)?),*);
        )*
    ) => {
        #[pymethods]
        impl Client {
            $($written)*

            $(
                $(#[doc = $doc])*
                $(#[pyo3 $options])?
                fn $name(&self, py: Python<'_>, $($parameter: parameter!($($type)?)),*) -> PyResult<Py<PyAny>> {
                    operations::$name::$name(&self.shared, $($parameter),*)?.block(py, &self.shared)
                }

                $(#[pyo3 $options])?
                fn $aname<'py>(&self, py: Python<'py>, $($parameter: parameter!($($type)?)),*) -> PyResult<Object<'py>> {
                    operations::$name::$name(&self.shared, $($parameter),*)?.start(py, &self.shared)
                }
            )*
        }
    };
}

macro_rules! parameter {
    () => { &Object<'_> };
    ($type:ty) => { $type };
}

methods! {
    {
        #[new]
        #[pyo3(signature = (
            alias, url, *, key_prefix, connect_timeout, response_timeout, client_name, username, password, db, ssl,
            cluster, address_map, read_from, availability_zone, credentials, allow_plaintext_credentials, serializer, dumps, loads, compress_min_len, max_value_len, signing_keys, ignore_exceptions, on_miss, on_error, on_untracked,
            on_unscripted
        ))]
        #[expect(clippy::too_many_arguments, reason = "one keyword for each option, called in one place")]
        fn new(
            py: Python<'_>,
            alias: &str,
            url: &str,
            key_prefix: &str,
            connect_timeout: Option<f64>,
            response_timeout: Option<f64>,
            client_name: Option<String>,
            username: Option<String>,
            password: Option<String>,
            db: Option<i64>,
            ssl: Vec<(String, String)>,
            cluster: Option<bool>,
            address_map: BTreeMap<String, String>,
            read_from: Option<String>,
            availability_zone: Option<String>,
            credentials: Option<Py<PyAny>>,
            allow_plaintext_credentials: bool,
            serializer: &str,
            dumps: Option<Py<PyAny>>,
            loads: Option<Py<PyAny>>,
            compress_min_len: Option<usize>,
            max_value_len: usize,
            signing_keys: Vec<Bound<'_, PyBytes>>,
            ignore_exceptions: bool,
            on_miss: Py<PyAny>,
            on_error: Py<PyAny>,
            on_untracked: Py<PyAny>,
            on_unscripted: Py<PyAny>,
        ) -> PyResult<Self> {
            let mut settings = SslOptions::default();
            for (name, value) in &ssl {
                settings.set(name, value)?;
            }
            let options =
                Options { connect_timeout, response_timeout, client_name, username, password, db, ssl: settings, cluster, address_map, read_from, availability_zone };
            let mut config = Config::from_url(url)?.with_options(options)?;
            if let Some(provider) = credentials {
                config = config.with_credentials(Arc::new(Asked(provider)), allow_plaintext_credentials)?;
            }
            let serializer = match (serializer, dumps, loads) {
                ("pickle", ..) => Serializer::Pickle,
                ("msgpack", ..) => Serializer::Msgpack,
                ("json", ..) => Serializer::Json,
                (_, Some(dumps), Some(loads)) => Serializer::Custom { dumps, loads },
                _ => Serializer::Auto,
            };
            let codec = Codec::new(
                py,
                CodecOptions {
                    serializer,
                    compress_min_len,
                    max_value_len,
                    signing_keys: signing_keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
                },
            )?;
            let connection = vcache::Connection::new(alias, config).with_key_prefix(key_prefix);
            Ok(Self {
                shared: Arc::new(Shared {
                    connection,
                    codec,
                    ignore_exceptions,
                    on_miss,
                    on_error,
                    on_untracked,
                    on_unscripted,
                    scripting: Scripting::default(),
                }),
            })
        }

        /// Makes this connection the one that Rust knows by `alias`: hot paths run on it.
        fn publish(&self, alias: &str) {
            vcache::publish(alias, &self.shared.connection);
        }

        /// Which certificates of the server are taken: "full", "chain" for those of any host, "none" for all; None without
        /// TLS.
        #[getter]
        fn tls(&self) -> Option<&'static str> {
            self.shared.connection.config().tls_verification()
        }

        fn __repr__(&self) -> String {
            format!("<Client {:?}>", self.shared.connection)
        }
    }

    get, aget(cache, key, default, version);
    get_many, aget_many(cache, keys, version);
    set, aset(cache, key, value, timeout, version);
    add, aadd(cache, key, value, timeout, version);
    set_many, aset_many(cache, data, timeout, version);
    touch, atouch(cache, key, timeout, version);
    delete, adelete(cache, key, version);
    delete_many, adelete_many(cache, keys, version);
    has_key, ahas_key(cache, key, version);
    incr, aincr(cache, key, delta, version);
    move_version, amove_version(cache, key, from, to);
    wait_changed, await_changed(cache, key, timeout, version);
    /// Empties the whole database.
    flush, aflush();
    /// Deletes every key that has the first of the layouts, with an integer for a version or with `version`, and none of
    /// the others.
    sweep, asweep(layouts: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>, version: &str);
    #[pyo3(signature = (*arguments))]
    execute, aexecute(arguments: &Bound<'_, PyTuple>);
}
