//! Random values of all of serde's data model.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that say so to serde, as `serde_bytes` does it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meters(f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point(i32, i32);

/// All of serde's data model, nested as the seed says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Tree {
    Nothing,
    Truth(bool),
    Small(i8, u8, i16, u16),
    Large { signed: i128, unsigned: u128 },
    Middle { i: i64, u: u64, n: i32, m: u32 },
    Real(f64, f32),
    Letter(char),
    Text(String),
    Blob(Blob),
    Maybe(Option<u64>),
    Units((), Unit),
    Struct { point: Point, meters: Meters },
    Many(Vec<Tree>),
    ByName(BTreeMap<String, Tree>),
    ByNumber(BTreeMap<i64, Tree>),
    ByPair(BTreeMap<(u8, String), Tree>),
    ByLetter(BTreeMap<char, bool>),
}

/// SplitMix64, so that each run tries the same values.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> usize {
        (self.next() % end) as usize
    }

    /// All widths alike, so that the edges of each type occur.
    pub fn wide(&mut self) -> u128 {
        let width = self.below(129) as u32;
        let number = (u128::from(self.next()) << 64) | u128::from(self.next());
        number.checked_shr(128 - width).unwrap_or(0)
    }

    fn letter(&mut self) -> char {
        const LETTERS: &[char] = &['a', 'Z', '"', '\\', '\0', '\n', 'é', 'ß', '水', '🦀', '\u{ffff}'];
        LETTERS[self.below(LETTERS.len() as u64)]
    }

    pub fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| self.letter()).collect()
    }

    pub fn tree(&mut self, depth: usize) -> Tree {
        let kinds = if depth == 0 { 12 } else { 17 };
        let count = self.below(4);
        match self.below(kinds) {
            0 => Tree::Nothing,
            1 => Tree::Truth(self.next() & 1 == 1),
            2 => Tree::Small(self.next() as i8, self.next() as u8, self.next() as i16, self.next() as u16),
            3 => Tree::Large { signed: self.wide() as i128, unsigned: self.wide() },
            4 => Tree::Middle {
                i: self.wide() as i64,
                u: self.wide() as u64,
                n: self.wide() as i32,
                m: self.wide() as u32,
            },
            5 => Tree::Real(self.next() as i64 as f64 / 1024.0, self.next() as i16 as f32 / 8.0),
            6 => Tree::Letter(self.letter()),
            7 => Tree::Text(self.text()),
            8 => Tree::Blob(Blob(self.text().into_bytes())),
            9 => Tree::Maybe((self.next() & 1 == 1).then(|| self.next())),
            10 => Tree::Units((), Unit),
            11 => Tree::Struct {
                point: Point(self.next() as i32, self.next() as i32),
                meters: Meters(f64::from(self.next() as i32)),
            },
            12 => Tree::Many((0..count).map(|_| self.tree(depth - 1)).collect()),
            13 => Tree::ByName((0..count).map(|_| (self.text(), self.tree(depth - 1))).collect()),
            14 => Tree::ByNumber((0..count).map(|_| (self.wide() as i64, self.tree(depth - 1))).collect()),
            15 => Tree::ByPair(
                (0..count).map(|_| ((self.next() as u8, self.text()), self.tree(depth - 1))).collect(),
            ),
            _ => Tree::ByLetter((0..count).map(|_| (self.letter(), self.next() & 1 == 1)).collect()),
        }
    }
}
