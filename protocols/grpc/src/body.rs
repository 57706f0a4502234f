//! Bodies built from other bodies.

mod rewritten;
mod unfold;

use crate::{
    frame::{FrameDecoder, MessageFrame, MessageTooLong},
    message_budget::MessageBudget,
    status::{Code, Status},
};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
pub(crate) use rewritten::{Rewrite, rewritten};
use std::{
    cell::RefCell,
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tollgate_http::{Body, BodyError, BufferReservation};
pub(crate) use unfold::{Step, unfold};

/// A client error in a request body: the status that explains why the body was aborted.
#[derive(Debug)]
pub(crate) struct InvalidRequest(Status);

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for InvalidRequest {}

/// Shared slot for the client error that aborted a request body, read when the rejection is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct InvalidRequestSlot(Rc<RefCell<Option<Status>>>);

impl InvalidRequestSlot {
    /// Records the status. Returns the error to end the body with.
    pub(crate) fn set(&self, status: Status) -> tollgate_http::BodyError {
        *self.0.borrow_mut() = Some(status.clone());
        Box::new(InvalidRequest(status))
    }

    /// The recorded status, if any.
    pub(crate) fn get(&self) -> Option<Status> {
        self.0.borrow().clone()
    }
}

/// A body of one chunk that a future produces.
pub(crate) fn deferred(
    blame: InvalidRequestSlot,
    message: impl Future<Output = Result<Bytes, Status>> + 'static,
) -> Body {
    let message = async move { message.await.map_err(|status| blame.set(status)) };
    Body::made(DeferredBody(Some(Box::pin(message))))
}

/// The future of the chunk; `None` once it was yielded.
struct DeferredBody<F>(Option<Pin<Box<F>>>);

impl<F: Future<Output = Result<Bytes, BodyError>>> http_body::Body for DeferredBody<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(message) = &mut self.0 else { return Poll::Ready(None) };
        let piece = ready!(message.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// Collects a whole body, charged to the budget while it is held. Discards trailers.
pub(crate) async fn collect(mut body: Body, room: &MessageBudget) -> Result<Bytes, Status> {
    let limit = room.limit;
    let mut hold = room.reserve();
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Status::new(Code::Cancelled, "the body was aborted"))?;
        let Ok(data) = frame.into_data() else { continue };
        if held.len() + data.len() > limit {
            return Err(too_long(MessageTooLong { len: (held.len() + data.len()) as u64, limit }));
        }
        held.extend_from_slice(&data);
        hold.set(held.capacity()).map_err(|full| room.limit_status(full))?;
    }
    hold.into_counted(held).map_err(|full| room.limit_status(full))
}

/// A body of these bytes and trailers.
pub(crate) fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Body {
    let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers)));
    Body::made(Full::new(bytes).with_trailers(trailers).map_err(|never| match never {}))
}

/// Reads the messages of a body one by one.
pub(crate) struct MessageStream {
    body: Body,
    frames: FrameDecoder,
    room: MessageBudget,
    hold: BufferReservation,
    /// Reservations for the last two messages, which the caller may still hold.
    taken: [usize; 2],
    /// Trailers; set after the last message.
    pub(crate) trailers: HeaderMap,
}

impl MessageStream {
    /// The messages of `body`. The last two stay charged to the budget until the next one is read.
    pub(crate) fn new(body: Body, room: &MessageBudget) -> Self {
        Self::with_head_trailers(HeaderMap::new(), body, room)
    }

    /// The messages of a response whose head carried these trailers.
    pub(crate) fn with_head_trailers(
        trailers: HeaderMap,
        body: Body,
        room: &MessageBudget,
    ) -> Self {
        let (frames, hold) = (FrameDecoder::new(room.limit), room.reserve());
        Self { body, frames, room: room.clone(), hold, taken: [0; 2], trailers }
    }

    /// Returns the next message, or `None` after the last.
    ///
    /// # Errors
    /// The message exceeds a limit, or the body was aborted.
    pub(crate) async fn next(&mut self) -> Result<Option<MessageFrame>, Status> {
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(too_long)? {
                self.taken = [self.taken[1], frame.message.len()];
                return Ok(Some(frame));
            }
            let Some(piece) = self.body.frame().await else {
                return match self.frames.is_empty() {
                    true => Ok(None),
                    false => Err(Status::new(Code::Internal, "the last message is truncated")),
                };
            };
            let broken = |_| Status::new(Code::Unavailable, "the body was aborted");
            match piece.map_err(broken)?.into_data() {
                Ok(data) => {
                    self.frames.push(&data);
                    let held = self.frames.held() + self.taken.iter().sum::<usize>();
                    self.hold.set(held).map_err(|full| self.room.limit_status(full))?;
                }
                Err(other) => self.trailers.extend(other.into_trailers().unwrap_or_default()),
            }
        }
    }
}

/// The status for a message that exceeds `max_message`.
pub(crate) fn too_long(it: MessageTooLong) -> Status {
    let message = format!("a message of {} bytes; `max_message` allows {}", it.len, it.limit);
    Status::new(Code::ResourceExhausted, message)
}
