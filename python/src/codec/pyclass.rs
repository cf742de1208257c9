//! The codec by itself, without a server: for tests, for tools that look into a store, and for the fuzzer.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use vcache::python::shield;

use super::{COMPRESS_MIN_LEN, Codec, DecodeError, MAX_VALUE_LEN, Options, Serializer};

/// Values to stored bytes and back, apart from any connection: for tests and tools.
#[pyclass(frozen, name = "Codec", module = "django_vcache._vcache")]
pub(crate) struct PyCodec(Codec);

#[pymethods]
impl PyCodec {
    #[new]
    #[pyo3(signature = (
        serializer = "auto", *, keys, compress_min_len = Some(COMPRESS_MIN_LEN),
        max_value_len = MAX_VALUE_LEN, dumps = None, loads = None,
    ))]
    fn new(
        py: Python<'_>,
        serializer: &str,
        keys: Vec<Vec<u8>>,
        compress_min_len: Option<usize>,
        max_value_len: usize,
        dumps: Option<Py<PyAny>>,
        loads: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let serializer = match (serializer, dumps, loads) {
            ("auto", None, None) => Serializer::Auto,
            ("pickle", None, None) => Serializer::Pickle,
            ("msgpack", None, None) => Serializer::Msgpack,
            ("json", None, None) => Serializer::Json,
            ("custom", Some(dumps), Some(loads)) => Serializer::Custom { dumps, loads },
            ("custom", ..) => return Err(PyValueError::new_err("\"custom\" needs dumps and loads")),
            ("auto" | "pickle" | "msgpack" | "json", ..) => {
                return Err(PyValueError::new_err("dumps and loads are for \"custom\""));
            }
            _ => return Err(PyValueError::new_err("serializer is auto, pickle, msgpack, json or custom")),
        };
        Codec::new(py, Options { serializer, compress_min_len, max_value_len, signing_keys: keys }).map(Self)
    }

    /// The stored form of `value`.
    fn dumps<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        shield();
        let mut out = Vec::new();
        self.0.encode(value, &mut out)?;
        Ok(PyBytes::new(value.py(), &out))
    }

    /// Raises ValueError for bytes that are no value, or not to be trusted.
    fn loads<'py>(&self, data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        shield();
        let py = data.py();
        self.0.decode(py, data.as_bytes()).map_err(|error| match error {
            DecodeError::Interrupted(error) => error,
            DecodeError::Load(ref cause) => {
                let raised = PyValueError::new_err(error.to_string());
                raised.set_cause(py, Some(cause.clone_ref(py)));
                raised
            }
            error => PyValueError::new_err(error.to_string()),
        })
    }
}

/// Decodes `data` as every serializer that can be read without a key would. For `fuzz/`; Python must be
/// initialised.
///
/// # Panics
/// If a value that was read cannot be written and read again: that is what the fuzzer looks for.
#[doc(hidden)]
pub fn fuzz_decode(data: &[u8]) {
    static CODECS: PyOnceLock<[Codec; 2]> = PyOnceLock::new();
    /// Small, so that a run finds its way past it.
    const LIMIT: usize = 1024 * 1024;
    let make = |py: Python<'_>, serializer| {
        let options = Options {
            serializer,
            compress_min_len: Some(64),
            max_value_len: LIMIT,
            signing_keys: vec![b"fuzz".to_vec()],
        };
        Codec::new(py, options).expect("the standard library is there")
    };
    Python::attach(|py| {
        let codecs = CODECS.get_or_init(py, || [make(py, Serializer::Auto), make(py, Serializer::Json)]);
        for codec in codecs {
            // An error has to print, too.
            let value = match codec.decode(py, data) {
                Ok(value) => value,
                Err(error) => {
                    let _ = error.to_string();
                    continue;
                }
            };
            let mut again = Vec::new();
            match codec.encode(&value, &mut again) {
                Ok(()) => {
                    codec.decode(py, &again).expect("what was written is read");
                }
                // A dense foreign spelling can be short on the wire and over the limit in ours.
                Err(error) => assert!(error.is_instance_of::<PyValueError>(py), "{error}"),
            }
        }
    });
}
