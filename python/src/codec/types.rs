//! The classes of the standard library that travel as msgpack ext types, looked up once per codec.

use pyo3::prelude::*;
use pyo3::types::PyType;

/// See the module's own text.
pub(super) struct Types {
    pub(super) decimal: Py<PyType>,
    pub(super) uuid: Py<PyType>,
    pub(super) safe_uuid: Py<PyType>,
    /// `SafeUUID.unknown`: what nearly every UUID has.
    pub(super) safe_unknown: Py<PyAny>,
    pub(super) timezone: Py<PyType>,
    pub(super) zone_info: Py<PyType>,
}

impl Types {
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
            Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        let safe_uuid = class("uuid", "SafeUUID")?;
        Ok(Self {
            decimal: class("decimal", "Decimal")?,
            uuid: class("uuid", "UUID")?,
            safe_unknown: safe_uuid.bind(py).getattr("unknown")?.unbind(),
            safe_uuid,
            timezone: class("datetime", "timezone")?,
            zone_info: class("zoneinfo", "ZoneInfo")?,
        })
    }

    /// Whether `value` is of exactly this class.
    #[inline]
    pub(super) fn is_exactly(value: &Bound<'_, PyAny>, class: &Py<PyType>) -> bool {
        value.get_type_ptr().cast() == class.as_ptr()
    }
}
