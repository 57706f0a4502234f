//! A service's socket under hyper's connection: what the service has said is heard, also where it
//! takes nothing more.
//!
//! A service may answer before it has read the request, and close: the kernel then resets the
//! connection, and whoever writes hears of that, while the answer lies there to be read. Hyper would
//! take the failed write for the end of everything. So a socket that fails to write is one that has
//! no room, and how it ends is found by reading: first the answer, if it has come, and then the end.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::net::TcpStream;

#[cfg(test)]
mod tests;

/// A service's socket.
pub(super) struct UpstreamSocket {
    io: TokioIo<TcpStream>,
    /// The service takes nothing more.
    deaf: bool,
}

impl UpstreamSocket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { io: TokioIo::new(stream), deaf: false }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.io.into_inner()
    }

    fn heed(
        &mut self,
        cx: &Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_end(&error) => {
                self.deaf = true;
                // Whoever has read before, and found nothing, reads once more.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            written => written,
        }
    }
}

/// Whether the other side is gone. Reading comes to an end then, too.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted)
}

impl Read for UpstreamSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl Write for UpstreamSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.heed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.heed(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
