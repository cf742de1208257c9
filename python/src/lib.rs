//! The Rust half of the wheel `django-vcache`: what Django's cache backend and its users call. The connection, the
//! bridge to asyncio and the hot-path macros are the crate `vcache`'s; here stand what Django adds, and the module
//! `django_vcache._vcache` itself.
//!
//! | module | is for |
//! |---|---|
//! | [`admission`] | `Gate`, `Throttle`, `Quota`, `Stream`: admission in one round trip |
//! | [`cache`] | `Client`: the operations of Django's cache API, blocking and async |
//! | [`codec`] | Python values to stored bytes and back |
//! | [`hotpaths`] | the hot paths that the wheel ships |

mod admission;
mod cache;
mod codec;
mod hotpaths;

pub use codec::fuzz_decode;

/// The extension module.
#[pyo3::pymodule(gil_used = true)]
mod _vcache {
    #[pymodule_export]
    use crate::admission::{
        _restore_decision, _restore_refund, _restore_refusal, _restore_rule_state, PyDecision, PyGate,
        PyQuota, PyRefund, PyRefusal, PyRuleState, PyStream, PyThrottle, aliases_in_use, parse_rate,
    };
    #[pymodule_export]
    use crate::cache::Client;
    #[pymodule_export]
    use crate::codec::PyCodec;
    #[pymodule_export]
    use crate::hotpaths::hotpaths;

    use pyo3::prelude::*;
    use vcache::python::mark_methods;

    /// Registers `callable(alias)`, which is asked to configure an alias that a hot path wants and nobody has configured.
    #[pyfunction]
    fn on_unknown_alias(callable: Py<PyAny>) {
        vcache::python::on_unknown_alias(callable);
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        mark_methods(&py.get_type::<PyThrottle>(), &["acheck", "apeek", "areset"])?;
        mark_methods(&py.get_type::<PyQuota>(), &["aconsume", "ausage", "arefund", "areset"])?;
        mark_methods(&py.get_type::<PyStream>(), &["aadd", "aadd_many", "alength"])?;
        mark_methods(&py.get_type::<PyGate>(), &["aadmit", "apeek", "arefund", "areset"])?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("_capi", vcache::abi::capsule(module.py())?)
    }
}
