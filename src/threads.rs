//! The essential threads of a proxy: each reports its start and its end, so that none ends unnoticed.

use anyhow::{anyhow, bail};
use process::panics;
use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

/// The stack of a thread that reads what clients send, in bytes.
///
/// Every recursive parser has a depth limit: protobuf and JSON messages 100 levels, query parameters
/// 32 names. The deepest needs less than 1 MiB, also in a debug build; their tests check this. Unused
/// stack pages cost no memory.
pub const STACK_BYTES: usize = 4 << 20;

/// Receives the events of threads.
pub struct Threads {
    events: Receiver<Event>,
    sender: Sender<Event>,
}

/// Starts essential threads; cheap to clone.
#[derive(Clone)]
pub struct Starter(Sender<Event>);

/// Reports that a thread has started.
pub struct Started(Sender<Event>);

enum Event {
    Started,
    Ended(anyhow::Result<()>),
}

impl Default for Threads {
    fn default() -> Self {
        let (sender, events) = channel();
        Self { events, sender }
    }
}

impl Threads {
    /// A starter of threads whose events arrive here.
    pub fn starter(&self) -> Starter {
        Starter(self.sender.clone())
    }

    /// Waits until this many threads have started.
    ///
    /// # Errors
    /// A thread has ended instead.
    pub fn wait_started(&self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            match self.events.recv()? {
                Event::Started => left -= 1,
                Event::Ended(Err(error)) => return Err(error),
                Event::Ended(Ok(())) => bail!("a thread ended before the proxy ran"),
            }
        }
        Ok(())
    }

    /// Waits until this many threads have ended on request.
    ///
    /// # Errors
    /// A thread has failed, or has ended without a request; the others go on.
    pub fn wait_ended(&self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            left -= self.next_end(None)?;
        }
        Ok(())
    }

    /// Waits until this many more threads have ended for any reason, at most `timeout`.
    pub fn wait_ended_within(&self, count: usize, timeout: Duration) {
        let end = Instant::now() + timeout;
        let mut left = count;
        while left > 0 {
            let time = end.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return;
            }
            left = left.saturating_sub(self.next_end(Some(time)).unwrap_or(1));
        }
    }

    /// Waits for the next event, at most `timeout`. Returns the number of threads that ended with it.
    fn next_end(&self, timeout: Option<Duration>) -> anyhow::Result<usize> {
        let event = match timeout {
            Some(timeout) => self.events.recv_timeout(timeout).ok(),
            None => self.events.recv().ok(),
        };
        match event {
            Some(Event::Ended(result)) => result.map(|()| 1),
            Some(Event::Started) | None => Ok(0),
        }
    }
}

impl Starter {
    /// Starts a thread with this name. `run` must return `Ok` only after a request to end.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(
        &self,
        name: &str,
        run: impl FnOnce(Started) -> anyhow::Result<()> + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (sender, thread_name) = (self.0.clone(), name.to_owned());
        let run = move || {
            let started = Started(sender.clone());
            let result = match panics::tells_itself(|| run(started)) {
                Ok(result) => result,
                Err(panic) => Err(anyhow!("a panic at {}: {}", panic.place, panic.message)),
            };
            let result =
                result.map_err(|error| error.context(format!("the thread {thread_name} ended")));
            // If there is no receiver, the proxy has ended already.
            let _ = sender.send(Event::Ended(result));
        };
        Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)
    }
}

impl Started {
    /// Reports that the thread has started its work.
    pub fn report(self) {
        let _ = self.0.send(Event::Started);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(threads: &Threads, run: impl FnOnce(Started) -> anyhow::Result<()> + Send + 'static) {
        let thread = threads.starter().start("worker-7", run).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn threads_that_start_and_end_as_asked_are_counted() {
        let threads = Threads::default();
        for _ in 0..2 {
            start(&threads, |started| {
                started.report();
                Ok(())
            });
        }
        // Events arrive in order, so the first thread's end arrives before the second one's start.
        assert!(threads.wait_started(2).is_err());
        let threads = Threads::default();
        start(&threads, |started| {
            started.report();
            Ok(())
        });
        threads.wait_started(1).unwrap();
        threads.wait_ended(1).unwrap();
    }

    #[test]
    fn a_failed_thread_is_named() {
        let threads = Threads::default();
        start(&threads, |_| bail!("no descriptors"));
        let error = format!("{:#}", threads.wait_started(1).unwrap_err());
        assert_eq!(error, "the thread worker-7 ended: no descriptors");

        start(&threads, |started| {
            started.report();
            panic!("a bug")
        });
        threads.wait_started(1).unwrap();
        let error = format!("{:#}", threads.wait_ended(1).unwrap_err());
        assert!(error.starts_with("the thread worker-7 ended: a panic at "), "{error}");
        assert!(error.ends_with(": a bug"), "{error}");
    }

    #[test]
    fn the_wait_for_other_threads_is_bounded() {
        let threads = Threads::default();
        start(&threads, |_| bail!("one"));
        start(&threads, |_| Ok(()));
        threads.wait_ended_within(2, Duration::from_secs(3600));
        threads.wait_ended_within(1, Duration::from_millis(1));
    }
}
