//! Bodies that are made of other bodies.

mod rewritten;
mod steps;

use crate::{
    frame::{Framed, Frames, TooLong},
    room::Room,
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
pub(crate) use steps::{Step, steps};
use tollgate_http::{Body, BodyError, BufferReservation};

/// What a client sent that no service can be asked: why its request's body broke off.
#[derive(Debug)]
pub(crate) struct Spoilt(Status);

impl fmt::Display for Spoilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for Spoilt {}

/// Where a request's body leaves word of why it broke off, for the refusal that follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blame(Rc<RefCell<Option<Status>>>);

impl Blame {
    /// Leaves word.
    pub(crate) fn put(&self, status: Status) -> tollgate_http::BodyError {
        *self.0.borrow_mut() = Some(status.clone());
        Box::new(Spoilt(status))
    }

    /// What was left.
    pub(crate) fn get(&self) -> Option<Status> {
        self.0.borrow().clone()
    }
}

/// A body of one piece, which is there once something else is.
pub(crate) fn later(
    blame: Blame,
    message: impl Future<Output = Result<Bytes, Status>> + 'static,
) -> Body {
    let message = async move { message.await.map_err(|status| blame.put(status)) };
    Body::made(Later(Some(Box::pin(message))))
}

/// A piece that is still to come, or none.
struct Later<F>(Option<Pin<Box<F>>>);

impl<F: Future<Output = Result<Bytes, BodyError>>> http_body::Body for Later<F> {
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

/// All of a body, counted for as long as it is held. Trailers are let go.
pub(crate) async fn collect(mut body: Body, room: &Room) -> Result<Bytes, Status> {
    let limit = room.limit;
    let mut hold = room.hold();
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Status::new(Code::Cancelled, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if held.len() + data.len() > limit {
            return Err(too_long(TooLong { len: (held.len() + data.len()) as u64, limit }));
        }
        held.extend_from_slice(&data);
        hold.set(held.capacity()).map_err(|full| room.full(full))?;
    }
    hold.into_counted(held).map_err(|full| room.full(full))
}

/// Bytes, and trailers after them.
pub(crate) fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Body {
    let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers)));
    Body::made(Full::new(bytes).with_trailers(trailers).map_err(|never| match never {}))
}

/// The messages of a body, one after the other.
pub(crate) struct Messages {
    body: Body,
    frames: Frames,
    room: Room,
    hold: BufferReservation,
    /// How long the last two messages are, which whoever took them may still have.
    taken: [usize; 2],
    /// What came after the last; there once there are no more.
    pub(crate) trailers: HeaderMap,
}

impl Messages {
    /// The messages are held as far as there is room; two of them, until the next is asked for.
    pub(crate) fn new(body: Body, room: &Room) -> Self {
        Self::ending(HeaderMap::new(), body, room)
    }

    /// Those of an answer whose head said this of its end.
    pub(crate) fn ending(trailers: HeaderMap, body: Body, room: &Room) -> Self {
        let (frames, hold) = (Frames::new(room.limit), room.hold());
        Self { body, frames, room: room.clone(), hold, taken: [0; 2], trailers }
    }

    /// The next one; `None` once there are no more.
    ///
    /// # Errors
    /// It is too long, there is no room for it, or the body broke off.
    pub(crate) async fn next(&mut self) -> Result<Option<Framed>, Status> {
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(too_long)? {
                self.taken = [self.taken[1], frame.message.len()];
                return Ok(Some(frame));
            }
            let Some(piece) = self.body.frame().await else {
                return match self.frames.is_empty() {
                    true => Ok(None),
                    false => Err(Status::new(Code::Internal, "the last message is cut off")),
                };
            };
            let broken = |_| Status::new(Code::Unavailable, "the body broke off");
            match piece.map_err(broken)?.into_data() {
                Ok(data) => {
                    self.frames.push(&data);
                    let held = self.frames.held() + self.taken.iter().sum::<usize>();
                    self.hold.set(held).map_err(|full| self.room.full(full))?;
                }
                Err(other) => self.trailers.extend(other.into_trailers().unwrap_or_default()),
            }
        }
    }
}

/// Tells whose message is too long.
pub(crate) fn too_long(it: TooLong) -> Status {
    let message = format!("a message of {} bytes; `max_message` allows {}", it.len, it.limit);
    Status::new(Code::ResourceExhausted, message)
}
