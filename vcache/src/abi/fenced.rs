//! Memory that ends where a page begins that may not be touched: reading or writing beyond it is a SIGSEGV.

use std::ptr;

/// So many bytes in front of such a page, as left by `new`: all of them 0xA5.
pub(super) struct Fenced {
    area: *mut u8,
    page: usize,
    size: usize,
}

impl Fenced {
    pub(super) fn new(size: usize) -> Self {
        // SAFETY: it only asks.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        assert!(size <= page);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new pages, anywhere.
        let area = unsafe { libc::mmap(ptr::null_mut(), 2 * page, access, kind, -1, 0) };
        assert!(area != libc::MAP_FAILED);
        let area = area.cast::<u8>();
        // SAFETY: the second of the two, and all of the first.
        unsafe {
            assert!(libc::mprotect(area.add(page).cast(), page, libc::PROT_NONE) == 0);
            area.write_bytes(0xA5, page);
        }
        Self { area, page, size }
    }

    /// A copy of the first bytes of `value`, as many as there is room for, with the size in front that this is.
    pub(super) fn holding<T: Copy>(value: &T, size: usize) -> Self {
        let fenced = Self::new(size);
        // SAFETY: no more than there is on both sides.
        unsafe {
            ptr::copy_nonoverlapping(
                ptr::from_ref(value).cast::<u8>(),
                fenced.at(),
                size.min(size_of::<T>()),
            );
            fenced.at::<usize>().write(size);
        }
        fenced
    }

    /// Where it begins.
    pub(super) fn at<T>(&self) -> *mut T {
        // SAFETY: within the first page.
        unsafe { self.area.add(self.page - self.size) }.cast()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: they are there, initialised, and nothing writes to them meanwhile.
        unsafe { std::slice::from_raw_parts(self.at(), self.size) }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: they are ours.
        unsafe { libc::munmap(self.area.cast(), 2 * self.page) };
    }
}

#[test]
fn reading_beyond_the_fence_is_a_signal() {
    let fenced = Fenced::new(8);
    // SAFETY: the child does nothing but to read, and to end.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            std::hint::black_box(fenced.at::<u8>().add(8).read_volatile());
            libc::_exit(0);
        }
        let mut status = 0;
        assert!(libc::waitpid(child, &raw mut status, 0) == child);
        status
    };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
}
