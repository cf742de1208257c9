//! Bodies in each encoding: whole, damaged, hostile, and the limit.

use std::borrow::Cow;
use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use vcache::http::{Request, decoded};
use vcache::{ErrorKind, Result};

use crate::memory::peak;

/// Made by brotli's own encoder: "hot routes answer early. ", forty times.
const BROTLI: &[u8] = b"\x1b\xe7\x03\xf8\x1d\xa9\x53\x9f\xbb\x70\xf9\x86\x26\x57\x74\x75\x05\x52\x96\x83\xf0\x52\x58\xa2\x20\x91\x49\x0d\
    \x6b\x0c\xbd\xf8\x89\x01";
/// Likewise: 64 MiB of zeros, with a window of 16 MiB.
const BROTLI_BOMB: &[u8] = b"\xcf\xff\xff\x7f\x00\x24\x00\xe2\xb1\x40\x72\xef\xff\xf9\xff\xff\x0f\x80\x04\x40\x1c\x16\x80\xee\xfd\x3f\
    \xff\xff\xff\x01\x90\x00\x88\xc3\x02\xd0\xbd\xff\xe7\xff\xff\x3f\x00\x12\x00\x71\x58\x00\xba\xf7\xff\x03";

const CODINGS: [&str; 5] = ["gzip", "zlib", "raw", "br", "zstd"];

fn text() -> Vec<u8> {
    b"hot routes answer early. ".repeat(40)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn raw(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Brotli's format for data that is not compressed: a window of 22 bits, a block for each 64 KiB, and an empty last
/// one.
fn brotli(plain: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false, true];
    let mut out = Vec::new();
    let flush = |bits: &mut Vec<bool>, out: &mut Vec<u8>| {
        for eight in bits.chunks(8) {
            out.push(eight.iter().enumerate().map(|(at, bit)| u8::from(*bit) << at).sum());
        }
        bits.clear();
    };
    for block in plain.chunks(65536) {
        // Not the last, four nibbles of length less one, not compressed.
        bits.extend([false, false, false]);
        bits.extend((0..16).map(|at| (block.len() - 1) >> at & 1 == 1));
        bits.push(true);
        flush(&mut bits, &mut out);
        out.extend_from_slice(block);
    }
    bits.extend([true, true]);
    flush(&mut bits, &mut out);
    out
}

fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => gzip(plain),
        "zlib" => zlib(plain),
        "raw" => raw(plain),
        "br" => brotli(plain),
        "zstd" => zstd::encode_all(plain, 3).unwrap(),
        other => unreachable!("{other}"),
    }
}

/// The header's value for one of `CODINGS`.
fn header(coding: &str) -> &str {
    if matches!(coding, "zlib" | "raw") { "deflate" } else { coding }
}

fn decode<'a>(coding: &str, body: &'a [u8], most: usize) -> Result<Cow<'a, [u8]>> {
    decoded(Some(header(coding).as_bytes()), body, most)
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> (u16, String) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    (error.status().unwrap(), error.to_string())
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

#[test]
fn each_encoding_gives_what_was_encoded() {
    let mut random = Random(7);
    let large = random.bytes(100_000);
    for plain in [&b""[..], b"a", &text(), &large, &vec![0; 200_000]] {
        for coding in CODINGS {
            let body = encode(coding, plain);
            assert_eq!(decode(coding, &body, plain.len()).unwrap(), plain, "{coding}, {}", plain.len());
        }
    }
    assert_eq!(decode("br", BROTLI, 1000).unwrap(), text());
}

#[test]
fn the_header_is_read_as_http_says() {
    let body = gzip(b"text");
    for value in ["gzip", "GZIP", "x-gzip", " gzip ", "identity, gzip", ",gzip,"] {
        assert_eq!(decoded(Some(value.as_bytes()), &body, 100).unwrap(), &b"text"[..], "{value}");
    }
    for value in ["", "identity", "Identity, identity"] {
        assert!(matches!(decoded(Some(value.as_bytes()), b"text", 4), Ok(Cow::Borrowed(b"text"))), "{value}");
        assert_eq!(refusal(decoded(Some(value.as_bytes()), b"texts", 4)).0, 413);
    }
    for value in ["gzip, gzip", "br, identity, zstd", "gzip; q=1", "compress", "gzip\0", "g\u{fc}"] {
        assert_eq!(refusal(decoded(Some(value.as_bytes()), &body, 100)).0, 415, "{value}");
    }
    let (_, text) = refusal(decoded(Some(&b"a\n".repeat(50)), &body, 100));
    assert!(text.len() < 130 && !text.contains('\n'), "{text}");
}

#[test]
fn the_limit_is_exact() {
    let plain = text();
    for coding in CODINGS {
        let body = encode(coding, &plain);
        assert_eq!(decode(coding, &body, 1000).unwrap().len(), 1000, "{coding}");
        for most in [999, 500, 1, 0] {
            let text = format!("the body is larger than {most} bytes when decoded");
            assert_eq!(refusal(decode(coding, &body, most)), (413, text), "{coding}");
        }
        assert_eq!(decode(coding, &encode(coding, b""), 0).unwrap(), &b""[..], "{coding}");
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let most = 100_000;
    let zeros = vec![0; 2 << 20];
    for coding in ["gzip", "zlib", "raw", "zstd"] {
        let body = encode(coding, &zeros);
        assert!(body.len() < 100_000, "{coding}");
        stops(coding, &body, most);
    }
    drop(zeros);
    stops("br", BROTLI_BOMB, most);
    // zstd with a window and a size that the frame claims, or without the size.
    let mut streamed = zstd::Encoder::new(Vec::new(), 19).unwrap();
    streamed.write_all(&vec![0; 1 << 20]).unwrap();
    stops("zstd", &streamed.finish().unwrap(), most);
    // As many members as there is room for.
    stops("gzip", &gzip(b"ab").repeat(60_000), most);
    stops("zstd", &encode("zstd", b"ab").repeat(60_000), most);
}

#[track_caller]
fn stops(coding: &str, body: &[u8], most: usize) {
    let (result, held) = peak(|| decode(coding, body, most));
    assert_eq!(refusal(result).0, 413, "{coding}");
    // The result twice, while it grows, and what a decoder needs to run.
    assert!(held < 2 * most + 100_000, "{coding} held {held} bytes");
}

#[test]
fn a_frame_that_claims_more_than_the_limit_is_not_believed() {
    // A zstd frame of one empty block that claims 2^62 bytes.
    let claims = b"\x28\xb5\x2f\xfd\xe0\x00\x00\x00\x00\x00\x00\x00\x40\x01\x00\x00";
    let (result, held) = peak(|| decode("zstd", claims, 1000));
    assert_eq!(refusal(result).0, 413);
    assert!(held < 10_000, "{held}");
    // A window beyond brotli's own, which its "large" variant has.
    assert_eq!(refusal(decode("br", b"\x11\x3e\x03", 1000)).0, 400);
}

#[test]
fn a_body_that_ends_early_is_refused_wherever_it_ends() {
    let plain = text();
    for coding in CODINGS {
        let body = if coding == "br" { BROTLI.to_vec() } else { encode(coding, &plain) };
        for end in 0..body.len() {
            assert_eq!(refusal(decode(coding, &body[..end], 1000)).0, 400, "{coding} cut at {end}");
            assert_eq!(refusal(decode(coding, &body[..end], 10_000)).0, 400, "{coding} cut at {end}");
        }
        let name = header(coding);
        let (_, text) = refusal(decode(coding, &body[..body.len() - 1], 10_000));
        assert_eq!(text, format!("the body ends in the middle of its {name} data"));
    }
}

#[test]
fn bytes_behind_the_end_are_refused_but_for_members_and_frames() {
    let plain = text();
    for coding in CODINGS {
        for (behind, limit) in [(&b"\0"[..], 10_000), (b"garbage garbage", 10_000), (b"garbage", plain.len())]
        {
            let body = [&encode(coding, &plain), behind].concat();
            assert_eq!(refusal(decode(coding, &body, limit)).0, 400, "{coding}");
        }
        let twice = [encode(coding, b"one "), encode(coding, b"two")].concat();
        match coding {
            "gzip" | "zstd" => assert_eq!(decode(coding, &twice, 7).unwrap(), &b"one two"[..]),
            _ => assert_eq!(refusal(decode(coding, &twice, 100)).0, 400),
        }
    }
}

#[test]
fn hostile_data_is_decoded_within_the_limit_or_refused() {
    let mut random = Random(0x5eed);
    let plain = [text(), random.bytes(500)].concat();
    let most = 4000;
    for coding in CODINGS {
        let whole = if coding == "br" { BROTLI.to_vec() } else { encode(coding, &plain) };
        let (mut taken, mut refused) = (0, 0);
        for round in 0..1500 {
            let mut body = whole.clone();
            if round % 10 == 0 {
                let length = random.below(200);
                body = random.bytes(length);
            }
            for _ in 0..=random.below(3) {
                if body.is_empty() {
                    continue;
                }
                let at = random.below(body.len());
                match random.below(5) {
                    0 => body.truncate(at),
                    1 => body[at] ^= 1 << random.below(8),
                    2 => body[at] = random.below(256) as u8,
                    3 => _ = body.remove(at),
                    _ => {
                        let end = at + random.below(body.len() - at + 1);
                        let part = body[at..end].to_vec();
                        body.splice(at..at, part);
                    }
                }
            }
            let (result, held) = peak(|| decode(coding, &body, most));
            // Brotli's tables may be many.
            let own = if coding == "br" { 4 << 20 } else { 100_000 };
            assert!(held < own, "{coding} held {held} bytes");
            match result {
                Ok(decoded) => {
                    assert!(decoded.len() <= most, "{coding}");
                    taken += 1;
                }
                Err(error) => {
                    assert!(matches!(error.status(), Some(400 | 413)), "{coding}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > taken, "{coding}: {taken} taken, {refused} refused");
    }
}

#[test]
fn a_request_gives_its_body_decoded() {
    let request = || Request::builder().header("content-encoding", "br").body(BROTLI);
    let whole = request().build();
    assert_eq!(whole.raw_body(), BROTLI);
    assert_eq!(whole.body().unwrap(), text());
    assert!(std::ptr::eq(whole.body().unwrap(), whole.body().unwrap()));
    assert_eq!(refusal(request().most(999).build().body()).0, 413);
    let twice = Request::builder()
        .header("content-encoding", "gzip")
        .header("Content-Encoding", "br")
        .body("")
        .build();
    assert_eq!(refusal(twice.body()).0, 415);
    let json = Request::builder().header("content-encoding", "deflate").body(raw(b"[1, 2]")).build();
    assert_eq!(json.json::<Vec<u8>>().unwrap(), [1, 2]);
}
