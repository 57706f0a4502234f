//! The proxy's own log on stderr, written by a thread: a reader that stops must not block a worker
//! that logs.

use metrics::{Counter, CounterFn};
use process::log_file::{self, Log, Sink};
use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing_subscriber::EnvFilter;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_millis(200);

static LOG: OnceLock<Mutex<Log>> = OnceLock::new();
static LOST: OnceLock<Counter> = OnceLock::new();
/// Lines that were lost before there was a counter.
static LOST_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Logs to stderr from now on: JSON lines, or text where a person watches. `TOLLGATE_LOG` sets what
/// is logged, and `default` otherwise. Only the first call of a process takes effect.
///
/// # Errors
/// When the log's thread can't be started.
pub fn begin(default: &str) -> io::Result<()> {
    let lost = Counter::from_arc(Arc::new(Lost));
    let log = log_file::open(Path::new("/dev/stderr"), "log", log_file::LINES, lost)?;
    let sink = log.sink().clone();
    if LOG.set(Mutex::new(log)).is_err() {
        return Ok(());
    }
    let filter =
        EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    let lines = lines.with_writer(move || Line(sink.clone()));
    let _ = if io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    Ok(())
}

/// Counts the lines that are lost, those so far too. The first counter stays.
pub fn count_with(counter: Counter) {
    let _ = LOST.set(counter);
    Lost.increment(LOST_BEFORE.swap(0, Relaxed));
}

/// Writes a line for people, by way of the log where it has begun: in order, and without waiting.
pub fn say(line: &str) {
    match LOG.get() {
        Some(log) => lock(log).sink().send(format!("{line}\n").into_bytes(), 1),
        None => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// Has what was logged written, which may take a moment but not more. What is logged later is lost.
pub fn end() {
    if let Some(log) = LOG.get() {
        lock(log).close(Instant::now() + LAST_LINES);
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one event, which is written to it as a whole.
struct Line(Sink);

impl Write for Line {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.send(event.to_vec(), 1);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts lost lines, also while there are no metrics yet.
#[derive(Debug)]
struct Lost;

impl CounterFn for Lost {
    fn increment(&self, lines: u64) {
        match LOST.get() {
            Some(counter) => counter.increment(lines),
            None => drop(LOST_BEFORE.fetch_add(lines, Relaxed)),
        }
    }

    fn absolute(&self, _: u64) {}
}
