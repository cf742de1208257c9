//! `#[hotpath(spawn)]`: the body runs on a tokio runtime, for work that would keep the loop's thread busy, or that needs
//! tokio for itself. There is one runtime a process and extension module, made for the first such call.
//!
//! A runtime's threads do not live on in a forked child: it makes its own runtime, and the parent's is left alone
//! there, because ending it would wait for threads that are not there.

/// The future of a spawned body; without the feature `spawn` an error that says so.
#[doc(hidden)]
#[macro_export]
#[cfg(feature = "spawn")]
macro_rules! __spawned {
    ($($arguments:tt)*) => {
        $crate::python::spawned($($arguments)*)
    };
}

/// The future of a spawned body; without the feature `spawn` an error that says so.
#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "spawn"))]
macro_rules! __spawned {
    ($($arguments:tt)*) => {
        compile_error!(
            "#[hotpath(spawn)] needs the feature `spawn` of the crate `vcache`: add it in Cargo.toml, vcache = { ..., features = [\"python\", \"spawn\"] }"
        )
    };
}

#[cfg(feature = "spawn")]
pub use on_tokio::spawned;

#[cfg(feature = "spawn")]
mod on_tokio {
    use std::future::Future;
    use std::io;
    use std::panic::{catch_unwind, resume_unwind};
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use std::time::{Duration, Instant};

    use tokio::runtime::{Builder, Handle, Runtime};
    use tokio::task::JoinHandle;

    use crate::error::{Error, Result};
    use crate::fork::PerProcess;
    use crate::python::polled::note_prompt_cancel;

    /// A runtime that goes without waiting for its threads.
    struct Owned(Option<Runtime>);

    impl Drop for Owned {
        fn drop(&mut self) {
            if let Some(runtime) = self.0.take() {
                runtime.shutdown_background();
            }
        }
    }

    /// This process's runtime, and its handle.
    static RUNTIME: PerProcess<(Owned, Handle)> = PerProcess::new();

    fn handle() -> Result<&'static Handle> {
        let made = RUNTIME.try_get(|| {
            let build = || Builder::new_multi_thread().thread_name("vcache-spawn").enable_all().build();
            // tokio panics where it gets no thread.
            let runtime = catch_unwind(build)
                .unwrap_or_else(|_| Err(io::Error::other("no thread can be had")))
                .map_err(|error| {
                    Error::connection(format!(
                        "no tokio runtime can be started for the hot path: {error}. If descriptors or threads are used up, \
                         raise their number (ulimit -n, ulimit -u) or end some"
                    ))
                })?;
            let handle = runtime.handle().clone();
            Ok::<_, Error>((Owned(Some(runtime)), handle))
        })?;
        Ok(&made.1)
    }

    /// Runs `body` on the runtime and gives its result here. A panic in it goes on here.
    ///
    /// `abort`: the body is given up, at its next `.await`, when this future is dropped; otherwise it runs to its end.
    /// With a `timeout`, which runs from the first poll, it fails with a time-out.
    pub fn spawned<T: Send + 'static>(
        body: impl Future<Output = Result<T>> + Send + 'static,
        alias: &'static str,
        abort: bool,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<T>> + Send {
        let limited = move |begun: Instant| async move {
            let Some(timeout) = timeout else { return body.await };
            let deadline = begun + timeout;
            tokio::time::timeout_at(deadline.into(), body).await.unwrap_or_else(|_| {
                let text = format!("the hot path took longer than its time-out of {timeout:?}");
                Err(Error::timeout(text).with_alias(alias))
            })
        };
        async move { Spawned { task: handle()?.spawn(limited(Instant::now())), abort }.await }
    }

    struct Spawned<T> {
        task: JoinHandle<Result<T>>,
        abort: bool,
    }

    impl<T> Future for Spawned<T> {
        type Output = Result<T>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            if self.abort {
                note_prompt_cancel();
            }
            match ready!(Pin::new(&mut self.task).poll(cx)) {
                Ok(result) => Poll::Ready(result),
                Err(error) => match error.try_into_panic() {
                    Ok(payload) => resume_unwind(payload),
                    // Only this future's drop aborts it.
                    Err(_) => Poll::Ready(Err(Error::configuration("the tokio runtime was shut down"))),
                },
            }
        }
    }

    impl<T> Drop for Spawned<T> {
        fn drop(&mut self) {
            if self.abort {
                self.task.abort();
            }
        }
    }
}
