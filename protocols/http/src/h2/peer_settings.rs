//! Reads an HTTP/2 service's limit for heads from its first frame (RFC 9113, 3.4 and 6.5.2).
//!
//! Many clients share a connection to a service, and some services close it for one head that is
//! too large. Such a head is therefore not sent. h2 does not expose the limit, so it is read from the
//! service's first frame as that passes.

use crate::clock;
use net::Stream;
use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::timeout,
};

/// The type of `SETTINGS` frames.
const KIND: u8 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Longest first frame that is parsed. Settings have 6 bytes each, and there are few.
const LONGEST: usize = 9 + 64 * 6;

/// How long a large head waits for the limit: usually a round trip.
const PATIENCE: Duration = Duration::from_secs(1);

/// A service's socket whose first frame is parsed.
pub(super) struct SettingsReader {
    stream: Stream,
    /// When something was last received.
    received: Rc<Cell<Instant>>,
    /// The first frame as far as it was received; `None` once it was parsed.
    first_frame: Option<Vec<u8>>,
    settings: Rc<PeerSettings>,
}

/// What the service announced.
#[derive(Default)]
pub(super) struct PeerSettings {
    max_head: Cell<Option<u32>>,
    /// It was announced, or never will be.
    received: Cell<bool>,
    changed: Notify,
}

impl PeerSettings {
    /// Largest head that the service accepts, if announced.
    pub(super) fn max_head(&self) -> Option<u32> {
        self.max_head.get()
    }

    /// Whether it may still be announced.
    pub(super) fn is_pending(&self) -> bool {
        !self.received.get()
    }

    /// Waits for the announcement, with a timeout.
    pub(super) async fn wait(&self) {
        let _ = timeout(PATIENCE, async {
            while self.is_pending() {
                self.changed.notified().await;
            }
        })
        .await;
    }

    fn finish(&self) {
        self.received.set(true);
        self.changed.notify_waiters();
    }
}

impl Drop for SettingsReader {
    fn drop(&mut self) {
        self.settings.finish();
    }
}

impl SettingsReader {
    /// Stores the announced limit in `settings`, and in `received` when something was last received.
    pub(super) fn new(
        stream: Stream,
        settings: &Rc<PeerSettings>,
        received: &Rc<Cell<Instant>>,
    ) -> Self {
        let (settings, received) = (Rc::clone(settings), Rc::clone(received));
        Self { stream, received, first_frame: Some(Vec::new()), settings }
    }

    /// Looks at bytes that were received, until the first frame is complete.
    fn inspect(&mut self, bytes: &[u8]) {
        let Some(front) = &mut self.first_frame else { return };
        // A longer frame has no limit for heads.
        front.extend_from_slice(&bytes[..bytes.len().min(LONGEST)]);
        let limit = max_header_list_size(front);
        if limit.is_ok() || bytes.is_empty() {
            self.settings.max_head.set(limit.ok().flatten());
            self.first_frame = None;
            self.settings.finish();
        }
    }
}

/// The limit for heads in a complete first frame; `Err` if it is incomplete.
fn max_header_list_size(front: &[u8]) -> Result<Option<u32>, ()> {
    let Some((head, rest)) = front.split_first_chunk::<9>() else { return Err(()) };
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if head[3] != KIND || 9 + length > LONGEST {
        return Ok(None);
    }
    let settings = rest.get(..length).ok_or(())?;
    let mut told = settings.chunks_exact(6).filter_map(|it| {
        let [a, b, value @ ..] = it.first_chunk::<6>()?;
        (u16::from_be_bytes([*a, *b]) == MAX_HEADER_LIST_SIZE).then(|| u32::from_be_bytes(*value))
    });
    Ok(told.next_back())
}

impl AsyncRead for SettingsReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, to))?;
        self.received.set(clock::now());
        self.inspect(&to.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SettingsReader {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
        let pair =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let all: Vec<u8> = pairs.iter().flat_map(pair).collect();
        let mut frame = vec![0, 0, all.len() as u8, KIND, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&all);
        frame
    }

    #[test]
    fn the_first_frame_has_the_limit_for_heads() {
        let frame = settings(&[(3, 100), (MAX_HEADER_LIST_SIZE, 16384), (4, 1 << 20)]);
        assert_eq!(max_header_list_size(&frame), Ok(Some(16384)));
        for cut in 0..frame.len() {
            assert_eq!(max_header_list_size(&frame[..cut]), Err(()), "{cut}");
        }
        assert_eq!(max_header_list_size(&[&frame[..], b"more"].concat()), Ok(Some(16384)));
    }

    #[test]
    fn a_service_without_announced_limit_has_none() {
        assert_eq!(max_header_list_size(&settings(&[(3, 100)])), Ok(None));
        assert_eq!(max_header_list_size(&settings(&[])), Ok(None));
        assert_eq!(max_header_list_size(b"HTTP/1.1 400 Bad Request\r\n"), Ok(None));
        assert_eq!(max_header_list_size(&[0xff, 0xff, 0xff, KIND, 0, 0, 0, 0, 0]), Ok(None));
    }
}
