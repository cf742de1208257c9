//! Any bytes are a value or an error to the codec: no crash, no panic, no exception, no unbounded memory. What it
//! reads it can also write, and read again.

#![no_main]

use libfuzzer_sys::{fuzz_target, Corpus};
use pyo3::Python;

fuzz_target!(init: Python::initialize(), |data: &[u8]| -> Corpus {
    _vcache::fuzz_decode(data);
    Corpus::Keep
});
