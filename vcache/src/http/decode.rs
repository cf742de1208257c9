//! Compressed bodies: decoded within a limit. What goes beyond it is refused when it is met, and a decoder never gets a
//! buffer that is larger than the limit, whatever the data claims.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Read};

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, SliceWrapper, SliceWrapperMut,
    StandardAlloc,
};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use zstd::zstd_safe::{self, DCtx, ErrorCode, zstd_sys};

use crate::error::{Error, Result};

/// The smallest buffer to decode into.
const LEAST: usize = 1024;

/// How many characters of an unknown encoding an error repeats.
const LONGEST: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// A body as it was before it was compressed, by the value of its Content-Encoding; borrowed if it was not compressed.
///
/// It takes `gzip`, `x-gzip`, `deflate` (with zlib's frame, as it should have, or without), `br`, `zstd` and
/// `identity`. gzip may have several members and zstd several frames; other bytes behind the end are an error.
///
/// Beside the result, of at most `most` bytes, decoding takes what the format needs: some 50 KiB for gzip and deflate,
/// up to twice `most` and a few MiB for `br`, and 150 KiB for zstd.
///
/// # Errors
/// [`ErrorKind::Request`](crate::ErrorKind::Request), with a status: 415 for another encoding, and for two in a row,
/// which no client sends and which would multiply the work; 413 for more than `most` bytes when decoded; 400 for data
/// that is corrupt or ends early.
///
/// ```
/// use vcache::http::decoded;
///
/// let zlib = b"\x78\x9c\xcb\xc8\x2f\x51\x28\xca\x2f\x2d\x49\x2d\x06\x00\x15\xc5\x04\x0e";
/// assert_eq!(decoded(Some(b"deflate"), zlib, 10)?, &b"hot routes"[..]);
/// assert_eq!(decoded(Some(b"deflate"), zlib, 9).unwrap_err().status(), Some(413));
/// assert_eq!(decoded(Some(b"compress"), zlib, 10).unwrap_err().status(), Some(415));
/// assert_eq!(decoded(None, b"hot routes", 10)?, &b"hot routes"[..]);
/// # Ok::<(), vcache::Error>(())
/// ```
pub fn decoded<'a>(content_encoding: Option<&[u8]>, body: &'a [u8], most: usize) -> Result<Cow<'a, [u8]>> {
    let Some(coding) = content_encoding.map(coding).transpose()?.flatten() else {
        return if body.len() > most { Err(too_large(most)) } else { Ok(body.into()) };
    };
    let decoded = match coding {
        Coding::Gzip => read(MultiGzDecoder::new(body), body.len(), most),
        Coding::Deflate if has_zlib_header(body) => {
            read(Whole(ZlibDecoder::new(body), |decoder| decoder.get_ref().is_empty()), body.len(), most)
        }
        Coding::Deflate => {
            read(Whole(DeflateDecoder::new(body), |decoder| decoder.get_ref().is_empty()), body.len(), most)
        }
        Coding::Brotli => read(Brotli::new(body, most), body.len(), most),
        Coding::Zstd => unzstd(body, most),
    };
    decoded.map(Cow::Owned).map_err(|failure| match failure {
        Failure::TooLarge => too_large(most),
        Failure::Truncated => {
            Error::request(400, format!("the body ends in the middle of its {} data", coding.name()))
        }
        Failure::Corrupt => Error::request(400, format!("the body is not valid {}", coding.name())),
        Failure::Memory => Error::request(503, "there is too little memory to decode the body"),
    })
}

/// What the value of a Content-Encoding asks for; nothing if the body is as it is.
fn coding(value: &[u8]) -> Result<Option<Coding>> {
    let mut found = None;
    for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let coding = if word.is_empty() || is("identity") {
            continue;
        } else if is("gzip") || is("x-gzip") {
            Coding::Gzip
        } else if is("deflate") {
            Coding::Deflate
        } else if is("br") {
            Coding::Brotli
        } else if is("zstd") {
            Coding::Zstd
        } else {
            let shown: String = word.escape_ascii().map(char::from).take(LONGEST).collect();
            return Err(Error::request(
                415,
                format!("the Content-Encoding \"{shown}\" is not known: use gzip, deflate, br, zstd or none"),
            ));
        };
        if found.replace(coding).is_some() {
            return Err(Error::request(415, "a body may have one Content-Encoding, not several"));
        }
    }
    Ok(found)
}

fn too_large(most: usize) -> Error {
    Error::request(413, format!("the body is larger than {most} bytes when decoded"))
}

enum Failure {
    TooLarge,
    Truncated,
    Corrupt,
    Memory,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            _ => Self::Corrupt,
        }
    }
}

/// All that a decoder gives, if that is not more than `most` bytes.
fn read(mut decoder: impl Read, compressed: usize, most: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut filled = 0;
    loop {
        if filled == most {
            // A byte more would be too many. The decoder also says here whether its data ends as it should.
            return if decoder.read(&mut [0])? == 0 { Ok(out) } else { Err(Failure::TooLarge) };
        }
        if filled == out.len() {
            let room = out.len().saturating_mul(2).max(compressed.saturating_mul(4)).max(LEAST).min(most);
            out.try_reserve_exact(room - filled).map_err(|_| Failure::Memory)?;
            out.resize(room, 0);
        }
        match decoder.read(&mut out[filled..])? {
            0 => {
                out.truncate(filled);
                return Ok(out);
            }
            count => filled += count,
        }
    }
}

/// A decoder that must have used all of its input when it ends.
struct Whole<D>(D, fn(&D) -> bool);

impl<D: Read> Read for Whole<D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 if !self.1(&self.0) => Err(io::ErrorKind::InvalidData.into()),
            count => Ok(count),
        }
    }
}

/// Whether the data has zlib's frame, which deflate has by its standard, and which some clients leave out. Data without
/// it that looks so would begin with a stored block whose padding is not zero.
fn has_zlib_header(data: &[u8]) -> bool {
    matches!(data, [method, flags, ..]
        if method & 0x0f == 8 && method >> 4 <= 7 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

/// Brotli, without the large windows that are no part of the encoding `br`.
struct Brotli<'a> {
    data: &'a [u8],
    offset: usize,
    state: BrotliState<Bounded, StandardAlloc, StandardAlloc>,
    ended: bool,
}

impl<'a> Brotli<'a> {
    fn new(data: &'a [u8], most: usize) -> Self {
        let bounded = Bounded { longest: most.saturating_mul(2).saturating_add(BROTLI_OWN), refused: false };
        let state = BrotliState::new_strict(bounded, StandardAlloc::default(), StandardAlloc::default());
        Self { data, offset: 0, state, ended: false }
    }
}

impl Read for Brotli<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let (mut input, mut room, mut written, mut total) = (self.data.len() - self.offset, into.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut input,
            &mut self.offset,
            self.data,
            &mut room,
            &mut written,
            into,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultSuccess if input > 0 => Err(io::ErrorKind::InvalidData.into()),
            BrotliResult::ResultSuccess => {
                self.ended = true;
                Ok(written)
            }
            BrotliResult::NeedsMoreOutput => Ok(written),
            BrotliResult::NeedsMoreInput if written > 0 => Ok(written),
            BrotliResult::NeedsMoreInput => Err(io::ErrorKind::UnexpectedEof.into()),
            BrotliResult::ResultFailure if self.state.alloc_u8.refused => {
                Err(io::ErrorKind::FileTooLarge.into())
            }
            BrotliResult::ResultFailure => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What brotli allocates bytes for besides its window, in one piece.
const BROTLI_OWN: usize = 32 * 1024;

/// Memory for brotli's window. The window holds the output and begins small; it is made as large as a block of data
/// says that it will be, to the next power of two. So one of more than twice the limit is for output beyond the limit.
struct Bounded {
    longest: usize,
    refused: bool,
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl SliceWrapper<u8> for Bytes {
    fn slice(&self) -> &[u8] {
        &self.0
    }
}

impl SliceWrapperMut<u8> for Bytes {
    fn slice_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Allocator<u8> for Bounded {
    type AllocatedMemory = Bytes;

    /// Too little memory is how brotli is told that there is none.
    fn alloc_cell(&mut self, length: usize) -> Bytes {
        if length > self.longest {
            self.refused = true;
            return Bytes::default();
        }
        Bytes(vec![0; length])
    }

    fn free_cell(&mut self, _: Bytes) {}
}

thread_local! {
    /// To make one costs more than to decode a small body.
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decodes frames of zstd straight into the result, so that a window which a frame claims costs nothing.
fn unzstd(data: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    // NOTE: of several frames it is the first one's. zstd checks what a frame claims.
    let claimed = zstd_safe::get_frame_content_size(data).map_err(|_| Failure::Corrupt)?;
    let claimed = claimed.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    if claimed.is_some_and(|size| size > most) {
        return Err(Failure::TooLarge);
    }
    let mut room = claimed.unwrap_or_else(|| data.len().saturating_mul(4).max(LEAST)).min(most);
    let mut out: Vec<u8> = Vec::new();
    loop {
        out.try_reserve_exact(room).map_err(|_| Failure::Memory)?;
        let capacity = out.capacity();
        match ZSTD.with_borrow_mut(|context| context.decompress(&mut out, data)) {
            Ok(length) if length > most => return Err(Failure::TooLarge),
            Ok(_) => return Ok(out),
            Err(code) if is(code, zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
                if capacity >= most {
                    return Err(Failure::TooLarge);
                }
                out.clear();
                room = capacity.saturating_mul(4).max(LEAST).min(most);
            }
            Err(code) if is(code, zstd_sys::ZSTD_ErrorCode::ZSTD_error_srcSize_wrong) => {
                return Err(Failure::Truncated);
            }
            Err(_) => return Err(Failure::Corrupt),
        }
    }
}

fn is(code: ErrorCode, error: zstd_sys::ZSTD_ErrorCode) -> bool {
    // zstd returns an error as its number, negated, in a size_t.
    code.wrapping_neg() == error as usize
}
