//! Calls of the table's functions by a guest that checks nothing of what it hands over, as one may be that was built otherwise.

use std::ffi::{CStr, c_void};
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use vcache::abi::table::{self, CAPSULE, Command, Connection, Node, Reply, Status, Table, Text};
use vcache::pyo3::prelude::*;
use vcache::pyo3::types::PyCapsule;
use vcache::{Error, ErrorKind};

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// Finds the table, once.
pub fn find(py: Python<'_>) -> PyResult<()> {
    let capsule = py.import("django_vcache")?.getattr("_capi")?.cast_into::<PyCapsule>()?;
    let name: &CStr = CAPSULE;
    TABLE.store(capsule.pointer_checked(Some(name))?.as_ptr().cast(), Ordering::Release);
    Ok(())
}

fn table() -> &'static Table {
    // SAFETY: the host's table is static.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }.expect("`find_table` was called")
}

/// What a guest says of its bytes.
pub struct Said {
    pub replies: usize,
    pub flags: u64,
    pub blocks: u64,
}

/// The reply to these bytes on the connection of `default`: the tags of its nodes.
pub fn call(bytes: Vec<u8>, said: Said) -> impl Future<Output = vcache::Result<Vec<u32>>> {
    Call { bytes, said, submitted: None }
}

struct Call {
    bytes: Vec<u8>,
    said: Said,
    submitted: Option<Submitted>,
}

struct Submitted {
    place: Arc<Place>,
    ticket: *const c_void,
}

// SAFETY: a ticket may be given back by any thread.
unsafe impl Send for Submitted {}

type Place = Mutex<(Option<vcache::Result<Vec<u32>>>, Option<Waker>)>;

unsafe extern "C" fn done(context: *mut c_void, reply: *mut Reply, error: *mut table::Error) {
    // SAFETY: the context of `submit`, given back once; and a reply or an error of the host's.
    let (place, outcome) = unsafe {
        let place = Arc::from_raw(context.cast::<Place>());
        (place, if reply.is_null() { Err(taken(error)) } else { Ok(tags(reply)) })
    };
    let waker = {
        let mut place = place.lock().unwrap();
        place.0 = Some(outcome);
        place.1.take()
    };
    waker.into_iter().for_each(Waker::wake);
}

unsafe fn tags(reply: *mut Reply) -> Vec<u32> {
    // SAFETY: a reply of the host's, which is freed once.
    unsafe {
        let nodes: &[Node] = std::slice::from_raw_parts((*reply).nodes, (*reply).count);
        let tags = nodes.iter().map(|node| node.tag).collect();
        (table().reply_free)(reply);
        tags
    }
}

unsafe fn taken(error: *mut table::Error) -> Error {
    // SAFETY: an error of the host's, which is freed once.
    unsafe {
        let message = (*error).message.to_string().unwrap_or_default();
        let kind = match (*error).kind {
            table::Error::VALUE => ErrorKind::Value,
            table::Error::TIMEOUT => ErrorKind::Timeout,
            table::Error::CONFIGURATION => ErrorKind::Configuration,
            _ => ErrorKind::Connection,
        };
        (table().error_free)(error);
        Error::new(kind, message)
    }
}

impl Call {
    fn submit(&self) -> vcache::Result<Submitted> {
        let place = Arc::new(Place::default());
        let command = Command {
            size: size_of::<Command>(),
            bytes: self.bytes.as_ptr(),
            len: self.bytes.len(),
            replies: self.said.replies,
            flags: self.said.flags,
            blocks: self.said.blocks,
            timeout: 5_000_000,
            done,
            context: Arc::into_raw(Arc::clone(&place)).cast_mut().cast(),
            patience: 0,
            deadline: 0,
            slot: 0,
            #[cfg(feature = "longer")]
            of_tomorrow: u64::MAX,
        };
        let (mut ticket, mut error) = (ptr::null(), ptr::null_mut());
        // SAFETY: all of it lives during the calls, and the places are ours.
        unsafe {
            let mut view: Connection = std::mem::zeroed();
            view.size = size_of::<Connection>();
            assert!((table().acquire)(Text::of("default"), &raw mut view, &raw mut error) == Status::OK);
            let status = (table().submit)(view.handle, &raw const command, &raw mut ticket, &raw mut error);
            (table().release)(view.handle);
            if status != Status::OK {
                drop(Arc::from_raw(command.context.cast::<Place>()));
                assert!(status == Status::ERROR, "status {}", status.0);
                return Err(taken(error));
            }
        }
        Ok(Submitted { place, ticket })
    }
}

impl Future for Call {
    type Output = vcache::Result<Vec<u32>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.submitted.is_none() {
            let submitted = self.submit()?;
            self.submitted = Some(submitted);
        }
        let Some(submitted) = &self.submitted else { return Poll::Pending };
        let mut place = submitted.place.lock().unwrap();
        match place.0.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                place.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        // SAFETY: the ticket is ours, and with 1 the context is too.
        unsafe {
            if (table().cancel)(self.ticket) == 1 {
                drop(Arc::from_raw(Arc::as_ptr(&self.place)));
            }
        }
    }
}
