//! What a service of HTTP/2 says first: how large a head it takes (RFC 9113, 3.4 and 6.5.2).
//!
//! Many clients share a connection to a service, and some services end all of it over one head that
//! is too large for them. So such a head is not sent. Neither hyper nor h2 tells the limit, and so it
//! is read from the service's first frame as that passes.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::AsyncRead, net::TcpStream, sync::Notify, time::timeout};

/// Of `SETTINGS`.
const KIND: u8 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The longest first frame that is looked at. Known settings have 6 bytes each, and are few.
const LONGEST: usize = 9 + 64 * 6;

/// How long a large head waits for it: a round trip, if the service is well.
const PATIENCE: Duration = Duration::from_secs(1);

/// A service's socket, whose first frame is looked at.
pub(super) struct SettingsReader {
    io: TokioIo<TcpStream>,
    /// The first frame as far as it came; `None` once it was looked at.
    front: Option<Vec<u8>>,
    greeting: Rc<PeerSettings>,
}

/// What a service said first.
#[derive(Default)]
pub(super) struct PeerSettings {
    limit: Cell<Option<u32>>,
    /// It has said it, or never will.
    is_over: Cell<bool>,
    over: Notify,
}

impl PeerSettings {
    /// How large a head the service takes, if it has said so.
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit.get()
    }

    /// Whether it may still say so.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_over.get()
    }

    /// Waits until it has, but not for long.
    pub(super) async fn heard(&self) {
        let _ = timeout(PATIENCE, async {
            while self.is_awaited() {
                self.over.notified().await;
            }
        })
        .await;
    }

    fn end(&self) {
        self.is_over.set(true);
        self.over.notify_waiters();
    }
}

impl Drop for SettingsReader {
    fn drop(&mut self) {
        self.greeting.end();
    }
}

impl SettingsReader {
    /// What is said first is put into `greeting`.
    pub(super) fn new(stream: TcpStream, greeting: &Rc<PeerSettings>) -> Self {
        Self { io: TokioIo::new(stream), front: Some(Vec::new()), greeting: Rc::clone(greeting) }
    }
}

/// How many bytes a head may have, if this is the whole of a first frame: `Err` if more has to come.
fn limit(front: &[u8]) -> Result<Option<u32>, ()> {
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

impl Read for SettingsReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(front) = &mut this.front else { return Pin::new(&mut this.io).poll_read(cx, to) };
        let mut bytes = [0; LONGEST];
        let most = to.remaining().min(LONGEST);
        let mut bytes = tokio::io::ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(this.io.inner_mut()).poll_read(cx, &mut bytes))?;
        let bytes = bytes.filled();
        to.put_slice(bytes);
        front.extend_from_slice(bytes);
        if let Ok(limit) = limit(front) {
            this.greeting.limit.set(limit);
            this.front = None;
            this.greeting.end();
        } else if bytes.is_empty() {
            this.front = None;
            this.greeting.end();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for SettingsReader {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
    fn a_service_s_first_frame_tells_how_large_a_head_it_takes() {
        let frame = settings(&[(3, 100), (MAX_HEADER_LIST_SIZE, 16384), (4, 1 << 20)]);
        assert_eq!(limit(&frame), Ok(Some(16384)));
        for cut in 0..frame.len() {
            assert_eq!(limit(&frame[..cut]), Err(()), "{cut}");
        }
        assert_eq!(limit(&[&frame[..], b"more"].concat()), Ok(Some(16384)));
    }

    #[test]
    fn a_service_that_tells_no_limit_has_none() {
        assert_eq!(limit(&settings(&[(3, 100)])), Ok(None));
        assert_eq!(limit(&settings(&[])), Ok(None));
        assert_eq!(limit(b"HTTP/1.1 400 Bad Request\r\n"), Ok(None));
        assert_eq!(limit(&[0xff, 0xff, 0xff, KIND, 0, 0, 0, 0, 0]), Ok(None));
    }
}
