//! Log files, each with a thread of its own, so that a slow disk never holds up an operation.

use rustix::fs::OFlags;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};
use values::{Fault, irregular_log};

/// How many batches may wait for the disk; what comes on top is dropped and counted.
const WAITING: usize = 256;

/// Who may read a new log: its owner, and the group.
const MODE: u32 = 0o640;

/// The sending end, one a worker.
#[derive(Clone, Debug)]
pub struct Sink {
    batches: SyncSender<Vec<u8>>,
    dropped: metrics::Counter,
}

impl Sink {
    /// Hands a batch of whole lines over, or drops it if the file can't keep up.
    pub fn send(&self, batch: Vec<u8>, lines: u64) {
        if self.batches.try_send(batch).is_err() {
            self.dropped.increment(lines);
        }
    }
}

/// Opens `path` for appending and starts its thread, which ends once all sinks are gone.
/// `name` is that of the log, as in `access-log`; `dropped` counts lines that were given up.
///
/// # Errors
/// When the file can't be opened or is no regular file, and when the thread can't be started.
pub fn open(
    path: &Path,
    name: &'static str,
    dropped: metrics::Counter,
) -> io::Result<(Sink, JoinHandle<()>)> {
    // Opening /dev/stdout fails where it is a socket, so the standard streams are taken as such.
    let file: Box<dyn Write + Send> = match path.to_str() {
        Some("/dev/stdout" | "-") => Box::new(io::stdout()),
        Some("/dev/stderr") => Box::new(io::stderr()),
        _ => Box::new(append_to(path)?),
    };
    let (batches, inbox) = sync_channel(WAITING);
    let thread =
        std::thread::Builder::new().name(name.into()).spawn(move || drain(file, name, inbox))?;
    Ok((Sink { batches, dropped }, thread))
}

/// Opens a log to append to. What it holds is no business of other users, so a new one is not
/// theirs to read. Of a link, the name may have been put there by another user of the directory.
fn append_to(path: &Path) -> io::Result<File> {
    if let Some(Fault { message, hint }) = irregular_log(path) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{message}; {hint}")));
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().create(true).append(true).mode(MODE).custom_flags(flags).open(path)
}

fn drain(mut file: Box<dyn Write + Send>, name: &str, inbox: Receiver<Vec<u8>>) {
    let mut failing = false;
    for batch in inbox {
        let written = file.write_all(&batch).and_then(|()| file.flush());
        if let Err(error) = &written
            && !failing
        {
            tracing::error!(%error, "the {name} can't be written; lines are lost until it can");
        }
        failing = written.is_err();
    }
}

#[cfg(test)]
mod tests;
