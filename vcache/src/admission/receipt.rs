//! The text by which what quotas were charged can be given back.
//!
//! It is all there is to know for that, so the server keeps nothing of it until it is refunded:
//!
//! ```text
//! <nonce, 16 hex>.<shard>.<costs>.<windows' starts>.<the quotas' fingerprint, 16 hex>.<their keys' values>
//! ```
//!
//! Costs, starts and values are joined by commas, one for each quota that is charged; a cost that all have stands once.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::keys::{escape, write_int, write_text};
use super::limits::LARGEST;
use crate::error::{Error, Result};
use crate::fork::PerProcess;

/// Far more than a gate of the most quotas with the longest keys needs.
const LONGEST: usize = 1 << 20;

/// For [`Gate::refund`](super::Gate::refund): what was charged, by which quotas and in which windows. To its holder it is
/// opaque, printable ASCII without spaces. It is not signed: take none from strangers.
///
/// ```
/// use vcache::admission::Receipt;
///
/// let text = "0123456789abcdef.0.1.1767225600.00000000000000ff.42";
/// let receipt: Receipt = text.parse()?;
/// assert_eq!(receipt.as_str(), text);
/// assert!("0123456789abcdef.0.1".parse::<Receipt>().is_err());
/// # Ok::<(), vcache::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "driver", derive(serde::Serialize, serde::Deserialize))]
pub struct Receipt(String);

impl Receipt {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The receipt that a server has kept; `None` if it is not one: there was nothing charged.
    pub(super) fn kept(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    pub(super) fn parts(&self) -> Result<Parts> {
        Parts::read(&self.0).ok_or_else(|| malformed(&self.0))
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let receipt = Self(text.to_owned());
        receipt.parts()?;
        Ok(receipt)
    }
}

fn malformed(text: &str) -> Error {
    let begin: String = text.chars().take(40).collect();
    let more = if begin.len() < text.len() { "..." } else { "" };
    Error::value(format!("{begin:?}{more} is not a receipt: pass on a decision's receipt just as it is"))
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) nonce: u64,
    pub(super) shard: u32,
    /// Of each quota.
    pub(super) costs: Vec<i64>,
    pub(super) starts: Vec<i64>,
    pub(super) fingerprint: u64,
    /// As they stand in keys.
    pub(super) values: Vec<String>,
}

impl Parts {
    pub(super) fn write(&self) -> Receipt {
        let mut draft = Draft::new(self.nonce, self.shard, &self.costs);
        for start in &self.starts {
            draft.start(*start);
        }
        draft.fingerprint(self.fingerprint);
        for value in &self.values {
            draft.value(value.as_bytes());
        }
        draft.receipt()
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut fields = text.splitn(6, '.');
        let mut next = || fields.next();
        let mut parts = Self {
            nonce: u64::from_str_radix(next()?, 16).ok()?,
            shard: next()?.parse().ok()?,
            costs: next()?.split(',').map(read_cost).collect::<Option<_>>()?,
            starts: next()?.split(',').map(|start| start.parse().ok()).collect::<Option<_>>()?,
            fingerprint: u64::from_str_radix(next()?, 16).ok()?,
            values: next()?.split(',').map(read_value).collect::<Option<_>>()?,
        };
        if let [cost] = *parts.costs {
            parts.costs = vec![cost; parts.starts.len()];
        }
        let fits = parts.starts.len() == parts.values.len()
            && parts.starts.len() == parts.costs.len()
            && parts.costs.iter().any(|cost| *cost > 0);
        // Only what would be written just so: no signs, no leading zeros, no needless escapes.
        (fits && parts.write().0 == text).then_some(parts)
    }
}

fn read_cost(text: &str) -> Option<i64> {
    text.parse().ok().filter(|cost| (0..=LARGEST).contains(cost))
}

/// A key's values, if they could stand in a key.
fn read_value(escaped: &str) -> Option<String> {
    let value = unescape(escaped)?;
    let sound = value.split(':').all(|part| {
        let mut again = Vec::new();
        unescape(part)
            .is_some_and(|text| write_text(&"", &text, &mut again).is_ok() && again == part.as_bytes())
    });
    sound.then_some(value)
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            out.push(u8::try_from(digit(bytes.next()?)? * 16 + digit(bytes.next()?)?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// A receipt's text in the making.
pub(super) struct Draft {
    text: Vec<u8>,
    first: bool,
}

impl Draft {
    pub(super) fn new(nonce: u64, shard: u32, costs: &[i64]) -> Self {
        let mut draft = Self { text: Vec::with_capacity(96), first: true };
        draft.hex(nonce);
        draft.text.push(b'.');
        write_int(i64::from(shard), &mut draft.text);
        draft.text.push(b'.');
        let alike = costs.windows(2).all(|pair| pair[0] == pair[1]);
        for cost in if alike { &costs[..costs.len().min(1)] } else { costs } {
            draft.comma();
            write_int(*cost, &mut draft.text);
        }
        draft.text.push(b'.');
        draft.first = true;
        draft
    }

    fn hex(&mut self, number: u64) {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        self.text.extend((0..16).rev().map(|at| DIGITS[(number >> (at * 4)) as usize & 15]));
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.text.push(b',');
        }
    }

    pub(super) fn start(&mut self, start: i64) {
        self.comma();
        write_int(start, &mut self.text);
    }

    pub(super) fn fingerprint(&mut self, fingerprint: u64) {
        self.text.push(b'.');
        self.hex(fingerprint);
        self.text.push(b'.');
        self.first = true;
    }

    pub(super) fn value(&mut self, value: &[u8]) {
        self.comma();
        for byte in value {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':' | b'=') {
                self.text.push(*byte);
            } else {
                escape(*byte, &mut self.text);
            }
        }
    }

    pub(super) fn receipt(self) -> Receipt {
        // Only ASCII was written.
        Receipt(String::from_utf8(self.text).unwrap_or_default())
    }
}

/// The nonce that a receipt's text begins with.
pub(super) fn nonce_of(text: &str) -> Option<u64> {
    u64::from_str_radix(text.get(..16)?, 16).ok()
}

/// A number that no other call anywhere gets.
pub(super) fn nonce() -> u64 {
    static SOURCE: PerProcess<Source> = PerProcess::new();
    let source = SOURCE.get(Source::new);
    let mut hasher = source.keys.build_hasher();
    hasher.write_u128(source.salt);
    hasher.write_u64(source.count.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

struct Source {
    keys: RandomState,
    /// A forked child has its parent's random state, but not its number and its hour of birth.
    salt: u128,
    count: AtomicU64,
}

impl Source {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let salt = now.as_nanos() << 32 ^ u128::from(std::process::id());
        Self { keys: RandomState::new(), salt, count: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts {
            nonce: 0xab,
            shard: 7,
            costs: vec![3, 3],
            starts: vec![1_767_225_600, 1_767_229_200],
            fingerprint: u64::MAX,
            values: vec!["42".into(), "a%3Ab:clé.x,y".into()],
        }
    }

    #[test]
    fn a_receipt_reads_back() {
        let receipt = parts().write();
        assert_eq!(
            receipt.as_str(),
            "00000000000000ab.7.3.1767225600,1767229200.ffffffffffffffff.42,a%253Ab:cl%C3%A9%2Ex%2Cy"
        );
        assert_eq!(receipt.as_str().parse::<Receipt>().unwrap().parts().unwrap(), parts());
        assert_eq!(nonce_of(receipt.as_str()), Some(0xab));
        let parts = Parts { costs: vec![0, 5_000], ..parts() };
        assert!(parts.write().as_str().starts_with("00000000000000ab.7.0,5000.1767225600,"));
        assert_eq!(parts.write().parts().unwrap(), parts);
    }

    #[test]
    fn what_is_not_a_receipt_is_told() {
        let good = parts().write().to_string();
        let mut bad: Vec<String> =
            vec![String::new(), ".....".into(), "x".repeat(3_000), format!("{good} "), format!(" {good}")];
        for (from, to) in [
            ("00000000000000ab", "ab"),
            ("00000000000000ab", "00000000000000AB"),
            (".7.", ".07."),
            (".7.", ".-7."),
            (".7.", ".+7."),
            (".3.", ".0."),
            (".3.", ".-3."),
            (".3.", ".9007199254740993."),
            (".3.", ".3,3."),
            (".3.", ".3,4,5."),
            (".3.", ".0,0."),
            (".3.", ".3,."),
            (",1767229200", ""),
            (",1767229200", ",x"),
            (",1767229200", ",99999999999999999999"),
            ("42,", "42"),
            ("42,", ","),
            ("42,", "4%32,"),
            ("42,", "42:,"),
            ("42,", "%7B42%7D,"),
            ("42,", "4%202,"),
            ("42,", "4%0A2,"),
            ("42,", "%FF,"),
            ("%C3%A9", "é"),
        ] {
            bad.push(good.replacen(from, to, 1));
        }
        for text in bad {
            assert_ne!(text, good);
            let error = text.parse::<Receipt>().unwrap_err();
            assert!(error.to_string().contains("is not a receipt"), "{text}: {error}");
        }
    }

    #[test]
    fn nonces_differ() {
        let nonces: std::collections::HashSet<u64> = (0..10_000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 10_000);
    }

    #[test]
    fn a_malformed_receipt_is_not_shown_at_length() {
        let error = "x".repeat(100_000).parse::<Receipt>().unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }
}
