//! zstd, in and out. Contexts and scratch buffers are per thread and reused: creating a context costs more
//! than compressing a small value. A thread's own need no lock, so a fork in the middle of a call leaves none
//! held.

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use pyo3::prelude::*;
use zstd::zstd_safe::{self, CCtx, DCtx, ErrorCode, zstd_sys};

use super::error::DecodeError;

/// zstd's fastest regular level.
///
/// NOTE: on dicts of 3 to 20 KB level 3 takes about 1.4 times as long to write, and makes them 0 to 10%
/// smaller. A cache pays CPU on every write and has memory to spare.
const LEVEL: i32 = 1;

/// The first bytes of a frame. zstd would also decode skippable frames and those of its own pre-1.0 versions.
const FRAME_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// A scratch buffer that grew beyond this is given back to the allocator after use.
const KEEP: usize = 256 * 1024;

/// From this size on other Python threads may run meanwhile: it takes a fraction of a millisecond.
const DETACH_FROM: usize = 64 * 1024;

thread_local! {
    static COMPRESSOR: RefCell<(CCtx<'static>, Vec<u8>)> = RefCell::new((CCtx::create(), Vec::new()));
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` over `size` bytes, detached from the interpreter if that takes long enough to matter.
pub(super) fn detached<T: Send>(py: Python<'_>, size: usize, work: impl FnOnce() -> T + Send) -> T {
    if size >= DETACH_FROM { py.detach(work) } else { work() }
}

/// Replaces `out[from..]` by its compressed form if that is smaller; says whether it did.
pub(super) fn compress_tail(py: Python<'_>, out: &mut Vec<u8>, from: usize) -> bool {
    detached(py, out.len() - from, || {
        COMPRESSOR.with_borrow_mut(|(context, scratch)| {
            let plain = &out[from..];
            scratch.clear();
            scratch.reserve(zstd_safe::compress_bound(plain.len()));
            let smaller = match context.compress(scratch, plain, LEVEL) {
                Ok(len) => len < plain.len(),
                // Only memory can be short here. The value is as good uncompressed.
                Err(_) => false,
            };
            if smaller {
                out.truncate(from);
                out.extend_from_slice(scratch);
            }
            if scratch.capacity() > KEEP {
                *scratch = Vec::new();
            }
            smaller
        })
    })
}

/// A decompressed payload. Dropped, it leaves its buffer to the thread's next call.
///
/// It is taken out of the thread's slot rather than borrowed from it, because loading the payload can run
/// Python code that reads from the cache again.
pub(super) struct Plain(Vec<u8>);

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if self.0.capacity() <= KEEP {
            SCRATCH.set(std::mem::take(&mut self.0));
        }
    }
}

/// Decompresses `frame`, which must be one whole zstd frame of at most `limit` bytes decompressed.
pub(super) fn decompress(py: Python<'_>, frame: &[u8], limit: usize) -> Result<Plain, DecodeError> {
    if !frame.starts_with(&FRAME_MAGIC) {
        return Err(DecodeError::Corrupt("not a zstd frame"));
    }
    if zstd_safe::find_frame_compressed_size(frame).map_err(|_| DecodeError::Corrupt("a bad zstd frame"))?
        != frame.len()
    {
        return Err(DecodeError::Corrupt("bytes after its zstd frame"));
    }
    let claimed =
        zstd_safe::get_frame_content_size(frame).map_err(|_| DecodeError::Corrupt("a bad zstd frame"))?;
    let claimed = claimed.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    if claimed.is_some_and(|size| size > limit) {
        return Err(DecodeError::TooLarge { limit });
    }
    // This codec's frames say their size, but zstd allows one not to: then look for it from a plausible one
    // upwards.
    let mut room = claimed.unwrap_or_else(|| limit.min(frame.len().saturating_mul(4)));
    let mut plain = Plain(SCRATCH.take());
    loop {
        plain.0.clear();
        plain.0.try_reserve_exact(room).map_err(|_| DecodeError::TooLarge { limit })?;
        let outcome = detached(py, room.max(frame.len()), || {
            DECOMPRESSOR.with_borrow_mut(|context| context.decompress(&mut plain.0, frame))
        });
        match outcome {
            // The buffer may be an old one with more room than the limit.
            Ok(len) if len > limit => return Err(DecodeError::TooLarge { limit }),
            Ok(_) => return Ok(plain),
            Err(code) if is_too_small(code) && claimed.is_none() => {
                if room >= limit {
                    return Err(DecodeError::TooLarge { limit });
                }
                room = limit.min(room.saturating_mul(4));
            }
            Err(_) => return Err(DecodeError::Corrupt("a bad zstd frame")),
        }
    }
}

fn is_too_small(code: ErrorCode) -> bool {
    // zstd returns an error as its number, negated, in a size_t.
    code.wrapping_neg() == zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize
}
