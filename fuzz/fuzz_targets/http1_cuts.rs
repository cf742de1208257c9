//! Bytes are framed in pieces as they are in one, and no bytes make the reader of HTTP/1.1 crash.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    _vcache::fuzz_cuts(data);
});
