//! A body that is made step by step by a function that waits.

use bytes::Bytes;
use http_body::Frame;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tollgate_http::{Body, BodyError};

/// A piece of a body, and the state that the next one is made of.
pub(crate) type Step<S> = Option<(Result<Frame<Bytes>, BodyError>, S)>;

/// A body of the pieces that `next` makes, until it makes none or fails.
pub(crate) fn steps<S, N, F>(state: S, next: N) -> Body
where
    S: 'static,
    N: Fn(S) -> F + Unpin + 'static,
    F: Future<Output = Step<S>> + 'static,
{
    let pending = Some(Box::pin(next(state)));
    Body::made(Steps { pending, next })
}

struct Steps<N, F> {
    pending: Option<Pin<Box<F>>>,
    next: N,
}

impl<S, N, F> http_body::Body for Steps<N, F>
where
    N: Fn(S) -> F + Unpin,
    F: Future<Output = Step<S>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(pending) = &mut self.pending else { return Poll::Ready(None) };
        let step = ready!(pending.as_mut().poll(cx));
        self.pending = None;
        let Some((piece, state)) = step else { return Poll::Ready(None) };
        if piece.is_ok() {
            self.pending = Some(Box::pin((self.next)(state)));
        }
        Poll::Ready(Some(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.pending.is_none()
    }
}
