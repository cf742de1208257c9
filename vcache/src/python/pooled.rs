//! Memory for large futures, used again. The allocator takes its time for blocks of over a kilobyte when hundreds of them
//! are made and freed in turns, as the futures of gates and of larger hot paths are: with 300 under way, a throttle's call
//! takes 7 % less CPU with this.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// What is smaller lies in its task: the allocator is quick with that.
const LARGE: usize = 512;

/// Blocks have a multiple of this size.
const STEP: usize = 256;
/// So many sizes are kept: what is larger than all of them comes from the allocator.
const SIZES: usize = 16;
/// Bytes that a thread keeps for its next futures.
const MOST_KEPT: usize = 1 << 20;

/// Free blocks of this thread, by their size.
struct Spare {
    blocks: [Vec<NonNull<u8>>; SIZES],
    bytes: usize,
}

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { blocks: [const { Vec::new() }; SIZES], bytes: 0 }) };
}

impl Drop for Spare {
    fn drop(&mut self) {
        for (index, blocks) in self.blocks.iter().enumerate() {
            for block in blocks {
                // SAFETY: `give` keeps blocks that `take` had from the allocator with this layout.
                unsafe { dealloc(block.as_ptr(), layout((index + 1) * STEP)) };
            }
        }
    }
}

fn layout(size: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and no size of a value comes near to what overflows.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

const ALIGN: usize = 16;

/// A block for a value of such a size, and not of a larger alignment than [`ALIGN`].
fn take(size: usize) -> NonNull<u8> {
    let steps = size.div_ceil(STEP);
    let spare = SPARE
        .try_with(|spare| {
            let mut spare = spare.try_borrow_mut().ok()?;
            let block = spare.blocks.get_mut(steps - 1)?.pop()?;
            spare.bytes -= steps * STEP;
            Some(block)
        })
        .ok()
        .flatten();
    spare.unwrap_or_else(|| {
        let layout = layout(steps * STEP);
        // SAFETY: the size is not 0: what is pooled is large.
        NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
    })
}

/// Keeps a block that [`take`] gave for this size, or gives it back to the allocator.
fn give(block: NonNull<u8>, size: usize) {
    let steps = size.div_ceil(STEP);
    let kept = SPARE.try_with(|spare| {
        let Ok(mut spare) = spare.try_borrow_mut() else { return false };
        if steps > SIZES || spare.bytes + steps * STEP > MOST_KEPT {
            return false;
        }
        spare.bytes += steps * STEP;
        spare.blocks[steps - 1].push(block);
        true
    });
    if !kept.unwrap_or(false) {
        // SAFETY: `take` had it from the allocator with this layout.
        unsafe { dealloc(block.as_ptr(), layout(steps * STEP)) };
    }
}

/// A future in its own block, which stays where it is.
pub(super) struct Pooled<F> {
    future: NonNull<F>,
    owns: PhantomData<F>,
}

// SAFETY: it owns its future as a box does, and a block may be kept by another thread than the one that took it.
unsafe impl<F: Send> Send for Pooled<F> {}

/// The future does not move with this.
impl<F> Unpin for Pooled<F> {}

impl<F> Pooled<F> {
    /// Whether such a future is to lie in a block.
    pub(super) const FITS: bool = size_of::<F>() > LARGE && align_of::<F>() <= ALIGN;

    /// # Panics
    /// Unless it [`FITS`](Self::FITS).
    pub(super) fn new(future: F) -> Self {
        assert!(Self::FITS, "a future that no block is for");
        let place = take(size_of::<F>()).cast::<F>();
        // SAFETY: the block is large enough, aligned, and used by no one else.
        unsafe { place.write(future) };
        Self { future: place, owns: PhantomData }
    }
}

impl<F: Future> Future for Pooled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is owned by this, does not move until it is dropped in place, and is reached by `&mut` only.
        unsafe { Pin::new_unchecked(self.future.as_mut()) }.poll(cx)
    }
}

impl<F> Drop for Pooled<F> {
    fn drop(&mut self) {
        /// Also when the future's destructor panics.
        struct Back(NonNull<u8>, usize);
        impl Drop for Back {
            fn drop(&mut self) {
                give(self.0, self.1);
            }
        }
        let _back = Back(self.future.cast(), size_of::<F>());
        // SAFETY: it was written by `new`, and this is the one place where it is dropped.
        unsafe { self.future.drop_in_place() };
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    /// A future of a size that holds something.
    async fn large<const SIZE: usize>(held: Arc<()>) -> usize {
        let filled = [1_u8; SIZE];
        ready(()).await;
        std::hint::black_box(&filled).iter().map(|byte| usize::from(*byte)).sum::<usize>()
            + Arc::strong_count(&held)
    }

    fn kept() -> usize {
        SPARE.with(|spare| spare.borrow().bytes)
    }

    /// On a thread whose blocks no other test uses.
    fn alone(test: fn()) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_block_is_used_again() {
        alone(|| {
            let held = Arc::new(());
            let mut first = Pooled::new(large::<1_000>(Arc::clone(&held)));
            let place = first.future.cast::<u8>();
            assert_eq!(
                Pin::new(&mut first).poll(&mut Context::from_waker(Waker::noop())),
                Poll::Ready(1_002)
            );
            drop(first);
            assert_eq!((kept() % STEP, kept() > 1_000), (0, true));
            let again = Pooled::new(large::<1_000>(Arc::clone(&held)));
            assert_eq!((again.future.cast::<u8>(), kept()), (place, 0));
            drop(again);
            assert_eq!(Arc::strong_count(&held), 1, "one that was never polled is dropped too");
        });
    }

    #[test]
    fn no_more_than_so_much_is_kept_and_nothing_of_what_is_too_large() {
        alone(|| {
            let held = Arc::new(());
            let many: Vec<_> = (0..2_000).map(|_| Pooled::new(large::<1_000>(Arc::clone(&held)))).collect();
            drop(many);
            assert!((MOST_KEPT - 2 * 1_024..=MOST_KEPT).contains(&kept()), "{}", kept());
            let before = kept();
            drop(Pooled::new(large::<{ STEP * SIZES }>(held)));
            assert_eq!(kept(), before);
        });
    }

    #[test]
    fn a_block_may_be_given_back_by_another_thread_and_after_a_panic() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("as told");
            }
        }
        alone(|| {
            let future = Pooled::new(large::<700>(Arc::new(())));
            std::thread::spawn(move || {
                drop(future);
                assert!(kept() > 0);
            })
            .join()
            .unwrap();
            assert_eq!(kept(), 0);
            let panics = Panics;
            let future = Pooled::new(async move {
                let _panics = &panics;
                large::<700>(Arc::new(())).await
            });
            assert!(catch_unwind(AssertUnwindSafe(|| drop(future))).is_err());
            assert!(kept() > 0);
        });
    }
}
