//! The Rust half of the wheel `django-vcache`: what Django's cache backend and its users call. The connection, the
//! bridge to asyncio and the hot-path macros are the crate `vcache`'s; here stand what Django adds, and the module
//! `django_vcache._vcache` itself.
//!
//! | module | is for |
//! |---|---|
//! | [`admission`] | `Gate`, `Throttle`, `Quota`, `Stream`: admission in one round trip |
//! | [`cache`] | `Client`: the operations of Django's cache API, blocking and async |
//! | [`codec`] | Python values to stored bytes and back |
//! | [`credentials`] | user names and passwords that Python is asked for |
//! | [`hotpaths`] | the hot paths that the wheel ships |
//! | [`http`] | bodies that are compressed, for hot routes in Python |
//! | [`http1`] | a strict reader of HTTP/1.1, and a writer of responses, for hot routes below ASGI |
//! | [`routing`] | the table of hot routes |

mod admission;
mod cache;
mod codec;
mod credentials;
mod hotpaths;
mod http;
mod http1;
mod routing;

pub use codec::fuzz_decode;
pub use http1::fuzz_cuts;

/// The extension module.
#[pyo3::pymodule(gil_used = true)]
mod _vcache {
    #[pymodule_export]
    use crate::admission::{
        _restore_decision, _restore_refund, _restore_refusal, _restore_rule_state, PyDecision, PyGate,
        PyQuota, PyRefund, PyRefusal, PyRuleState, PyStream, PyThrottle, aliases_in_use,
        aliases_with_streams, as_name, awarm_up, check_policy, counted_as, forget_enabled, parse_rate,
        throttles_in_use, warm_up,
    };
    #[pymodule_export]
    use crate::cache::Client;
    #[pymodule_export]
    use crate::codec::PyCodec;
    #[pymodule_export]
    use crate::hotpaths::hotpaths;
    #[pymodule_export]
    use crate::http::decoded;
    #[pymodule_export]
    use crate::http1::{HotReader, HotRequest, header_in};
    #[pymodule_export]
    use crate::routing::{HotPolicy, RouteTable};

    use pyo3::prelude::*;
    use pyo3::types::PyBytes;
    use vcache::python::mark_methods;

    /// Registers what configures an alias that a hot path wants and that is not configured yet.
    #[pyfunction]
    fn on_unknown_alias(callable: Py<PyAny>) {
        vcache::python::on_unknown_alias(callable);
    }

    /// Forgets the connection of an alias: the next hot path or limit has it configured anew.
    #[pyfunction]
    fn forget_alias(alias: &str) {
        vcache::unconfigure(alias);
    }

    /// Forgets what limits have refused in this process, whose counters are deleted.
    #[pyfunction]
    fn forget_refusals() {
        vcache::admission::forget_refusals();
    }

    /// Forgets the same, and which servers fail.
    #[pyfunction]
    fn forget_servers() {
        vcache::admission::forget_servers();
    }

    /// Begins to record the round trips of this process, or begins anew; False ends it.
    #[pyfunction]
    fn record_round_trips(on: bool) {
        if on { vcache::record_round_trips() } else { vcache::stop_recording_round_trips() }
    }

    /// What was recorded: the alias, the commands' names, and their keys.
    #[pyfunction]
    fn recorded_round_trips(py: Python<'_>) -> Vec<(String, Vec<String>, Vec<Bound<'_, PyBytes>>)> {
        let recorded = vcache::recorded_round_trips().into_iter();
        recorded
            .map(|each| {
                (each.alias, each.commands, each.keys.iter().map(|key| PyBytes::new(py, key)).collect())
            })
            .collect()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        vcache::set_notes(|line| {
            // Without Python there is no log.
            let _ = Python::try_attach(|py| -> PyResult<()> {
                let logger = py.import("logging")?.call_method1("getLogger", ("django_vcache",))?;
                logger.call_method1("warning", ("%s", line)).map(drop)
            });
        });
        mark_methods(&py.get_type::<PyThrottle>(), &["acheck", "apeek", "areset"])?;
        mark_methods(&py.get_type::<PyQuota>(), &["aconsume", "apeek", "arefund", "areset"])?;
        mark_methods(&py.get_type::<PyStream>(), &["aadd", "aadd_many", "alength"])?;
        mark_methods(&py.get_type::<PyGate>(), &["aadmit", "aadmit_many", "apeek", "arefund", "areset"])?;
        crate::admission::add_words(module)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("_capi", vcache::abi::capsule(module.py())?)
    }
}
