//! Where encoded bytes go: the end of a buffer, up to a limit.

use super::refusal::Refusal;

/// See the module's own text.
pub(super) struct Sink<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// The length that `bytes` must not exceed.
    end: usize,
}

impl<'a> Sink<'a> {
    /// Appends to `bytes`, `room` of them at most.
    pub(super) fn new(bytes: &'a mut Vec<u8>, room: usize) -> Self {
        let end = bytes.len().saturating_add(room);
        Self { bytes, end }
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.bytes.len() > self.end
    }

    /// `len` as msgpack wants it, if that many bytes still fit under the limit.
    #[inline]
    pub(super) fn room_for(&self, len: usize) -> Result<u32, Refusal> {
        if len > self.end.saturating_sub(self.bytes.len()) {
            return Err(Refusal::TooLarge);
        }
        u32::try_from(len).map_err(|_| Refusal::TooLarge)
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `bytes` if they fit.
    pub(super) fn push_checked(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.room_for(bytes.len())?;
        self.push(bytes);
        Ok(())
    }
}
