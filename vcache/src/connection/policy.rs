//! What is known of the server's commands: whether the shared connection takes one, whether it may be sent twice, whether
//! the server may sit on it, which of its arguments are keys, and whether it only reads.
//!
//! Every way in asks this one table, for every command and in every place of a pipeline, so it is looked up without
//! allocating. What a name alone does not tell is read from the command's words, where there is such a question.
//!
//! | module | is for |
//! |---|---|
//! | [`table`] | a row for each command, sorted by name |
//! | [`names`] | finding a row |
//! | [`keys`] | which arguments are keys |

mod keys;
mod names;
mod table;
#[cfg(test)]
mod tests;

pub(super) use names::find;

use super::words::Words;
use crate::error::{Error, Result};
use keys::Keys;

/// One command, or one subcommand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) taken: Taken,
    pub(super) again: Again,
    pub(super) blocks: Blocks,
    pub(super) keys: Keys,
    /// The server's own word for it: it may go to a replica.
    pub(super) reads: bool,
}

/// Whether the shared connection takes a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    Yes,
    /// There is no row for it: it is sent, and that is all.
    Unknown,
    /// Never: it would change the connection itself for every other caller, or hold it up. What to do instead.
    No(&'static str),
    /// It begins a transaction, which must end in the same packet.
    Begins,
    /// It ends one.
    Ends,
    /// As its subcommand says, or, of one that has no row, the last.
    By(&'static [Row], &'static Policy),
}

pub(super) type Row = (&'static str, Policy);

/// Whether running a command twice has the effect and the answer of running it once. This is a list of what is safe: what
/// is not on it is not sent twice.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    Never,
    /// Unless the server sits on it: then it would wait for other things the second time.
    Always,
    /// If there are only these options behind its first two arguments.
    With(Options),
}

/// Whether the server may sit on a command, and which argument says for how long.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocks {
    Never,
    /// The first, in seconds.
    First,
    /// The last, in seconds.
    Last,
    /// That of the option `BLOCK`, in milliseconds.
    Option,
}

/// Words that stand for themselves among a command's arguments, and how many values follow each.
pub(super) type Options = &'static [(&'static str, usize)];

/// How long the server may keep a command before it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Blocking {
    No,
    /// Up to so many seconds; `None` is for ever.
    Yes(Option<f64>),
}

/// What is known of one command with its arguments.
pub(super) struct Judged {
    pub(super) repeatable: bool,
    pub(super) blocking: Blocking,
}

/// Of a command without a row.
static UNKNOWN: Policy = Policy {
    taken: Taken::Unknown,
    again: Again::Never,
    blocks: Blocks::Never,
    keys: Keys::Unknown,
    reads: false,
};

impl Policy {
    #[cfg(any(test, all(feature = "driver", feature = "python")))]
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.taken, Taken::Unknown)
    }

    /// Whether its name says all that matters, for so many arguments. With `promised`, whether it may be sent twice does not.
    #[inline]
    pub(super) fn is_plain(&self, args: usize, promised: bool) -> bool {
        matches!(self.taken, Taken::Yes)
            && matches!(self.blocks, Blocks::Never)
            && (!matches!(self.again, Again::With(_)) || args == 2 || promised)
    }

    /// Of a plain one: whether it may be sent twice.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self.again, Again::Never)
    }

    /// Whether its arguments decide if it may be sent twice, so that its caller cannot know better.
    pub(super) fn decides_by_arguments(&self) -> bool {
        matches!(self.again, Again::With(_)) || matches!(self.taken, Taken::By(..))
    }

    /// What it is with these words, its name first.
    ///
    /// # Errors
    /// If the shared connection does not take it.
    pub(super) fn judge(&self, words: Words<'_>) -> Result<Judged> {
        let mut arguments = words.clone();
        let name = arguments.next().unwrap_or_default();
        match self.taken {
            Taken::Yes | Taken::Begins | Taken::Ends => {}
            Taken::Unknown => check_name(name)?,
            Taken::No(instead) => return Err(refused(name, None, instead)),
            Taken::By(..) => {
                let subcommand = arguments.next().unwrap_or_default();
                let policy = self.of_subcommand(subcommand);
                if let Taken::No(instead) = policy.taken {
                    return Err(refused(name, Some(subcommand), instead));
                }
                check_name(subcommand)?;
                return Ok(Judged { repeatable: policy.is_repeatable(), blocking: Blocking::No });
            }
        }
        let blocking = self.blocking(arguments.clone());
        let repeatable = match self.again {
            Again::Never => false,
            Again::Always => blocking == Blocking::No,
            Again::With(options) => has_only(options, arguments),
        };
        Ok(Judged { repeatable, blocking })
    }

    /// That of a subcommand, of a command that has some.
    pub(super) fn of_subcommand(&self, subcommand: &[u8]) -> &Self {
        let Taken::By(known, others) = self.taken else { return self };
        known.iter().find(|row| is_word(subcommand, row.0)).map_or(others, |row| &row.1)
    }

    fn blocking(&self, mut arguments: Words<'_>) -> Blocking {
        let (limit, unit) = match self.blocks {
            Blocks::Never => return Blocking::No,
            Blocks::First => (arguments.next(), 1.0),
            Blocks::Last => (arguments.last(), 1.0),
            Blocks::Option => match reading(&mut arguments) {
                None => return Blocking::No,
                limit => (limit, 0.001),
            },
        };
        let limit = limit
            .and_then(|limit| std::str::from_utf8(limit).ok())
            .and_then(|limit| limit.parse::<f64>().ok())
            .filter(|&limit| limit >= 0.0)
            // The server does not take it either, and says so at once.
            .map_or(Some(0.0), |limit| (limit > 0.0).then_some(limit * unit));
        Blocking::Yes(limit)
    }
}

/// Some servers compare names only up to a zero byte, so one that holds such a byte may be another there than here.
fn check_name(name: &[u8]) -> Result<()> {
    if name.contains(&0) {
        return Err(Error::refused("a command was to be sent whose name holds a zero byte"));
    }
    Ok(())
}

/// The options of `XREAD` and `XREADGROUP`. They end at `STREAMS`: what stands behind it is no option, whatever it is called.
const READING: Options = &[("BLOCK", 1), ("COUNT", 1), ("GROUP", 2), ("NOACK", 0), ("STREAMS", 0)];

/// Goes on to what stands behind `STREAMS`. The value of the last option `BLOCK` on the way, empty if it is missing.
fn reading<'a>(arguments: &mut Words<'a>) -> Option<&'a [u8]> {
    let mut limit = None;
    while let Some(word) = arguments.next() {
        match option(READING, word) {
            Some(("BLOCK", _)) => limit = Some(arguments.next().unwrap_or_default()),
            Some(("STREAMS", _)) => break,
            Some((_, values)) => arguments.by_ref().take(values).for_each(|_| ()),
            // A later server's: it may have any number of values.
            None => {}
        }
    }
    limit
}

/// Whether there is nothing behind the first two arguments but these options with their values.
fn has_only(options: Options, mut arguments: Words<'_>) -> bool {
    arguments.next();
    arguments.next();
    while let Some(word) = arguments.next() {
        let Some((_, values)) = option(options, word) else { return false };
        for _ in 0..values {
            if arguments.next().is_none() {
                return false;
            }
        }
    }
    true
}

fn option(options: Options, word: &[u8]) -> Option<(&'static str, usize)> {
    options.iter().find(|(name, _)| is_word(word, name)).copied()
}

fn is_word(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

/// The error of one half of a transaction.
pub(super) fn not_whole(name: &str) -> Error {
    refused(name.as_bytes(), None, table::WHOLE)
}

#[cold]
fn refused(name: &[u8], subcommand: Option<&[u8]>, instead: &str) -> Error {
    let mut shown = String::from_utf8_lossy(name).to_ascii_uppercase();
    // One that is not known may be anything, a secret too.
    let is_name = |word: &&[u8]| {
        word.len() <= 20 && word.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-')
    };
    if let Some(subcommand) = subcommand.filter(is_name) {
        shown.push(' ');
        shown += &String::from_utf8_lossy(subcommand).to_ascii_uppercase();
    }
    Error::refused(format!("{shown} cannot run on the shared connection: {instead}"))
}
