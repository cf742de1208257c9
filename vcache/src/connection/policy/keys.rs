//! Which of a command's arguments are keys. Positions are those of the server's `COMMAND INFO`: the name is number 0.

use super::{Options, option, reading};
use crate::connection::words::Words;

/// Where a command's keys are.
#[derive(Clone, Copy, Debug)]
pub(in crate::connection) enum Keys {
    None,
    /// They are not known, or cannot be.
    Unknown,
    /// From a position to another, which is counted from the end if it is negative; each so many words behind the other.
    Range {
        first: usize,
        last: isize,
        step: usize,
    },
    /// At a position their number, and behind it themselves.
    Counted {
        at: usize,
        step: usize,
    },
    /// The first argument, and behind it a number and as many more.
    AndCounted,
    /// The first argument, and the value of the last of the options, from a position on, whose name begins with `STORE`.
    AndStored {
        from: usize,
        options: Options,
    },
    /// The first half of what stands behind the word `STREAMS`.
    Streams,
}

impl Keys {
    /// Whether the first argument is the only one.
    #[cfg(feature = "driver")]
    pub(in crate::connection) fn is_first(self) -> bool {
        matches!(self, Self::Range { first: 1, last: 1, .. })
    }

    /// Appends the keys among these words, a command's name first. `None` if they cannot be told.
    pub(in crate::connection) fn find<'a>(self, words: &Words<'a>, keys: &mut Vec<&'a [u8]>) -> Option<()> {
        match self {
            Self::None => {}
            Self::Unknown => return None,
            Self::Range { first, last, step } => {
                let last =
                    usize::try_from(last).ok().or_else(|| words.len().checked_sub(last.unsigned_abs()))?;
                if first > last || last >= words.len() {
                    return None;
                }
                keys.extend(words.clone().take(last + 1).skip(first).step_by(step));
            }
            Self::Counted { at, step } => counted(words, at, step, keys)?,
            Self::AndCounted => {
                keys.push(words.clone().nth(1)?);
                counted(words, 2, 1, keys)?;
            }
            Self::AndStored { from, options } => {
                keys.push(words.clone().nth(1)?);
                keys.extend(stored(words.clone().skip(from), options));
            }
            Self::Streams => {
                let mut rest = words.clone();
                rest.next();
                reading(&mut rest);
                if rest.len() == 0 || !rest.len().is_multiple_of(2) {
                    return None;
                }
                let count = rest.len() / 2;
                keys.extend(rest.take(count));
            }
        }
        Some(())
    }
}

fn counted<'a>(words: &Words<'a>, at: usize, step: usize, keys: &mut Vec<&'a [u8]>) -> Option<()> {
    let mut rest = words.clone();
    let count: usize = std::str::from_utf8(rest.nth(at)?).ok()?.parse().ok()?;
    if count.checked_mul(step)? > rest.len() {
        return None;
    }
    keys.extend(rest.step_by(step).take(count));
    Some(())
}

fn stored<'a>(mut rest: impl Iterator<Item = &'a [u8]>, options: Options) -> Option<&'a [u8]> {
    let mut found = None;
    while let Some(word) = rest.next() {
        match option(options, word) {
            Some((name, 1)) if name.starts_with("STORE") => found = rest.next().or(found),
            Some((_, values)) => rest.by_ref().take(values).for_each(|_| ()),
            None => {}
        }
    }
    found
}
