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
    heard: Receiver<Event>,
    tell: Sender<Event>,
}

/// Starts such threads; cheap to clone.
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
        let (tell, heard) = channel();
        Self { heard, tell }
    }
}

impl Threads {
    /// Starts threads of which this hears.
    pub fn starter(&self) -> Starter {
        Starter(self.tell.clone())
    }

    /// Waits until this many threads have started.
    ///
    /// # Errors
    /// Why a thread has ended instead.
    pub fn started(&self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            match self.heard.recv()? {
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
    /// Why the first one ended that was not asked to; the others go on.
    pub fn ended(&self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            left -= self.next(None)?;
        }
        Ok(())
    }

    /// Waits until this many more threads have ended for any reason, but no longer than this.
    pub fn end_within(&self, count: usize, patience: Duration) {
        let end = Instant::now() + patience;
        let mut left = count;
        while left > 0 {
            let time = end.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return;
            }
            left = left.saturating_sub(self.next(Some(time)).unwrap_or(1));
        }
    }

    /// How many threads have ended with what is heard next.
    fn next(&self, patience: Option<Duration>) -> anyhow::Result<usize> {
        let event = match patience {
            Some(patience) => self.heard.recv_timeout(patience).ok(),
            None => self.heard.recv().ok(),
        };
        match event {
            Some(Event::Ended(result)) => result.map(|()| 1),
            Some(Event::Started) | None => Ok(0),
        }
    }
}

impl Starter {
    /// Starts a thread of this name. It ends well once it was asked to, and only then.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(
        &self,
        name: &str,
        run: impl FnOnce(Started) -> anyhow::Result<()> + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (tell, named) = (self.0.clone(), name.to_owned());
        let run = move || {
            let started = Started(tell.clone());
            let result = match panics::tells_itself(|| run(started)) {
                Ok(result) => result,
                Err(panic) => Err(anyhow!("a panic at {}: {}", panic.place, panic.message)),
            };
            let result = result.map_err(|error| error.context(format!("the thread {named} ended")));
            // Where nothing hears it, the proxy has ended already.
            let _ = tell.send(Event::Ended(result));
        };
        Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)
    }
}

impl Started {
    /// The thread works now.
    pub fn tell(self) {
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
                started.tell();
                Ok(())
            });
        }
        // What one says comes in order, so the first one's end is there before the second starts.
        assert!(threads.started(2).is_err());
        let threads = Threads::default();
        start(&threads, |started| {
            started.tell();
            Ok(())
        });
        threads.started(1).unwrap();
        threads.ended(1).unwrap();
    }

    #[test]
    fn a_failed_thread_is_named() {
        let threads = Threads::default();
        start(&threads, |_| bail!("no descriptors"));
        let error = format!("{:#}", threads.started(1).unwrap_err());
        assert_eq!(error, "the thread worker-7 ended: no descriptors");

        start(&threads, |started| {
            started.tell();
            panic!("a bug")
        });
        threads.started(1).unwrap();
        let error = format!("{:#}", threads.ended(1).unwrap_err());
        assert!(error.starts_with("the thread worker-7 ended: a panic at "), "{error}");
        assert!(error.ends_with(": a bug"), "{error}");
    }

    #[test]
    fn the_end_of_the_others_is_waited_for_only_so_long() {
        let threads = Threads::default();
        start(&threads, |_| bail!("one"));
        start(&threads, |_| Ok(()));
        threads.end_within(2, Duration::from_secs(3600));
        threads.end_within(1, Duration::from_millis(1));
    }
}
