//! Finding a command's row. It is done for every command that is sent, so names are compared as numbers, and the table has an
//! index: 7 ns in place of the 50 that a binary search over text takes.

use super::table::COMMANDS;
use super::{Policy, UNKNOWN};

/// Names that are compared as numbers have at most so many letters; the few longer ones are searched for as text.
const LONGEST: usize = size_of::<u128>();

/// All names as numbers, in the order of the table.
static NAMES: [u128; COMMANDS.len()] = {
    let mut names = [0; COMMANDS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = match packed(COMMANDS[at].0.as_bytes()) {
            Some(name) => name,
            // Found by `search`.
            None => u128::MAX,
        };
        at += 1;
    }
    names
};

const PLACES: usize = 1024;
const EMPTY: u16 = u16::MAX;

/// A hash table of the places in `COMMANDS`. A place that is taken means the next one.
static INDEX: [u16; PLACES] = {
    assert!(COMMANDS.len() * 2 < PLACES, "the index is half empty, so that most names are found at once");
    let mut index = [EMPTY; PLACES];
    let mut at = 0;
    while at < NAMES.len() {
        if NAMES[at] != u128::MAX {
            let mut place = place(NAMES[at]);
            while index[place] != EMPTY {
                place = (place + 1) % PLACES;
            }
            #[expect(clippy::cast_possible_truncation, reason = "there are less commands than places")]
            {
                index[place] = at as u16;
            }
        }
        at += 1;
    }
    index
};

/// The row of a command's name in any case; of one that is not known, the policy that says so.
pub(in crate::connection) fn find(name: &[u8]) -> &'static Policy {
    let Some(number) = packed(name) else { return search(name) };
    let mut place = place(number);
    loop {
        let at = INDEX[place];
        if at == EMPTY {
            return &UNKNOWN;
        }
        let (known, policy) = &COMMANDS[usize::from(at)];
        // The length, because zero bytes at the end do not change the number.
        if NAMES[usize::from(at)] == number && known.len() == name.len() {
            return policy;
        }
        place = (place + 1) % PLACES;
    }
}

#[cold]
fn search(name: &[u8]) -> &'static Policy {
    let upper = || name.iter().map(u8::to_ascii_uppercase);
    let found = COMMANDS.binary_search_by(|(known, _)| known.bytes().cmp(upper()));
    found.map_or(&UNKNOWN, |at| &COMMANDS[at].1)
}

const fn place(name: u128) -> usize {
    // A multiplier with no pattern in its bits: the golden ratio's.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (name >> 64) as u64 ^ (name as u64).rotate_left(29);
    (folded.wrapping_mul(SPREAD) >> (64 - PLACES.trailing_zeros())) as usize
}

/// A name in upper case as one number, first letter first; `None` for a longer one.
const fn packed(name: &[u8]) -> Option<u128> {
    let length = name.len();
    let (high, low) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(head), _) if length == 8 => (u64::from_be_bytes(*head), 0),
        // The last eight overlap the first: what both have is shifted out.
        (Some(head), Some(tail)) if length <= LONGEST => {
            (u64::from_be_bytes(*head), u64::from_be_bytes(*tail) << ((LONGEST - length) * 8))
        }
        (Some(_), _) => return None,
        _ => (short(name), 0),
    };
    Some((upper(high) as u128) << 64 | upper(low) as u128)
}

/// Up to seven letters.
const fn short(name: &[u8]) -> u64 {
    let (mut number, mut at) = (0, 0);
    while at < name.len() {
        number = number << 8 | name[at] as u64;
        at += 1;
    }
    if name.is_empty() { 0 } else { number << ((8 - name.len()) * 8) }
}

/// Eight bytes in upper case, at once: each byte has a bit to spare, which tells whether adding to it carried.
const fn upper(bytes: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let low = bytes & !HIGH;
    let from_a = low + (HIGH - b'a' as u64 * 0x0101_0101_0101_0101);
    let beyond_z = low + (HIGH - (b'z' as u64 + 1) * 0x0101_0101_0101_0101);
    let letters = (from_a & !beyond_z) & !bytes & HIGH;
    bytes - (letters >> 2)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is(name: &[u8], row: &Policy) -> bool {
        std::ptr::eq(find(name), row)
    }

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for (name, policy) in COMMANDS {
            let mixed: String = name
                .char_indices()
                .map(|(at, c)| if at % 2 == 0 { c } else { c.to_ascii_lowercase() })
                .collect();
            for form in [*name, &name.to_ascii_lowercase(), &mixed] {
                assert!(is(form.as_bytes(), policy), "{form}");
            }
        }
    }

    #[test]
    fn what_only_resembles_a_name_is_not_found() {
        let known: HashSet<Vec<u8>> = COMMANDS.iter().map(|row| row.0.as_bytes().to_vec()).collect();
        let check = |other: &[u8]| {
            assert_eq!(find(other).is_known(), known.contains(&other.to_ascii_uppercase()), "{other:?}");
        };
        for name in &known {
            for at in 0..name.len() {
                let mut other = name.clone();
                for byte in 0..=u8::MAX {
                    other[at] = byte;
                    check(&other);
                }
            }
            for other in [&b"\0"[..], b"S", b" ", &[0; 13]] {
                check(&[name, other].concat());
            }
            check(&name[1..]);
            check(&name[..name.len() - 1]);
        }
        for other in ["", "X", "NOSUCHCOMMAND", "GEORADIUSBYMEMBE", "GEORADIUSBYMEMBERS", &"GET".repeat(1000)]
        {
            assert!(!find(other.as_bytes()).is_known(), "{other}");
        }
    }

    #[test]
    fn a_name_is_found_at_its_place_or_soon_behind() {
        for (at, number) in NAMES.iter().enumerate().filter(|(_, number)| **number != u128::MAX) {
            let steps = (0..PLACES).find(|step| usize::from(INDEX[(place(*number) + step) % PLACES]) == at);
            assert!(steps.is_some_and(|steps| steps <= 4), "{}: {steps:?}", COMMANDS[at].0);
        }
    }
}
