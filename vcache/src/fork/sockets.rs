//! The open sockets of this process, which a forked child closes.
//!
//! The child's handler may not allocate or lock, and threads may be in the middle of a change. So the sockets stand in blocks
//! of places, each changed by one atomic operation, and a block that was added stays.

use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use super::descriptor;

/// A process has a connection for each server and alias, so one block is enough for most.
const PLACES: usize = 64;

static SOCKETS: Sockets = Sockets(Block::new());

/// Notes a socket for the child to close.
pub(crate) fn register(fd: RawFd) {
    SOCKETS.register(fd);
}

/// Takes a socket out again, before it is closed.
pub(crate) fn unregister(fd: RawFd) {
    SOCKETS.unregister(fd);
}

/// Closes what the parent had open. It is safe in a signal handler.
pub(super) fn close_inherited() {
    SOCKETS.close_inherited();
}

struct Sockets(Block);

impl Sockets {
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        std::iter::successors(Some(&self.0), |block| block.next())
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.blocks().flat_map(|block| &block.places)
    }

    fn register(&self, fd: RawFd) {
        // SAFETY: the caller has it open.
        let Some((device, inode)) = descriptor::file(unsafe { BorrowedFd::borrow_raw(fd) }) else { return };
        let mut block = &self.0;
        loop {
            for place in &block.places {
                if place.fd.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    place.device.store(device, Ordering::Relaxed);
                    place.inode.store(inode, Ordering::Relaxed);
                    place.fd.store(fd, Ordering::Release);
                    return;
                }
            }
            block = block.next().unwrap_or_else(|| block.add());
        }
    }

    fn unregister(&self, fd: RawFd) {
        for place in self.places() {
            if place.fd.compare_exchange(fd, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn close_inherited(&self) {
        for place in self.places() {
            let fd = place.fd.swap(FREE, Ordering::AcqRel);
            if fd >= 0 && place.is_same(fd) {
                // SAFETY: the descriptor was inherited from the parent and nothing in the child uses it: every handle to
                // it is stale from this epoch on, and a stale descriptor's drop closes nothing. It is not the user's.
                unsafe {
                    libc::close(fd);
                }
            }
        }
    }
}

struct Block {
    places: [Place; PLACES],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&Self> {
        // SAFETY: it is null or was leaked by `add`, so it lives as long as the process.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// The block after this one, which is made if it is not there.
    fn add(&self) -> &Self {
        let made = Box::into_raw(Box::new(Self::new()));
        match self.next.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it stays from here on.
            Ok(_) => unsafe { &*made },
            Err(other) => {
                // SAFETY: no other thread has seen it, and what another thread has added stays.
                unsafe {
                    drop(Box::from_raw(made));
                    &*other
                }
            }
        }
    }
}

/// A socket's number, and which file that was: a daemon may have closed it and opened a file of the user's under it.
struct Place {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// No socket.
const FREE: RawFd = -1;
/// A thread writes here just now.
const TAKEN: RawFd = -2;

impl Place {
    const fn new() -> Self {
        Self { fd: AtomicI32::new(FREE), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    /// Whether the number still is that of the socket.
    fn is_same(&self, fd: RawFd) -> bool {
        // SAFETY: the number is only asked about, and it need not be open for that.
        let found = descriptor::file(unsafe { BorrowedFd::borrow_raw(fd) });
        found == Some((self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn open() -> Vec<OwnedFd> {
        (0..PLACES).flat_map(|_| <[_; 2]>::from(UnixStream::pair().unwrap())).map(OwnedFd::from).collect()
    }

    fn held(sockets: &Sockets) -> Vec<RawFd> {
        sockets.places().map(|place| place.fd.load(Ordering::Acquire)).filter(|fd| *fd >= 0).collect()
    }

    #[test]
    fn there_is_a_place_for_each_socket_and_places_are_used_again() {
        let sockets = Sockets(Block::new());
        let open = open();
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for part in open.chunks(PLACES / 2) {
                    scope.spawn(|| part.iter().for_each(|socket| sockets.register(socket.as_raw_fd())));
                }
            });
            assert_eq!(held(&sockets).len(), 2 * PLACES);
            open.iter().for_each(|socket| sockets.unregister(socket.as_raw_fd()));
            assert!(held(&sockets).is_empty());
        }
        assert_eq!(sockets.blocks().count(), 2);
    }

    #[test]
    fn a_child_closes_all_of_them() {
        let sockets = Sockets(Block::new());
        let open = open();
        open.iter().for_each(|socket| sockets.register(socket.as_raw_fd()));
        // SAFETY: the child calls what is safe in a signal handler, and leaves at once.
        match unsafe { libc::fork() } {
            0 => {
                sockets.close_inherited();
                // SAFETY: the number is only asked about.
                let is_open =
                    |socket: &OwnedFd| unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) } >= 0;
                let any = open.iter().any(is_open);
                // SAFETY: it ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(any)) }
            }
            child => {
                let mut status = -1;
                // SAFETY: the child is ours, and the place for its status too.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(status, 0);
            }
        }
        assert_eq!(held(&sockets).len(), 2 * PLACES);
    }
}
