//! The body of an HTTP/2 request or response as it is received.

use crate::body::BodyError;
use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body that arrives on a stream.
pub struct StreamBody {
    stream: RecvStream,
    /// Bytes to come, if `content-length` says so. h2 checks that it is right.
    left: Option<u64>,
    /// Only trailers can follow.
    data_ended: bool,
}

impl StreamBody {
    /// The body of a message with these headers.
    pub(crate) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self { stream, left: content_length(headers), data_ended: false }
    }

    /// Ready with the next data; `None` at their end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // The reader holds at most one piece, so the sender may go on.
                let _ = self.stream.flow_control().release_capacity(bytes.len());
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => Poll::Ready(end_of(error)),
            None => Poll::Ready(None),
        }
    }
}

/// How a body ends with this error. A response may end while its request is still being sent: the
/// stream is then reset with NO_ERROR (RFC 9113, 8.1).
fn end_of<T>(error: ::h2::Error) -> Option<Result<T, BodyError>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(error.into()))
}

/// The length that the headers announce; `None` for different ones.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length: u64 = lengths.next()?.to_str().ok()?.parse().ok()?;
    lengths
        .all(|other| other.to_str().is_ok_and(|other| other.parse() == Ok(length)))
        .then_some(length)
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.data_ended {
            if let Some(data) = ready!(self.poll_data(cx)) {
                return Poll::Ready(Some(data.map(Frame::data)));
            }
            self.data_ended = true;
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => end_of(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
