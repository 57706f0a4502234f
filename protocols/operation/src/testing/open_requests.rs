//! Requests that wait for their replies, and the errors of those that were rejected.

use crate::Tag;
use bytes::BytesMut;
use std::collections::VecDeque;

/// Requests that wait for a reply, oldest first.
#[derive(Debug, Default)]
pub(super) struct OpenRequests(VecDeque<OpenRequest>);

#[derive(Debug)]
struct OpenRequest {
    tag: Tag,
    /// Its number on the connection.
    place: usize,
    /// Its error if it was rejected. Empty if the protocol has none: the connection closes then.
    rejection: Option<BytesMut>,
}

impl OpenRequest {
    /// Whether its reply comes from the upstream.
    fn is_forwarded(&self) -> bool {
        self.rejection.is_none()
    }
}

impl OpenRequests {
    pub(super) fn push(&mut self, tag: Tag, place: usize, rejection: Option<BytesMut>) {
        self.0.push_back(OpenRequest { tag, place, rejection });
    }

    /// The tag of the forwarded request with this number.
    pub(super) fn forwarded(&self, place: usize) -> Option<Tag> {
        let open = self.0.iter().find(|open| open.place == place && open.is_forwarded())?;
        Some(open.tag)
    }

    /// Removes the oldest forwarded request with this tag. Returns its number.
    pub(super) fn take(&mut self, tag: Tag) -> Option<usize> {
        let at = self.0.iter().position(|open| open.tag == tag && open.is_forwarded())?;
        Some(self.0.remove(at)?.place)
    }

    /// Removes the request with this number.
    pub(super) fn remove(&mut self, place: usize) {
        self.0.retain(|open| open.place != place);
    }

    /// The number of the only request.
    pub(super) fn only(&self) -> Option<usize> {
        self.0.front().filter(|_| self.0.len() == 1).map(|open| open.place)
    }

    /// Removes the oldest request if it was rejected. Returns its error.
    pub(super) fn next_rejection(&mut self) -> Option<BytesMut> {
        let words = self.0.front_mut()?.rejection.take()?;
        self.0.pop_front();
        Some(words)
    }

    /// Whether the connection closes once the replies to older requests have come.
    pub(super) fn is_closing(&self) -> bool {
        self.0.iter().any(|open| open.rejection.as_ref().is_some_and(BytesMut::is_empty))
    }
}
