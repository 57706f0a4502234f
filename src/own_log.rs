//! The proxy's own log on stderr, written by a thread: a reader that stops must not block a worker
//! that logs.

use metrics::{Counter, CounterFn};
use process::log_file::{self, Log, Sink};
use std::{
    env,
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

/// The crates of the workspace but those of protocols. The target of a message begins with the name
/// of its crate.
const CRATES: [&str; 17] = [
    "cluster",
    "config",
    "demo",
    "net",
    "operation",
    "policy",
    "process",
    "protocols",
    "proxy_protocol",
    "relay",
    "session",
    "shapes",
    "tls",
    "tollgate",
    "tollgate_metrics",
    "traces",
    "values",
];

/// Logs to stderr from now on: JSON lines, or text on a terminal. `TOLLGATE_LOG` sets what
/// is logged, and `default` otherwise; `tollgate` in it is every crate of the workspace. Only the
/// first call of a process takes effect.
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
    let configured = env::var("TOLLGATE_LOG").ok();
    let configured = configured.and_then(|text| EnvFilter::try_new(directives(&text)).ok());
    let filter = configured.unwrap_or_else(|| EnvFilter::new(directives(default)));
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    let lines = lines.with_writer(move || Line(sink.clone()));
    let _ = if io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    Ok(())
}

/// The crates of the workspace, in the order of their names.
fn crates() -> Vec<&'static str> {
    let of_protocols = protocols::PROTOCOLS.iter().map(|entry| entry.crate_name());
    let mut names: Vec<_> = CRATES.into_iter().chain(of_protocols).collect();
    names.sort_unstable();
    names
}

/// The directives of a filter, with one for each crate in place of one for `tollgate`.
fn directives(text: &str) -> String {
    let crates = crates();
    let directives = text.split(',').map(|directive| {
        let level = directive.trim().strip_prefix("tollgate");
        match level.filter(|level| level.is_empty() || level.starts_with('=')) {
            Some(level) => {
                let crates = crates.iter().map(|name| format!("{name}{level}"));
                crates.collect::<Vec<_>>().join(",")
            }
            None => directive.to_owned(),
        }
    });
    directives.collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn tollgate_is_every_crate_of_the_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = ["crates", "protocols"].map(|folder| fs::read_dir(root.join(folder)));
        for entry in folders.into_iter().flat_map(Result::unwrap) {
            let manifest = fs::read_to_string(entry.unwrap().path().join("Cargo.toml")).unwrap();
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
            let name = name.trim_matches('"').replace('-', "_");
            assert!(crates().contains(&&*name), "{name} is not in `CRATES`");
        }
        let filter = directives("warn,tollgate=debug");
        assert!(filter.starts_with("warn,cluster=debug,"), "{filter}");
        assert!(filter.contains(",tollgate=debug,tollgate_http=debug,"), "{filter}");
        assert!(EnvFilter::try_new(&filter).is_ok());
        assert!(directives("tollgate").contains(",process,"));
    }

    #[test]
    fn other_directives_stay_as_they_are() {
        for text in ["info", "tollgate::proxy=debug", "cluster=trace,hyper=off"] {
            assert_eq!(directives(text), text);
        }
    }
}
