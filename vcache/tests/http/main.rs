//! `vcache::http`: decoding of hostile bodies, with the memory counted, and the border to Python.

mod decoding;
mod memory;
#[cfg(feature = "python")]
mod python;
