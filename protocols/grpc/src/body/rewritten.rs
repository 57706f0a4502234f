//! A body that rewrites the bytes of another body as they pass.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tollgate_http::{Body, BodyError};

/// Rewrites bytes that arrive in chunks of any size.
pub(crate) trait Rewrite: Unpin + 'static {
    /// Rewrites a chunk. Returns no bytes if more input is needed first.
    fn data(&mut self, data: Bytes) -> Result<Bytes, BodyError>;

    /// Returns the last bytes to write, and the trailers to pass on.
    fn end(&mut self, trailers: Option<HeaderMap>)
    -> Result<(Bytes, Option<HeaderMap>), BodyError>;
}

/// Wraps `body` in a rewriter.
pub(crate) fn rewritten(body: Body, by: impl Rewrite) -> Body {
    Body::made(RewrittenBody { body, by, state: State::Flowing })
}

struct RewrittenBody<R> {
    body: Body,
    by: R,
    state: State,
}

enum State {
    Flowing,
    Trailers(HeaderMap),
    Done,
}

impl<R: Rewrite> RewrittenBody<R> {
    fn end(&mut self, trailers: Option<HeaderMap>) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.state = State::Done;
        match self.by.end(trailers) {
            Err(error) => Some(Err(error)),
            Ok((last, None)) if last.is_empty() => None,
            Ok((last, None)) => Some(Ok(Frame::data(last))),
            Ok((last, Some(trailers))) if last.is_empty() => Some(Ok(Frame::trailers(trailers))),
            Ok((last, Some(trailers))) => {
                self.state = State::Trailers(trailers);
                Some(Ok(Frame::data(last)))
            }
        }
    }
}

impl<R: Rewrite> http_body::Body for RewrittenBody<R> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return Poll::Ready(None),
            State::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            State::Flowing => self.state = State::Flowing,
        }
        loop {
            let frame = match ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), cx)) {
                None => return Poll::Ready(self.end(None)),
                Some(Err(error)) => {
                    self.state = State::Done;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => match self.by.data(data) {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(error) => {
                        self.state = State::Done;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Err(other) => return Poll::Ready(self.end(other.into_trailers().ok())),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }
}
