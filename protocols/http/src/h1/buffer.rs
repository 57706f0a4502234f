//! Buffers of a worker, lent to connections while they have bytes.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Sizes in bytes. Small messages need the first only.
const SIZES: [usize; 2] = [32 * 1024, 64 * 1024];

/// How many spare buffers of each size are kept.
const MAX_SPARE: [usize; 2] = [64, 16];

thread_local! {
    static SPARE: RefCell<[Vec<Box<[u8]>>; 2]> = RefCell::default();
}

/// Bytes that were read and not yet used. It takes memory only while it has any.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// A buffer with a copy of these bytes.
    pub(super) fn holding(bytes: &[u8]) -> Self {
        let mut buffer = Self::default();
        buffer.extend(bytes);
        buffer
    }

    /// Adds these bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.memory.len() - self.end < bytes.len() {
            let needed = self.len() + bytes.len();
            let size = SIZES.into_iter().find(|size| *size >= needed);
            let mut larger = Self { memory: take(size.unwrap_or(needed)), start: 0, end: 0 };
            larger.extend(self.bytes());
            *self = larger;
        }
        let end = self.end + bytes.len();
        self.memory[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Removes bytes from the front.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for more bytes, at most `most` in all. Returns whether there is any.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        if self.end < self.memory.len() {
            return self.len() < most;
        }
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
            return self.len() < most;
        }
        let size = SIZES.into_iter().find(|size| *size > self.memory.len());
        let size = size.unwrap_or(self.memory.len() * 2);
        if self.len() >= most {
            return false;
        }
        let mut larger = take(size);
        larger[..self.end].copy_from_slice(&self.memory[..self.end]);
        give(std::mem::replace(&mut self.memory, larger));
        true
    }

    /// Takes a larger buffer for the next read, if it is empty and was filled by the last one.
    pub(super) fn grow_if_filled(&mut self, last_read: usize) {
        if self.is_empty() && last_read == SIZES[0] && self.memory.len() == SIZES[0] {
            give(std::mem::replace(&mut self.memory, take(SIZES[1])));
        }
    }

    /// Reads what has arrived, at most `most` bytes and as far as there is room. Returns the number of bytes; 0: the end.
    ///
    /// # Errors
    /// The socket's error.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.memory.is_empty() {
            self.memory = take(SIZES[0]);
        }
        let end = self.memory.len().min(self.end.saturating_add(most));
        let mut room = ReadBuf::new(&mut self.memory[self.end..end]);
        let read = Pin::new(from).poll_read(cx, &mut room);
        let count = room.filled().len();
        if read.is_pending() && self.is_empty() {
            self.release();
        }
        ready!(read)?;
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// Gives the memory back, with the bytes in it.
    pub(super) fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        give(std::mem::take(&mut self.memory));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

fn take(size: usize) -> Box<[u8]> {
    let class = SIZES.iter().position(|it| *it == size);
    let spare = class.and_then(|class| SPARE.with_borrow_mut(|spare| spare[class].pop()));
    spare.unwrap_or_else(|| vec![0; size].into())
}

fn give(memory: Box<[u8]>) {
    let Some(class) = SIZES.iter().position(|it| *it == memory.len()) else { return };
    SPARE.with_borrow_mut(|spare| {
        if spare[class].len() < MAX_SPARE[class] {
            spare[class].push(memory);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn read(buffer: &mut Buffer, mut from: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(read) = buffer.poll_read(&mut cx, &mut from, usize::MAX) else {
            panic!("pending")
        };
        read.unwrap()
    }

    #[test]
    fn bytes_stay_in_order_while_room_is_made() {
        let mut buffer = Buffer::default();
        let all: Vec<u8> = (0..SIZES[0] + 100).map(|at| at as u8).collect();
        assert_eq!(read(&mut buffer, &all), SIZES[0]);
        buffer.consume(10);
        assert!(buffer.make_room(usize::MAX));
        assert_eq!(read(&mut buffer, &all[SIZES[0]..]), 10);
        assert!(buffer.make_room(usize::MAX));
        assert_eq!(read(&mut buffer, &all[SIZES[0] + 10..]), 90);
        assert_eq!(buffer.bytes(), &all[10..]);
        assert!(!buffer.make_room(buffer.len()));
        buffer.consume(usize::MAX / 2);
        assert!(buffer.is_empty() && buffer.bytes().is_empty());
    }

    #[test]
    fn a_buffer_holds_a_copy_of_any_length() {
        for length in [0, 1, SIZES[0], SIZES[1] + 1] {
            let bytes = vec![7; length];
            let mut buffer = Buffer::holding(&bytes);
            assert_eq!(buffer.bytes(), bytes, "{length}");
            buffer.consume(length / 2);
            buffer.extend(&bytes);
            assert_eq!(buffer.len(), length - length / 2 + length);
        }
    }

    #[test]
    fn an_empty_buffer_holds_no_memory_after_a_wait() {
        let mut buffer = Buffer::default();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut silent, _other_end) = tokio::io::duplex(1);
        assert!(buffer.poll_read(&mut cx, &mut silent, usize::MAX).is_pending());
        assert!(buffer.memory.is_empty());
        read(&mut buffer, b"GET");
        assert!(buffer.poll_read(&mut cx, &mut silent, usize::MAX).is_pending());
        assert_eq!(buffer.bytes(), b"GET");
    }
}
