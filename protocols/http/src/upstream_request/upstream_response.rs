//! A response whose head was received.

use crate::{
    active_operation::AttemptGuard,
    body::{Body, BodyError},
    upstream_conn::UpstreamConn,
};
use bytes::Bytes;
use http::{HeaderMap, response};
use http_body::Frame;
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A response's head, its body, and the connection that delivers the body. Boxed, since it is moved
/// often.
pub(crate) struct UpstreamResponse {
    pub(crate) head: response::Parts,
    pub(crate) body: Body,
    pub(crate) conn: UpstreamConn,
    pub(crate) attempt: Option<AttemptGuard>,
}

impl UpstreamResponse {
    /// The trailers of a response without body: `Some(None)` if it has neither. `None` if there is
    /// a body; no byte of it is lost.
    pub(crate) async fn trailers_only(&mut self) -> Option<Option<HeaderMap>> {
        let body = std::mem::take(&mut self.body);
        let mut body = Box::pin(body);
        let frame = self.conn.drive(body.frame()).await;
        let trailers = match &frame {
            None => Some(None),
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| Some(trailers.clone())),
            Some(Err(_)) => None,
        };
        self.body = Body::made(PeekedBody { first: frame, rest: body });
        trailers
    }
}

/// A body whose first frame was read in advance.
struct PeekedBody {
    first: Option<Result<Frame<Bytes>, BodyError>>,
    rest: Pin<Box<Body>>,
}

impl http_body::Body for PeekedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            None => self.rest.as_mut().poll_frame(cx),
            first => Poll::Ready(first),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}
