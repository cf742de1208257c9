//! Structs that grow. Each carries its size, and crosses the border only by these functions, which copy as much of it as both
//! sides know: the other side may have been compiled when it was shorter, or longer.

use std::mem::MaybeUninit;
use std::ptr;

/// A struct that carries its size first.
///
/// # Safety
/// It is `repr(C)`, its first field is a `usize`, and each field beyond [`Growing::FIRST`] is valid if all its bytes are zero,
/// which is what an older version has there.
pub(crate) unsafe trait Growing: Copy {
    /// The size in the first version. No struct is smaller.
    const FIRST: usize;
}

/// A struct that is zero but for its size, for the other side to write to.
#[cfg(any(test, not(feature = "driver")))]
pub(crate) fn room<T: Growing>() -> MaybeUninit<T> {
    let mut room = MaybeUninit::<T>::zeroed();
    // SAFETY: the trait's promise, that a `usize` stands first.
    unsafe { room.as_mut_ptr().cast::<usize>().write(size_of::<T>()) };
    room
}

/// Copies a struct of the other side's. What it does not have is zero; what is not known here is left. `None` if it is smaller
/// than any that there was.
///
/// # Safety
/// At `from` there must be a struct as large as its first field says.
pub(crate) unsafe fn read_sized<T: Growing>(from: *const T) -> Option<T> {
    // SAFETY: the caller's promise; the trait's, that the size stands first.
    let size = unsafe { from.cast::<usize>().read() };
    if size < T::FIRST {
        return None;
    }
    // SAFETY: the caller's promise; and the trait's, on what is zero.
    Some(unsafe { read_prefix(from.cast(), size) })
}

/// Copies what is known here of the `size` bytes at `from`; what is beyond them is zero.
///
/// # Safety
/// They must be there, they must be a `T` as far as they go, and the rest of one is valid if it is zero.
pub(crate) unsafe fn read_prefix<T: Copy>(from: *const u8, size: usize) -> T {
    let mut own = MaybeUninit::<T>::zeroed();
    // SAFETY: the caller's promise, and no more than there is room for.
    unsafe {
        ptr::copy_nonoverlapping(from, own.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        own.assume_init()
    }
}

/// Writes a struct to a place of the other side's, which has written how much room there is. Afterwards its size is what was
/// written. `false` if that would be smaller than any that there was, and then nothing is.
///
/// # Safety
/// At `to` there must be as much room as its first field says.
#[cfg(any(test, feature = "driver"))]
pub(crate) unsafe fn write_sized<T: Growing>(to: *mut T, value: &T) -> bool {
    // SAFETY: the caller's promise; the trait's, that the size stands first.
    let room = unsafe { to.cast::<usize>().read() };
    if room < T::FIRST {
        return false;
    }
    let written = room.min(size_of::<T>());
    // SAFETY: no more than there is on both sides.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), to.cast::<u8>(), written);
        to.cast::<usize>().write(written);
    }
    true
}

#[cfg(all(test, feature = "driver"))]
mod tests {
    use super::*;
    use crate::abi::fenced::Fenced;

    /// A struct in three versions.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct First {
        size: usize,
        a: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Second {
        size: usize,
        a: u64,
        b: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Third {
        size: usize,
        a: u64,
        b: u64,
        c: Option<&'static u64>,
    }

    // SAFETY: `repr(C)`, the size first, and no field that may not be zero.
    unsafe impl Growing for First {
        const FIRST: usize = 16;
    }
    // SAFETY: as above.
    unsafe impl Growing for Second {
        const FIRST: usize = 16;
    }
    // SAFETY: as above.
    unsafe impl Growing for Third {
        const FIRST: usize = 16;
    }

    fn third() -> Third {
        Third { size: size_of::<Third>(), a: 1, b: 2, c: Some(&3) }
    }

    #[test]
    fn of_a_longer_struct_what_is_known_is_read() {
        let theirs = Fenced::holding(&third(), size_of::<Third>());
        // SAFETY: it is as large as it says.
        let (first, second, third_) = unsafe {
            (
                read_sized::<First>(theirs.at()),
                read_sized::<Second>(theirs.at()),
                read_sized::<Third>(theirs.at()),
            )
        };
        assert_eq!(first, Some(First { size: 32, a: 1 }));
        assert_eq!(second, Some(Second { size: 32, a: 1, b: 2 }));
        assert_eq!(third_, Some(third()));
    }

    #[test]
    fn what_a_shorter_struct_does_not_have_is_zero() {
        for (size, b) in [(16, 0), (24, 2)] {
            let theirs = Fenced::holding(&third(), size);
            // SAFETY: it is as large as it says.
            let ours = unsafe { read_sized::<Third>(theirs.at()) };
            assert_eq!(ours, Some(Third { size, a: 1, b, c: None }));
        }
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        for room in [16, 24, 32] {
            let theirs = Fenced::holding(&Third { size: 0, a: 0, b: 0, c: None }, room);
            // SAFETY: as above.
            assert!(unsafe { write_sized(theirs.at(), &third()) });
            // SAFETY: as above.
            let written = unsafe { read_sized::<Third>(theirs.at()) }.unwrap();
            let (b, c) = (if room > 16 { 2 } else { 0 }, third().c.filter(|_| room > 24));
            assert_eq!(written, Third { size: room, a: 1, b, c });
        }
    }

    #[test]
    fn no_more_is_written_than_there_is() {
        let theirs = Fenced::holding(&third(), 32);
        // SAFETY: as above.
        assert!(unsafe { write_sized(theirs.at(), &First { size: 16, a: 9 }) });
        // SAFETY: as above.
        let written = unsafe { theirs.at::<Third>().read() };
        assert_eq!(written, Third { size: 16, a: 9, ..third() }, "the rest is as it was");
    }

    #[test]
    fn what_is_smaller_than_ever_is_neither_read_nor_written() {
        for size in [8, 9, 15] {
            let theirs = Fenced::new(16);
            // SAFETY: there is room.
            unsafe { theirs.at::<usize>().write(size) };
            let before = theirs.bytes().to_vec();
            // SAFETY: as above.
            unsafe {
                assert_eq!(read_sized::<First>(theirs.at()), None);
                assert!(!write_sized(theirs.at(), &First { size: 16, a: 9 }));
            }
            assert_eq!(theirs.bytes(), before);
        }
    }

    #[test]
    fn room_is_zero_but_for_its_size() {
        // SAFETY: all of it may be zero.
        assert_eq!(unsafe { room::<Third>().assume_init() }, Third { size: 32, a: 0, b: 0, c: None });
    }
}
