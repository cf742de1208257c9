//! Nothing unwinds over the border: C knows no panic, and one that reached a function of the table would end the process. Both
//! sides run the bodies of such functions in here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a body; after a panic in it, the answer is `otherwise`.
pub(crate) fn contained<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        discard(payload);
        otherwise
    })
}

/// Drops a panic's payload. It may be any value, so its destructor may panic too.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // There may be no end to it.
        std::mem::forget(another);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_goes_no_further() {
        assert_eq!(contained(1, || panic!("on purpose")), 1);
        assert_eq!(contained(1, || std::panic::panic_any(Bomb)), 1);
        contained((), || drop(Bomb));
        assert_eq!(contained(1, || 2), 2);
    }
}
