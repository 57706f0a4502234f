//! A body produced step by step by an async function.

use bytes::Bytes;
use http_body::Frame;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tollgate_http::{Body, BodyError};

/// A frame of the body and the state for the next step, or `None` at the end.
pub(crate) type Step<S> = Option<(Result<Frame<Bytes>, BodyError>, S)>;

/// A body of the frames that `next` returns, until it returns `None` or an error.
pub(crate) fn unfold<S, N, F>(state: S, next: N) -> Body
where
    S: 'static,
    N: Fn(S) -> F + Unpin + 'static,
    F: Future<Output = Step<S>> + 'static,
{
    let pending = Some(Box::pin(next(state)));
    Body::made(Unfold { pending, next })
}

struct Unfold<N, F> {
    pending: Option<Pin<Box<F>>>,
    next: N,
}

impl<S, N, F> http_body::Body for Unfold<N, F>
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
