//! A worker's lines of the access log, collected before they go to the file's thread.

use super::{json::three_digits, live::LiveAccessLog};
use std::{
    cell::{Cell, RefCell},
    io::Write,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep_until};

/// How long a line may be buffered before it is written.
const FLUSH_DELAY: Duration = Duration::from_millis(20);

/// How many bytes are buffered before they are written. Each batch wakes the file's thread.
const FLUSH_BYTES: usize = 64 * 1024;

/// The room for the line that fills the buffer. Few lines are longer.
const LAST_LINE: usize = 4 * 1024;

/// A worker's lines, buffered before they go to the file's thread.
pub struct LineBuffer {
    log: Arc<LiveAccessLog>,
    buffer: RefCell<Vec<u8>>,
    count: Cell<u64>,
    /// When the oldest of the lines has to be written; `None` if there are none.
    due: Cell<Option<Instant>>,
    flush_scheduled: Cell<bool>,
    clock: RefCell<LinePrefix>,
}

impl LineBuffer {
    /// An empty buffer whose lines go to this log.
    pub fn new(log: Arc<LiveAccessLog>) -> Rc<Self> {
        Rc::new(Self {
            log,
            buffer: RefCell::default(),
            count: Cell::default(),
            due: Cell::default(),
            flush_scheduled: Cell::default(),
            clock: RefCell::default(),
        })
    }

    /// The log that its lines go to.
    pub(super) fn log(&self) -> &LiveAccessLog {
        &self.log
    }

    /// Adds a line, which `line` continues after its time.
    pub(super) fn write(self: &Rc<Self>, line: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            buffer.reserve_exact(FLUSH_BYTES + LAST_LINE);
            self.due.set(Some(Instant::now() + FLUSH_DELAY));
        }
        buffer.extend_from_slice(self.clock.borrow_mut().at(SystemTime::now()));
        line(&mut buffer);
        self.count.set(self.count.get() + 1);
        let full = buffer.len() >= FLUSH_BYTES;
        drop(buffer);
        if full {
            self.flush();
        } else if !self.flush_scheduled.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).flush_when_due());
        }
    }

    /// Sends the lines when the oldest of them is due. Those that filled a buffer meanwhile are gone, so that
    /// a busy worker sends full buffers only.
    async fn flush_when_due(self: Rc<Self>) {
        while let Some(due) = self.due.get().filter(|due| *due > Instant::now()) {
            sleep_until(due).await;
        }
        self.flush_scheduled.set(false);
        self.flush();
    }

    /// Sends the buffered lines to the file's thread. Until the next line there is no buffer.
    pub fn flush(&self) {
        self.due.set(None);
        let buffer = std::mem::take(&mut *self.buffer.borrow_mut());
        let lines = self.count.replace(0);
        self.log.send(buffer, lines);
    }
}

/// The beginning of a line, with the time; cached for a second, except for its last three digits.
#[derive(Default)]
struct LinePrefix {
    second: u64,
    text: Vec<u8>,
}

impl LinePrefix {
    /// The beginning of a line that is written now.
    fn at(&mut self, now: SystemTime) -> &[u8] {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            self.text.clear();
            let time = humantime::format_rfc3339_millis(now);
            let _ = write!(self.text, "{{\"time\":\"{time}\"");
        }
        if let Some([hundreds, tens, ones, b'Z', b'"']) = self.text.last_chunk_mut() {
            [*hundreds, *tens, *ones] = three_digits(since.subsec_millis() as u16);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        task::{LocalSet, yield_now},
        time::sleep,
    };

    /// How many bytes wait once `time` has passed.
    async fn waiting_after(lines: &LineBuffer, time: Duration) -> usize {
        sleep(time).await;
        yield_now().await;
        lines.buffer.borrow().len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_sent_when_it_is_due() {
        let ms = Duration::from_millis;
        let lines = LineBuffer::new(Arc::default());
        let test = async {
            for _ in 0..2 {
                lines.write(|out| out.extend_from_slice(b"}\n"));
                let len = lines.buffer.borrow().len();
                assert_eq!(waiting_after(&lines, ms(10)).await, len);
                lines.write(|out| out.extend_from_slice(b"}\n"));
                assert_eq!(waiting_after(&lines, ms(9)).await, 2 * len);
                assert_eq!(waiting_after(&lines, ms(1)).await, 0);
                assert_eq!(lines.buffer.borrow().capacity(), 0, "it owns no buffer at rest");
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_after_a_full_buffer_waits_as_long_as_others() {
        let ms = Duration::from_millis;
        let lines = LineBuffer::new(Arc::default());
        let test = async {
            lines.write(|out| out.push(b'\n'));
            sleep(ms(5)).await;
            lines.write(|out| out.resize(FLUSH_BYTES - 1, b'x'));
            assert_eq!(lines.buffer.borrow().len(), FLUSH_BYTES - 1);
            lines.write(|out| out.push(b'\n'));
            assert_eq!(lines.buffer.borrow().len(), 0, "it was full");
            lines.write(|out| out.push(b'\n'));
            assert_ne!(waiting_after(&lines, ms(19)).await, 0);
            assert_eq!(waiting_after(&lines, ms(1)).await, 0);
        };
        LocalSet::new().run_until(test).await;
    }

    #[test]
    fn a_line_begins_with_its_time_to_the_millisecond() {
        let mut prefix = LinePrefix::default();
        let times: [(u64, &str); 5] = [
            (1_795_436_228_007, "2026-11-23T12:17:08.007Z"),
            (1_795_436_228_999, "2026-11-23T12:17:08.999Z"),
            (1_795_436_229_000, "2026-11-23T12:17:09.000Z"),
            (1_795_436_228_070, "2026-11-23T12:17:08.070Z"),
            (0, "1970-01-01T00:00:00.000Z"),
        ];
        for (millis, time) in times {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            let begin = format!("{{\"time\":\"{time}\"");
            assert_eq!(String::from_utf8_lossy(prefix.at(at)), begin);
        }
    }
}
