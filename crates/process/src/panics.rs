//! Panics: one while a connection is served ends that connection, and each is told in one line and
//! counted.
//!
//! A panic is a bug. What it was about to do is undone by dropping it; whatever else runs goes on.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    pin::Pin,
    sync::OnceLock,
    task::Poll,
    thread,
};

/// Longest panic message to log, in characters.
const LONGEST: usize = 160;

/// Counts the panics of the process.
static COUNTER: OnceLock<metrics::Counter> = OnceLock::new();

thread_local! {
    /// The running code reports its panics itself.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of this thread was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// Its message, without what is quoted in it, which may be a client's data.
    pub message: String,
    /// `file:line:column`; empty where [`watch`] was not called.
    pub place: String,
}

/// Counts the panics of the process from now on. The first counter stays.
pub fn count_with(counter: metrics::Counter) {
    let _ = COUNTER.set(counter);
}

/// From now on each panic of the process is counted and logged as one line. The text that Rust
/// writes to stderr by default is left out.
pub fn watch() {
    set_hook(Box::new(|info| {
        if let Some(counter) = COUNTER.get() {
            counter.increment(1);
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if CAUGHT.get() {
            return PLACE.set(place);
        }
        let thread = thread::current();
        let message = message(info.payload());
        tracing::error!(
            thread = thread.name(),
            place,
            message,
            "a panic, which is a bug in Tollgate: what this task did has ended"
        );
    }));
}

/// The message of a panic without quoted parts, which may contain client data.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let plain = text.unwrap_or("no message").split(['`', '"', '\'']).next().unwrap_or_default();
    plain.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// Awaits a future, and catches its panic. What is left of the future is dropped then.
///
/// # Errors
/// The panic.
pub async fn caught<F: Future + Unpin>(future: F) -> Result<F::Output, Panic> {
    let mut left = Some(future);
    poll_fn(move |cx| {
        let Some(future) = &mut left else { return Poll::Pending };
        match tells_itself(|| Pin::new(future).poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => {
                // What is left may panic again when it is dropped.
                let future = left.take();
                let _ = tells_itself(|| drop(future));
                Poll::Ready(Err(panic))
            }
        }
    })
    .await
}

/// Runs `work` and catches its panic, which the caller reports.
///
/// # Errors
/// The panic.
pub fn tells_itself<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    // This may run while another panic is on its way to its own catcher.
    let (before, place) = (CAUGHT.replace(true), PLACE.take());
    let result = catch_unwind(AssertUnwindSafe(run));
    CAUGHT.set(before);
    let place = PLACE.replace(place);
    result.map_err(|payload| Panic { message: message(&*payload), place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::LocalRuntime;

    /// Panics when it is polled, and again when it is dropped.
    struct Twice;

    impl Future for Twice {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            panic!("at the poll")
        }
    }

    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("at the drop")
        }
    }

    #[test]
    fn a_future_that_panics_is_an_error_also_if_it_does_so_again() {
        let runtime = LocalRuntime::new().unwrap();
        let fine = runtime.block_on(caught(Box::pin(async { 7 })));
        assert_eq!(fine, Ok(7));
        let panic = runtime.block_on(caught(Twice)).unwrap_err();
        assert_eq!(panic.message, "at the poll");
    }

    #[test]
    fn quoted_text_of_a_panic_is_not_logged() {
        let secret = "p\u{e9}ssword";
        let sliced = tells_itself(|| secret[..2].len()).unwrap_err();
        assert!(!sliced.message.contains("ssword"), "{sliced:?}");
        assert!(!sliced.message.is_empty());
        let unknown = tells_itself(|| std::panic::panic_any(7)).unwrap_err();
        assert_eq!(unknown.message, "no message");
        let long = tells_itself(|| panic!("{}\u{1b}", "a".repeat(1000))).unwrap_err();
        assert_eq!(long.message, "a".repeat(LONGEST));
    }
}
