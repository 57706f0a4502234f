//! Pipes that move long messages from socket to socket without copying them.

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// How many bytes must be outstanding before a pipe is worth its system calls.
pub(super) const MIN_SPLICE: u64 = 128 * 1024;

/// The most bytes that go into a pipe at once, so that a poll stays short.
const MAX_SPLICE: usize = 256 * 1024;

/// The capacity that a pipe is asked to have, in bytes. The kernel counts a page for each piece of
/// a packet, however short: this holds `MAX_SPLICE` bytes of ordinary packets.
const PIPE_CAPACITY: usize = 1024 * 1024;

/// How many pipes a worker has at most, at two descriptors each.
pub const MAX_PIPES: usize = 8;

/// A worker's pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    #[expect(clippy::vec_box, reason = "flows hold them boxed, to be small when idle")]
    spare: RefCell<Vec<Box<Pipe>>>,
    /// One reference is held by each existing pipe.
    all: Rc<()>,
}

impl Pipes {
    /// Returns an empty pipe; `None` if there are too many, or the kernel provides no usable one.
    pub(super) fn take(&self) -> Option<Box<Pipe>> {
        self.spare.borrow_mut().pop().or_else(|| {
            let room = Rc::strong_count(&self.all) <= MAX_PIPES;
            room.then(|| Pipe::open(Rc::clone(&self.all)).ok()).flatten()
        })
    }

    /// Takes a pipe back. One that still holds bytes is closed.
    pub(super) fn give(&self, pipe: Box<Pipe>) {
        if pipe.ready == 0 && pipe.unread == 0 {
            self.spare.borrow_mut().push(pipe);
        }
    }

    /// How many pipes exist, and how many of them are spare.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn count(&self) -> (usize, usize) {
        (Rc::strong_count(&self.all) - 1, self.spare.borrow().len())
    }
}

/// A pipe, and the bytes of one flow that are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes that may pass and wait to be written.
    ready: usize,
    /// Bytes after those that have not been counted by the flow yet.
    unread: usize,
    _counted: Rc<()>,
}

impl Pipe {
    fn open(all: Rc<()>) -> io::Result<Box<Self>> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A pipe cannot be spliced into itself; where a sandbox forbids splicing, the error
        // differs.
        if splice_some(&read, &write, 1).map_err(|error| error.kind())
            != Err(ErrorKind::InvalidInput)
        {
            return Err(ErrorKind::Unsupported.into());
        }
        // Unprivileged users may have only a few large pipes; small ones are slower than copying.
        fcntl_setpipe_size(&write, PIPE_CAPACITY)?;
        Ok(Box::new(Self { read, write, ready: 0, unread: 0, _counted: all }))
    }

    /// Whether bytes wait to be written.
    pub(super) fn is_ready(&self) -> bool {
        self.ready > 0
    }

    /// Lets the received bytes pass. Returns how many.
    pub(super) fn advance(&mut self) -> usize {
        self.ready += self.unread;
        std::mem::take(&mut self.unread)
    }

    /// Splices from `from` up to `len` bytes. Returns how many; 0 is the end of the stream.
    ///
    /// Call it while the pipe is empty: with a full pipe it is unknown which side would block.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        len: u64,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.ready == 0 && self.unread == 0, "write before reading on");
        let len = usize::try_from(len).unwrap_or(MAX_SPLICE).min(MAX_SPLICE);
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || splice_some(from, &self.write, len)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                taken => {
                    self.unread = *taken.as_ref().unwrap_or(&0);
                    return Poll::Ready(taken);
                }
            }
        }
    }

    /// Writes the ready bytes. `Ok` means that none are left.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while self.ready > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || splice_some(&self.read, to, self.ready)) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(n) => {
                    *progress = true;
                    self.ready -= n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Moves up to `len` bytes into a pipe or out of one. Never blocks.
fn splice_some(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, len, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_only_so_many_pipes() {
        let pipes = Pipes::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!((taken.len(), pipes.count()), (MAX_PIPES, (MAX_PIPES, 0)));
        pipes.give(taken.pop().unwrap());
        assert_eq!(pipes.count(), (MAX_PIPES, 1));
        drop(pipes.take());
        assert_eq!(pipes.count(), (MAX_PIPES - 1, 0));
        assert!(pipes.take().is_some(), "there is room for another");
        taken.clear();
        assert_eq!(pipes.count(), (0, 0));
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_not_reused() {
        let pipes = Pipes::default();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(rustix::io::write(&pipe.write, b"secret").unwrap(), 6);
        pipe.unread = 6;
        assert_eq!(pipe.advance(), 6);
        pipes.give(pipe);
        assert_eq!(pipes.count(), (0, 0));
    }
}
