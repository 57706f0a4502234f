//! A panic of a thread is one line of the log and is counted. (This sets the hook of the whole
//! process, and so is a test of its own.)

#![allow(clippy::unwrap_used, clippy::panic)]

use process::panics;
use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use tollgate_metrics::{Metrics, table};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_one_line_without_quoted_text() {
    let (log, metrics) = (Log::default(), Metrics::new());
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().json().flatten_event(true);
    lines.with_writer(move || writer.clone()).init();
    panics::count_with(metrics.counter(table::PANICS_TOTAL, &[]));
    let before = std::panic::take_hook();
    panics::watch();
    let thread = std::thread::Builder::new().name("worker-7".into());
    let ended = thread.spawn(|| panic!("no `secret` is told")).unwrap().join();
    let caught = panics::tells_itself(|| panic!("told by its catcher")).unwrap_err();
    std::panic::set_hook(before);

    assert!(ended.is_err());
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["level"], &line["thread"]), (&"ERROR".into(), &"worker-7".into()));
    assert!(line["place"].as_str().unwrap().starts_with("tests/panics.rs:"), "{line}");
    assert!(!text.contains("secret"), "{text}");
    assert!(caught.place.starts_with("tests/panics.rs:"), "{caught:?}");
    let mut rendered = String::new();
    metrics.render(&mut rendered);
    assert!(rendered.contains("\ntollgate_panics_total 2\n"), "{rendered}");
}
