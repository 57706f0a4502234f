//! A client's socket below HTTP/2.

use crate::client_io::ClientTraffic;
use bytes::{Buf, Bytes};
use net::Stream;
use operation::Direction;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's socket.
pub(crate) struct ClientSocket {
    stream: Stream,
    traffic: ClientTraffic,
    /// Bytes that were read to detect the version.
    front: Bytes,
}

impl ClientSocket {
    /// A socket from which `front` was read already.
    pub(crate) fn new(stream: Stream, traffic: ClientTraffic, front: Bytes) -> Self {
        Self { stream, traffic, front }
    }

    /// Reads at most as many bytes as a bandwidth limit lets pass.
    fn poll_read_limited(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let mut part = ReadBuf::new(to.initialize_unfilled_to(most.min(to.remaining())));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        to.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.front.is_empty() {
            let len = this.front.len().min(to.remaining());
            to.put_slice(&this.front[..len]);
            this.front.advance(len);
            return Poll::Ready(Ok(()));
        }
        let before = to.filled().len();
        let read = match ready!(this.traffic.poll_pace(cx, Direction::Up)) {
            None => Pin::new(&mut this.stream).poll_read(cx, to),
            Some(most) => this.poll_read_limited(cx, to, most),
        };
        ready!(read).map_err(|error| this.traffic.on_error(error))?;
        this.traffic.on_read(to.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.traffic.poll_pace(cx, Direction::Down)).unwrap_or(usize::MAX);
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most.min(bytes.len())]);
        self.traffic.on_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        // With a bandwidth limit, which may come later, only the first part is written.
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.traffic.is_limited() {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[], |part| &**part));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.traffic.on_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
