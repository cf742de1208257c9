//! What hot paths take and give by serde: `Json`, `FromDict` and `ToDict`, with an interpreter inside the test.

mod dict;
mod json;
mod tree;

use std::ffi::CString;
use std::fmt;
use std::sync::Once;

use vcache::pyo3::prelude::*;
use vcache::pyo3::types::PyDict;
use vcache::{FromDict, Json, ToDict};

/// Runs Python and gives what it calls `value`.
fn python<'py>(py: Python<'py>, source: &str) -> Bound<'py, PyAny> {
    let names = PyDict::new(py);
    py.run(&CString::new(source).unwrap(), Some(&names), None).unwrap();
    names.get_item("value").unwrap().expect("the source sets `value`")
}

fn attach<T>(test: impl FnOnce(Python<'_>) -> T) -> T {
    static READY: Once = Once::new();
    // Of a package that several threads import at once for the first time, one may see a half.
    READY.call_once(|| {
        Python::initialize();
        Python::attach(|py| py.import("collections.abc").map(drop)).unwrap();
    });
    Python::attach(test)
}

#[track_caller]
fn raises<E: vcache::pyo3::PyTypeInfo>(result: PyResult<impl fmt::Debug>, text: &str) {
    let error = result.unwrap_err();
    attach(|py| {
        assert!(error.is_instance_of::<E>(py), "{error}");
        assert_eq!(error.value(py).to_string(), text);
    });
}

#[test]
fn the_wrappers_are_their_value() {
    let mut json = Json::from(vec![1]);
    json.push(2);
    assert_eq!((json.len(), json.clone(), format!("{json:?}")), (2, Json(vec![1, 2]), "Json([1, 2])".into()));
    assert_eq!(*FromDict(7), *ToDict(7));
}
