use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    time::Duration,
};

/// A log into a pipe, at most `waiting` batches of which wait, and what counts the lines lost.
fn piped(waiting: usize) -> (io::PipeReader, Log, tollgate_metrics::Metrics) {
    let (reader, writer) = io::pipe().unwrap();
    let metrics = tollgate_metrics::Metrics::new();
    let lost = metrics.counter(tollgate_metrics::table::LOG_DROPPED_TOTAL, &[]);
    static LOCK: Mutex<()> = Mutex::new(());
    let output = Output::Standard(Box::new(writer), &LOCK);
    (reader, start(output, "log", waiting, lost).unwrap(), metrics)
}

fn lost(metrics: &tollgate_metrics::Metrics) -> u64 {
    let mut text = String::new();
    metrics.render(&mut text);
    let line = text.lines().find(|line| line.starts_with("tollgate_log_dropped_total "));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_blocked_reader_delays_nothing_and_lost_lines_are_counted() {
    let (mut reader, log, metrics) = piped(4);
    // More than a pipe holds.
    let batch = [b'x'; 64 * 1024].into_iter().chain(*b"\n").collect::<Vec<_>>();
    (0..20).for_each(|_| log.sink().send(batch.clone(), 1));
    let began = Instant::now();
    log.close(began + Duration::from_millis(20));
    assert!(began.elapsed() < Duration::from_secs(5));
    let lost = lost(&metrics);
    assert!((14..20).contains(&lost), "{lost}");
    // Lines that were not dropped are written completely once a reader reads.
    drop(log);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read.len() as u64, (20 - lost) * batch.len() as u64);
}

#[test]
fn all_that_was_sent_is_written_before_a_log_is_closed() {
    let (mut reader, log, metrics) = piped(1024);
    (0..1000).for_each(|_| log.sink().send(b"line\n".to_vec(), 1));
    log.close(Instant::now() + Duration::from_secs(20));
    log.sink().send(b"late\n".to_vec(), 1);
    drop(log);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, "line\n".repeat(1000));
    assert_eq!(lost(&metrics), 1);
}

#[test]
fn lines_for_a_reader_that_is_gone_are_counted_one_by_one() {
    let (reader, log, metrics) = piped(1024);
    drop(reader);
    (0..10).for_each(|_| log.sink().send(b"line\nline\n".to_vec(), 2));
    log.close(Instant::now() + Duration::from_secs(20));
    assert_eq!(lost(&metrics), 20);
}

#[test]
fn a_new_log_is_private_and_an_old_one_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(append_to(&path).unwrap());
    assert_eq!(mode() & !0o640, 0, "{:o}", mode());
    assert_eq!(mode() & 0o600, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    append_to(&path).unwrap().write_all(b"line\n").unwrap();
    assert_eq!(mode(), 0o604);
    assert_eq!(fs::read_to_string(&path).unwrap(), "line\n");
}

#[test]
fn a_link_is_not_followed_but_its_directory_may_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    symlink(&target, &link).unwrap();
    for exists in [false, true] {
        if exists {
            fs::write(&target, "").unwrap();
        }
        let told = append_to(&link).unwrap_err().to_string();
        assert!(told.contains("/link` is a symbolic link, not a regular file; name"), "{told}");
    }
    let folder = directory.path().join("folder");
    symlink(directory.path(), &folder).unwrap();
    append_to(&folder.join("log")).unwrap().write_all(b"line\n").unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "line\n");
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(append_to(&path).unwrap_err().to_string().contains("is a FIFO"));
    assert!(append_to(Path::new("/dev/null")).is_ok());
}
