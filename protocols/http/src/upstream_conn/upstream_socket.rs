//! A service's socket below hyper, which is read even after writing to it failed.
//!
//! A service may answer before it has read the request, and close: the kernel then resets the
//! connection, and writes fail while the response is still readable. hyper would treat the failed
//! write as the end. So a failed write is reported as pending, and the end is found by reading:
//! first the response, if any, then the close.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use net::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(test)]
mod tests;

/// A service's socket.
pub(super) struct UpstreamSocket {
    io: TokioIo<Stream>,
    /// The service reads nothing more.
    write_closed: bool,
}

impl UpstreamSocket {
    pub(super) fn new(stream: Stream) -> Self {
        Self { io: TokioIo::new(stream), write_closed: false }
    }

    pub(super) fn into_inner(self) -> Stream {
        self.io.into_inner()
    }

    fn on_write(
        &mut self,
        cx: &Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_end(&error) => {
                self.write_closed = true;
                // The reader may have returned pending before, so it must read again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            written => written,
        }
    }
}

/// Whether the peer is gone. Reading will end too.
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
        let read = Pin::new(&mut self.io).poll_read(cx, to);
        // A body that ends with the connection would be incomplete (RFC 9112, 9.8).
        if matches!(read, Poll::Ready(Ok(()))) && self.io.inner().is_truncated() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        read
    }
}

impl Write for UpstreamSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write_closed {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.on_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.write_closed {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.on_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
