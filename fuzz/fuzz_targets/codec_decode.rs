//! Any bytes are a value or an error to the codec: no crash, no panic, no unbounded memory. What it reads it
//! can also write, and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pyo3::Python;

fuzz_target!(init: Python::initialize(), |data: &[u8]| {
    _vcache::fuzz_decode(data);
});
