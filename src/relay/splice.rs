//! Pipes, through which long passes go from socket to socket without being copied.

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// How much has to be still to come before a pipe is worth its system calls, in bytes.
pub(super) const LONG: u64 = 128 * 1024;

/// The most that goes into a pipe at once, in bytes, so that nobody's turn takes too long.
const BITE: usize = 256 * 1024;

/// What a pipe is asked to hold, in bytes. It counts a page for each piece of a packet, however
/// short: this has room for a bite of ordinary packets.
const ROOM: usize = 1024 * 1024;

/// How many pipes a worker has at most, at two descriptors each.
pub const PIPES: usize = 8;

/// A worker's pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    #[expect(clippy::vec_box, reason = "flows hold them boxed, to be small when idle")]
    spare: RefCell<Vec<Box<Pipe>>>,
    /// Held by each pipe that there is.
    all: Rc<()>,
}

impl Pipes {
    /// An empty pipe; `None` if there are too many, or the system gives none that is of use.
    pub(super) fn take(&self) -> Option<Box<Pipe>> {
        self.spare.borrow_mut().pop().or_else(|| {
            let room = Rc::strong_count(&self.all) <= PIPES;
            room.then(|| Pipe::open(Rc::clone(&self.all)).ok()).flatten()
        })
    }

    /// Takes a pipe back. One that still holds bytes is closed.
    pub(super) fn give(&self, pipe: Box<Pipe>) {
        if pipe.ready == 0 && pipe.unread == 0 {
            self.spare.borrow_mut().push(pipe);
        }
    }

    /// How many pipes there are, and how many of them nobody holds.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (Rc::strong_count(&self.all) - 1, self.spare.borrow().len())
    }
}

/// A pipe, and the bytes of one flow that are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes let through that wait to be written.
    ready: usize,
    /// Bytes after those, which have yet to be accounted for.
    unread: usize,
    _one_of: Rc<()>,
}

impl Pipe {
    fn open(all: Rc<()>) -> io::Result<Box<Self>> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // What no pipe can do; where a sandbox forbids splicing, the answer is another one.
        if pour(&read, &write, 1).map_err(|error| error.kind()) != Err(ErrorKind::InvalidInput) {
            return Err(ErrorKind::Unsupported.into());
        }
        // Unprivileged users have only so many large ones; small ones are worse than copying.
        fcntl_setpipe_size(&write, ROOM)?;
        Ok(Box::new(Self { read, write, ready: 0, unread: 0, _one_of: all }))
    }

    /// Whether bytes wait to be written.
    pub(super) fn is_ready(&self) -> bool {
        self.ready > 0
    }

    /// Lets through what came in, and tells how much that is.
    pub(super) fn advance(&mut self) -> usize {
        self.ready += self.unread;
        std::mem::take(&mut self.unread)
    }

    /// Takes in what `from` has of the next `len` bytes. Returns how many; 0 is the end.
    ///
    /// To be asked while the pipe is empty: from a full one nobody can tell who is to be waited for.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        len: u64,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.ready == 0 && self.unread == 0, "write before reading on");
        let len = usize::try_from(len).unwrap_or(BITE).min(BITE);
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || pour(from, &self.write, len)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                taken => {
                    self.unread = *taken.as_ref().unwrap_or(&0);
                    return Poll::Ready(taken);
                }
            }
        }
    }

    /// Writes what is ready. `Ok` means that nothing is left to write.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while self.ready > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || pour(&self.read, to, self.ready)) {
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

/// Moves up to `len` bytes into a pipe or out of one. Never waits.
fn pour(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, len, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_only_so_many_pipes() {
        let pipes = Pipes::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!((taken.len(), pipes.count()), (PIPES, (PIPES, 0)));
        pipes.give(taken.pop().unwrap());
        assert_eq!(pipes.count(), (PIPES, 1));
        drop(pipes.take());
        assert_eq!(pipes.count(), (PIPES - 1, 0));
        assert!(pipes.take().is_some(), "there is room for another");
        taken.clear();
        assert_eq!(pipes.count(), (0, 0));
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_lent_to_nobody_else() {
        let pipes = Pipes::default();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(rustix::io::write(&pipe.write, b"secret").unwrap(), 6);
        pipe.unread = 6;
        assert_eq!(pipe.advance(), 6);
        pipes.give(pipe);
        assert_eq!(pipes.count(), (0, 0));
    }
}
