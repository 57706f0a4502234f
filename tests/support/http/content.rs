//! Bodies, either way: whole, in pieces, fed by a test, or broken off.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use hyper::body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A body.
#[derive(Default)]
pub struct Content {
    frames: VecDeque<Frame<Bytes>>,
    /// How it goes on after those.
    then: Then,
    unknown_length: bool,
    taken: Arc<AtomicU64>,
}

#[derive(Default)]
enum Then {
    #[default]
    Ends,
    /// The connection or stream is reset.
    Breaks {
        flushed: bool,
    },
    /// This comes again and again.
    Repeats(Bytes),
    Fed(UnboundedReceiver<Frame<Bytes>>),
}

/// What a test feeds a body by. Dropped, the body ends.
pub struct Feed(UnboundedSender<Frame<Bytes>>);

impl Feed {
    /// More of the body.
    pub fn send(&self, bytes: impl Into<Bytes>) {
        // The reader may be gone: the test checks that elsewhere.
        let _ = self.0.send(Frame::data(bytes.into()));
    }

    /// Whether it still has a reader.
    pub fn is_read(&self) -> bool {
        !self.0.is_closed()
    }
}

impl Content {
    /// A body that the test feeds.
    pub fn fed() -> (Feed, Self) {
        let (feed, fed) = unbounded_channel();
        (Feed(feed), Self { then: Then::Fed(fed), ..Self::default() })
    }

    /// A body without an end.
    pub fn endless(piece: impl Into<Bytes>) -> Self {
        Self { then: Then::Repeats(piece.into()), ..Self::default() }
    }

    /// A body that comes in pieces, and nothing says how long it is.
    pub fn pieces(pieces: &[&[u8]]) -> Self {
        let frames = pieces.iter().map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
        Self { frames: frames.collect(), unknown_length: true, ..Self::default() }
    }

    /// Nothing says how long it is.
    #[must_use]
    pub fn unknown_length(mut self) -> Self {
        self.unknown_length = true;
        self
    }

    /// With trailers at its end.
    #[must_use]
    pub fn trailers(mut self, trailers: &[(&'static str, &str)]) -> Self {
        let trailers = trailers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), value.parse().expect("a trailer's value"))
        });
        self.frames.push_back(Frame::trailers(trailers.collect::<HeaderMap>()));
        self.unknown_length = true;
        self
    }

    /// Broken off after that.
    #[must_use]
    pub fn broken(mut self) -> Self {
        self.then = Then::Breaks { flushed: false };
        self
    }

    /// A counter of the bytes that were read.
    pub fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(whole: T) -> Self {
        let whole = whole.into();
        let frames = if whole.is_empty() { VecDeque::new() } else { [Frame::data(whole)].into() };
        Self { frames, ..Self::default() }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = self.frames.pop_front();
        let frame = match (frame, &mut self.then) {
            (Some(frame), _) => Some(frame),
            (None, Then::Ends) => None,
            // What came before is on its way once a reader had to wait.
            (None, Then::Breaks { flushed }) if !*flushed => {
                *flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            (None, Then::Breaks { .. }) => {
                return Poll::Ready(Some(Err(io::Error::other("broken off"))));
            }
            (None, Then::Repeats(piece)) => Some(Frame::data(piece.clone())),
            (None, Then::Fed(fed)) => std::task::ready!(fed.poll_recv(cx)),
        };
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            self.taken.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && matches!(self.then, Then::Ends)
    }

    fn size_hint(&self) -> SizeHint {
        if self.unknown_length || !matches!(self.then, Then::Ends | Then::Breaks { .. }) {
            return SizeHint::default();
        }
        let whole = self.frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64);
        // What breaks off was to be longer.
        let missing = u64::from(matches!(self.then, Then::Breaks { .. }));
        SizeHint::with_exact(whole.sum::<u64>() + missing)
    }
}
