//! Replies of the proxy's own, rejections and answers: they are written between the replies of the
//! server.

use super::{Relay, answers::LaterAnswer, in_flight::InFlightRequest};
use bytes::{Buf, BytesMut};
use operation::{Close, Codec, Rejection, Tag};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// How many bytes may wait for a client that does not read, before its requests wait too.
const MAX_BYTES: usize = 64 * 1024;

/// Encoded replies that the client has not got yet.
#[derive(Debug, Default)]
pub(super) struct LocalReplies {
    /// Written as soon as the reply stream is between two messages.
    pub(super) due: BytesMut,
    /// How many bytes wait for older replies, in the table of requests in flight.
    deferred: usize,
    /// The codec's own answer that is due later.
    pub(super) later: Option<LaterAnswer>,
}

impl LocalReplies {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.due.len() + self.deferred
    }
}

impl<C: Codec> Relay<C> {
    /// Whether requests wait until the client has read more of its rejections.
    pub(super) fn is_rejection_backlogged(&self) -> bool {
        self.local_replies.len() >= MAX_BYTES && !self.progress.pass_through
    }

    /// Has the codec encode a rejection, in the request's order: it is written after all older
    /// replies. Returns whether the protocol has a message for it.
    pub(super) fn write_rejection(&mut self, tag: Tag, no: &Rejection) -> bool {
        if !self.in_flight.expects_reply() {
            return self.codec.reject(tag, &no.as_ref(), &mut self.local_replies.due);
        }
        let mut words = BytesMut::new();
        let written = self.codec.reject(tag, &no.as_ref(), &mut words);
        self.local_replies.deferred += words.len();
        if let Some(due) = self.in_flight.defer_rejection(words) {
            self.local_replies.deferred -= due.len();
            self.local_replies.due.extend_from_slice(&due);
        }
        written
    }

    /// Removes the operation with this tag: its reply has come, or never will. Rejections that
    /// waited for it are written next.
    pub(super) fn take_in_flight(&mut self, tag: Tag) -> Option<InFlightRequest> {
        let mut open = self.in_flight.take(tag)?;
        self.release_rejections(&mut open);
        Some(open)
    }

    pub(super) fn release_rejections(&mut self, open: &mut InFlightRequest) {
        if let Some(words) = open.rejections.take() {
            self.local_replies.deferred -= words.len();
            self.local_replies.due.extend_from_slice(&words);
        }
    }

    /// Whether rejections have to be written before more of the replies passes.
    pub(super) fn has_due_rejections(&self) -> bool {
        !self.local_replies.due.is_empty() && !self.is_inside_reply()
    }

    /// Writes the rejections that are due, never inside a reply.
    pub(super) fn flush_rejections(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        while !self.local_replies.due.is_empty() {
            let written = Pin::new(&mut self.client).poll_write(cx, &self.local_replies.due);
            self.replies.stalled_since =
                self.stalled_since(self.replies.stalled_since, written.is_pending(), false);
            match ready!(written) {
                Ok(n) if n > 0 => self.local_replies.due.advance(n),
                _ => return Poll::Ready(Err(Close::ClientReset)),
            }
        }
        self.local_replies.due = BytesMut::new();
        // What the socket does not take now goes out before the next reply.
        let _ = self.replies.poll_flush_socket(cx, &mut self.client);
        Poll::Ready(Ok(()))
    }
}
