//! A file descriptor that closes itself only where it is sure to be ours still. A daemon closes all descriptors after its
//! fork and opens files of the user's under the same numbers; what we had there is not ours to close any more.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::fstat;

/// An open descriptor of this process. Dropping it closes it, unless the process was forked since, or the number belongs
/// to another file by now.
pub(crate) struct Descriptor {
    fd: RawFd,
    epoch: u64,
    /// Which file it is, as far as the kernel tells.
    file: Option<(u64, u64)>,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { file: file(&fd), fd: fd.into_raw_fd(), epoch: super::epoch() }
    }

    /// Whether this process opened it, and not one that it was forked from.
    pub(crate) fn is_current(&self) -> bool {
        self.epoch == super::epoch()
    }

    /// Whether it is the same file still: it costs a system call to ask.
    pub(crate) fn is_ours(&self) -> bool {
        self.is_current() && file(self.as_fd()) == self.file
    }
}

/// Device and inode of an open descriptor.
pub(super) fn file(fd: impl AsFd) -> Option<(u64, u64)> {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    fstat(fd).ok().map(|stat| (stat.st_dev as u64, stat.st_ino as u64))
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open as long as `self` unless the user closed all descriptors, after which calls on the number
        // fail, or read and write what the user opened there: no call is made on a stale one.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: this process opened the descriptor, it is the same file still, and nothing else owns it.
            drop(unsafe { OwnedFd::from_raw_fd(self.fd) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_number_that_the_user_has_opened_anew_is_left_alone() {
        let ours = Descriptor::new(rustix::pipe::pipe().unwrap().0);
        let path = std::env::temp_dir().join(format!("vcache-descriptor-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        // The user's file takes the number of ours, as after closing all and opening again.
        // SAFETY: `ours` owns the number; the user's file is put there on purpose.
        let mut theirs = unsafe {
            assert_eq!(libc::dup2(file.as_raw_fd(), ours.as_raw_fd()), ours.as_raw_fd());
            File::from_raw_fd(ours.as_raw_fd())
        };
        drop(ours);
        theirs.write_all(b"theirs").unwrap();
        theirs.rewind().unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "theirs");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn one_that_is_ours_is_closed() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(Descriptor::new(writer));
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 0, "the other end is closed");
    }
}
