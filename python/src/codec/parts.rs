//! Parts that a value holds more than once. Each is written once and comes back as one object, as with pickle: the
//! writer's memo, the reader's table, and the table's form on the wire.
//!
//! Where a part is met again, its number stands in its place (`ext_code::PART`). Numbers count the parts in the order
//! in which they were met again. A table after the msgpack tells where each part begins: an offset for each number
//! (u32), and last their count (u32). A value without such parts has neither numbers nor table, and its reader keeps
//! nothing.

use pyo3::prelude::*;

use super::error::DecodeError;
use super::refusal::Refusal;
use super::sink::Sink;

/// Bytes of an offset, and of the count, in the table.
const WORD: usize = 4;

/// The fewest slots of a memo that holds anything.
const FEWEST_SLOTS: usize = 64;

/// What the writer has met so far that it may meet again.
///
/// NOTE: most of what it holds is never met again, so what counts is how fast it takes a new part in. A table of
/// our own takes a third of the time of a `HashMap`.
#[derive(Default)]
pub(super) struct Memo<'py> {
    /// In the order of their places.
    parts: Vec<Part<'py>>,
    /// Indexes into `parts` plus 1, by address; 0 is free. Their number is a power of two, and half of them are free.
    slots: Vec<u32>,
    /// Indexes into `parts`, by number.
    numbered: Vec<usize>,
}

struct Part<'py> {
    /// Kept alive: Python code that runs meanwhile could free it, and its address could become another object's.
    object: Bound<'py, PyAny>,
    /// Where it begins.
    at: usize,
    /// How many containers it nests, itself included. None while it is being written.
    height: Option<usize>,
    number: Option<u32>,
}

/// What the memo says of a part.
pub(super) enum Met {
    /// It is new: write it, and hand the index to `finish`.
    First(usize),
    /// It is there already.
    Again { number: u32, height: usize },
    /// It is still being written, so it contains itself.
    Inside,
}

impl<'py> Memo<'py> {
    /// Looks for `value`, and remembers that it begins `at` if it is not there.
    pub(super) fn meet(&mut self, value: &Bound<'py, PyAny>, at: usize) -> Result<Met, Refusal> {
        let next = self.parts.len();
        if next * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = self.slot_of(value);
        let Some(index) = self.slots[slot].checked_sub(1) else {
            self.slots[slot] = u32::try_from(next + 1).map_err(|_| Refusal::TooLarge)?;
            self.parts.push(Part { object: value.clone(), at, height: None, number: None });
            return Ok(Met::First(next));
        };
        let index = index as usize;
        let part = &mut self.parts[index];
        let Some(height) = part.height else { return Ok(Met::Inside) };
        let number = match part.number {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.numbered.len()).map_err(|_| Refusal::TooLarge)?;
                self.numbered.push(index);
                part.number = Some(number);
                number
            }
        };
        Ok(Met::Again { number, height })
    }

    /// The slot that `value` has, or would have.
    fn slot_of(&self, value: &Bound<'py, PyAny>) -> usize {
        let mask = self.slots.len() - 1;
        // Objects lie 16 bytes apart at least. The product's middle bits depend on all of the address's lower ones.
        let mixed = (value.as_ptr().addr() as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        #[allow(clippy::cast_possible_truncation, reason = "it is 32 bits")]
        let mut slot = mixed as usize & mask;
        while let Some(index) = self.slots[slot].checked_sub(1) {
            if self.parts[index as usize].object.is(value) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[cold]
    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(FEWEST_SLOTS);
        self.slots = vec![0; slots];
        self.parts.reserve(slots / 2 - self.parts.len());
        for (index, part) in (1..).zip(&self.parts) {
            let slot = self.slot_of(&part.object);
            self.slots[slot] = index;
        }
    }

    pub(super) fn finish(&mut self, index: usize, height: usize) {
        self.parts[index].height = Some(height);
    }

    /// What was written from `from` on has moved `by` bytes towards the end.
    pub(super) fn shift(&mut self, from: usize, by: usize) {
        for part in self.parts.iter_mut().rev().take_while(|part| part.at >= from) {
            part.at += by;
        }
    }

    /// Appends the table of a value that begins at `start`, if it has one; says whether it has.
    pub(super) fn write_table(&self, out: &mut Sink<'_>, start: usize) -> Result<bool, Refusal> {
        if self.numbered.is_empty() {
            return Ok(false);
        }
        let words = self.numbered.iter().map(|&index| self.parts[index].at - start);
        for word in words.chain([self.numbered.len()]) {
            let word = u32::try_from(word).map_err(|_| Refusal::TooLarge)?;
            out.push(&word.to_be_bytes());
        }
        Ok(true)
    }
}

/// What the reader needs again.
pub(super) struct Table<'py> {
    /// The address of the byte where the next such part begins; 0 after the last one.
    next: usize,
    /// All these addresses with the parts' numbers, the last one first.
    ahead: Vec<(usize, usize)>,
    /// By number: what was read, and how many containers it nests.
    read: Vec<Option<(Bound<'py, PyAny>, usize)>>,
}

impl<'py> Table<'py> {
    /// The table of a value that has none.
    pub(super) fn empty() -> Self {
        Self { next: 0, ahead: Vec::new(), read: Vec::new() }
    }

    /// Splits `payload` into the msgpack and its table.
    pub(super) fn split_off(payload: &[u8]) -> Result<(&[u8], Self), DecodeError> {
        let (rest, count) = payload.split_last_chunk::<WORD>().ok_or(DecodeError::Truncated)?;
        let size = word(*count).checked_mul(WORD).ok_or(DecodeError::Truncated)?;
        let start = rest.len().checked_sub(size).ok_or(DecodeError::Truncated)?;
        let (body, table) = rest.split_at(start);
        let (offsets, _) = table.as_chunks::<WORD>();
        let base = body.as_ptr().addr();
        let mut ahead: Vec<_> =
            offsets.iter().enumerate().map(|(number, offset)| (base + word(*offset), number)).collect();
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        let read = vec![const { None }; ahead.len()];
        let next = ahead.last().map_or(0, |part| part.0);
        Ok((body, Self { next, ahead, read }))
    }

    /// Whether a part that is needed again begins at the start of `input`.
    #[inline]
    pub(super) fn has_part_at(&self, input: &[u8]) -> bool {
        input.as_ptr().addr() == self.next
    }

    /// Passes over that part's start; returns its number.
    pub(super) fn begin(&mut self) -> Option<usize> {
        let (_, number) = self.ahead.pop()?;
        self.next = self.ahead.last().map_or(0, |part| part.0);
        Some(number)
    }

    pub(super) fn keep(&mut self, number: usize, part: Bound<'py, PyAny>, height: usize) {
        self.read[number] = Some((part, height));
    }

    /// The part of that number, and how many containers it nests.
    pub(super) fn get(&self, number: usize) -> Result<(Bound<'py, PyAny>, usize), DecodeError> {
        let part = self.read.get(number).and_then(Option::clone);
        part.ok_or(DecodeError::Corrupt("a reference to a part that does not stand before it"))
    }

    /// Whether each part of the table was found.
    pub(super) fn is_used_up(&self) -> bool {
        self.ahead.is_empty()
    }
}

fn word(bytes: [u8; WORD]) -> usize {
    // usize has 32 bits at least wherever CPython runs.
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}
