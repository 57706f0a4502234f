//! Streaming bodies of requests and responses.

use crate::h2::StreamBody;
use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Why a body ended early.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Any body, boxed.
pub(crate) type BoxBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>;

/// A streaming body.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes, in memory.
    Full(Bytes),
    /// Received by hyper from a client or a service.
    Incoming(Incoming),
    /// Received over HTTP/2.
    Stream(StreamBody),
    /// Any other body, such as a translated one.
    Made(BoxBody),
}

impl Body {
    /// The body of a message with these headers that arrives on an HTTP/2 stream.
    pub(crate) fn received(stream: ::h2::RecvStream, headers: &HeaderMap) -> Self {
        if stream.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
            return Body::Empty;
        }
        Body::Stream(StreamBody::new(stream, headers))
    }

    /// Boxes a body.
    pub fn made(body: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Body::Made(Box::pin(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Body::Empty => "Empty",
            Body::Full(_) => "Full",
            Body::Incoming(_) => "Incoming",
            Body::Stream(_) => "Stream",
            Body::Made(_) => "Made",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Body::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Body::Incoming(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Body::Stream(body) => Pin::new(body).poll_frame(cx),
            Body::Made(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Incoming(body) => body.is_end_stream(),
            Body::Stream(body) => body.is_end_stream(),
            Body::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Incoming(body) => body.size_hint(),
            Body::Stream(body) => body.size_hint(),
            Body::Made(body) => body.size_hint(),
        }
    }
}
