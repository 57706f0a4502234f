//! Logs, each with a thread of its own, so that a slow disk, or a pipe without a reader, holds up
//! neither an operation nor the end of the process.

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::OFlags,
    io::Errno,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Seek},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel},
    },
    time::Instant,
};
use values::{Diagnostic, irregular_log};

/// How many batches may wait to be written, each of some 64 KiB of lines…
pub const BATCHES: usize = 64;
/// …or each of a single line. What comes on top is dropped and counted.
pub const LINES: usize = 1024;

/// Permissions of a new log: readable by owner and group.
const MODE: u32 = 0o640;

/// Held while lines are written to a standard stream, since several logs may go to one.
static STANDARD: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

/// A log that is open.
#[derive(Debug)]
pub struct Log {
    sink: Sink,
    /// Hears when the thread ends.
    ended: Receiver<()>,
}

/// The sending end, one a worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    batches: SyncSender<Vec<u8>>,
    asked: Arc<Asked>,
    lost: metrics::Counter,
}

/// What the thread of a log is asked for.
#[derive(Debug, Default)]
struct Asked {
    reopen: AtomicBool,
    close: AtomicBool,
}

impl Sink {
    /// Hands a batch of whole lines over, or drops it if they can't be written as fast as they come.
    /// Does not block.
    pub fn send(&self, batch: Vec<u8>, lines: u64) {
        if self.batches.try_send(batch).is_err() {
            self.lost.increment(lines);
        }
    }

    /// Reopens the file, for log rotation. Does not block.
    pub fn reopen(&self) {
        self.ask(&self.asked.reopen);
    }

    fn ask(&self, wish: &AtomicBool) {
        wish.store(true, SeqCst);
        // Wakes the thread; where no place is left for this, it has enough to wake it.
        let _ = self.batches.try_send(Vec::new());
    }
}

impl Log {
    /// The end to send lines to.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Has everything written that was sent, and waits for that until `deadline`. Later lines are
    /// dropped.
    pub fn close(&self, deadline: Instant) {
        self.sink.ask(&self.sink.asked.close);
        let patience = deadline.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a log can't be written: what waits for it is lost");
        }
    }
}

/// Opens `path` for appending and starts its thread. `name` is that of the log, as in `access log`;
/// so many batches may wait; `lost` counts lines that were given up.
///
/// # Errors
/// When the file can't be opened or is no regular file, and when the thread can't be started.
pub fn open(
    path: &Path,
    name: &'static str,
    waiting: usize,
    lost: metrics::Counter,
) -> io::Result<Log> {
    start(Output::open(path)?, name, waiting, lost)
}

fn start(
    output: Output,
    name: &'static str,
    waiting: usize,
    lost: metrics::Counter,
) -> io::Result<Log> {
    let (batches, inbox) = sync_channel(waiting);
    let (ends, ended) = channel();
    let asked = Arc::<Asked>::default();
    let mut writer = Writer { output, name, lost: lost.clone(), lost_now: None };
    let wishes = Arc::clone(&asked);
    std::thread::Builder::new().name(name.into()).spawn(move || {
        while let Some(batch) = next(&inbox, &wishes) {
            if wishes.reopen.swap(false, SeqCst) {
                writer.reopen();
            }
            writer.write(&batch);
        }
        // A sender that sees the end sends no further lines.
        drop((inbox, ends));
    })?;
    Ok(Log { sink: Sink { batches, asked, lost }, ended })
}

/// The next batch, which is waited for; `None` once nothing is left and the log is to be closed.
fn next(inbox: &Receiver<Vec<u8>>, asked: &Asked) -> Option<Vec<u8>> {
    match inbox.try_recv() {
        Ok(batch) => Some(batch),
        Err(TryRecvError::Empty) if !asked.close.load(SeqCst) => inbox.recv().ok(),
        Err(_) => None,
    }
}

/// Opens a log to append to. What it holds is no business of other users, so a new one is not
/// theirs to read. Of a link, the name may have been put there by another user of the directory.
fn append_to(path: &Path) -> io::Result<File> {
    if let Some(Diagnostic { message, hint, .. }) = irregular_log(path) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{message}; {hint}")));
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().create(true).append(true).mode(MODE).custom_flags(flags).open(path)
}

/// Writes the lines of one log.
struct Writer {
    output: Output,
    name: &'static str,
    lost: metrics::Counter,
    /// How many lines were lost since it can't be written; `None` while it can.
    lost_now: Option<u64>,
}

impl Writer {
    /// Writes whole lines. Those that can't be are given up, and counted.
    fn write(&mut self, lines: &[u8]) {
        let (written, result) = self.output.write(lines);
        let (done, left) = lines.split_at(written);
        let Err(error) = result else {
            if let Some(lost) = self.lost_now.take() {
                tracing::info!(lost, "the {} is written again, without the lines lost", self.name);
            }
            return;
        };
        if self.lost_now.is_none() {
            tracing::error!(%error, "the {} can't be written; lines are lost until it can", self.name);
        }
        let lost = left.iter().filter(|b| **b == b'\n').count() as u64;
        self.lost.increment(lost);
        self.lost_now = Some(self.lost_now.unwrap_or(0) + lost);
        let begun = done.iter().rev().take_while(|b| **b != b'\n').count();
        self.output.take_back(begun);
    }

    /// Reopens the file, or keeps the open one if that fails.
    fn reopen(&mut self) {
        let Output::File(_, path) = &self.output else { return };
        match Output::open(path) {
            Ok(output) => {
                self.output = output;
                tracing::info!("the {} is open anew", self.name);
            }
            Err(error) => tracing::error!(
                %error,
                "the {} can't be opened anew: lines go on to the file that is open",
                self.name
            ),
        }
    }
}

/// Where lines go.
enum Output {
    /// A standard stream, and what is held while lines are written there.
    Standard(Box<dyn AsFd + Send>, &'static Mutex<()>),
    File(File, PathBuf),
}

impl Output {
    fn open(path: &Path) -> io::Result<Self> {
        let [stdout, stderr] = &STANDARD;
        // Opening /dev/stdout fails where it is a socket, so the standard streams are taken as such.
        Ok(match path.to_str() {
            Some("/dev/stdout" | "-") => Self::Standard(Box::new(io::stdout()), stdout),
            Some("/dev/stderr") => Self::Standard(Box::new(io::stderr()), stderr),
            _ => Self::File(append_to(path)?, path.into()),
        })
    }

    /// Writes what it can, and waits where a reader is slow: how many bytes were written, and why
    /// not all.
    fn write(&self, lines: &[u8]) -> (usize, io::Result<()>) {
        let (to, shared) = match self {
            Self::Standard(stream, shared) => (stream.as_fd(), Some(shared)),
            Self::File(file, _) => (file.as_fd(), None),
        };
        let _whole = shared.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        let mut written = 0;
        while let Some(left) = lines.get(written..).filter(|left| !left.is_empty()) {
            match rustix::io::write(to, left) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                // Another process may have set the shared stream to non-blocking mode.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
                }
                Err(error) => return (written, Err(error.into())),
            }
        }
        (written, Ok(()))
    }

    /// Takes so many bytes at the end of a file back, which are the front of a line that did not fit,
    /// so that the next line does not begin in the middle of it.
    fn take_back(&mut self, begun: usize) {
        let Self::File(file, _) = self else { return };
        let (end, len) = (file.stream_position(), file.metadata().map(|found| found.len()));
        // Where another process has written since, what stands at the end is not ours to take.
        if let (Ok(end), Ok(len), true) = (end, len, begun > 0)
            && end == len
        {
            let _ = file.set_len(end.saturating_sub(begun as u64));
        }
    }
}

#[cfg(test)]
mod tests;
