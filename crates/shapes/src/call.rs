//! An operation that has ended, as far as shapes are concerned.

use operation::{Attributes, CursorChange, Outcome, QueryShape};
use std::{
    borrow::Cow,
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

/// An operation that has ended.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The listener's name.
    pub listener: &'a Arc<str>,
    /// A number that no other listener has.
    pub listener_key: u64,
    /// The operation's name.
    pub operation: &'a str,
    /// Its resource.
    pub resource: &'a str,
    /// Its shape.
    pub shape: QueryShape,
    /// When its first byte was read.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Its duration is not latency: the service waits by design.
    pub is_long_poll: bool,
    /// It may have a call site.
    pub may_have_callsite: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The proxy has rejected it.
    pub is_rejected: bool,
    /// How many items the service has returned or changed.
    pub items: u64,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes from the service.
    pub reply_bytes: u64,
    /// What it has done with a cursor.
    pub cursor: Option<CursorChange>,
    /// The first bytes of its request, as far as they were kept.
    pub front: &'a [u8],
    /// Reads everything else, on demand.
    pub attributes: &'a dyn Attributes,
}

impl<'a> Call<'a> {
    /// An attribute as text; `None` if it is absent or not known.
    pub(crate) fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        self.attributes.get(self.front, name).text()
    }

    /// Where in the client's program it comes from, if its comment says so.
    pub(crate) fn callsite(&self) -> Option<Cow<'a, str>> {
        if self.may_have_callsite { self.attribute("callsite") } else { None }
    }

    /// The key of its shape. Names that are in the rest of a long request are known by now.
    pub(crate) fn key(&self) -> NonZeroU64 {
        let Self { operation, resource, shape, .. } = *self;
        let of_names = || operation::ShapeHasher::of_names(operation, resource).finish();
        shape.key.unwrap_or_else(of_names)
    }

    /// The key of its row: of its shape and its listener.
    pub(crate) fn row_key(&self) -> u64 {
        self.key().get() ^ self.listener_key
    }

    /// The time from the first byte of the request to the last byte of the reply, in nanoseconds.
    pub(crate) fn nanos(&self) -> u64 {
        nanos(self.ended.saturating_duration_since(self.began))
    }
}

/// The number of a listener, which no other one has.
pub fn listener_key(listener: &str) -> u64 {
    let mut hasher = operation::ShapeHasher::new();
    hasher.bytes(listener.as_bytes());
    hasher.value()
}

/// A time in nanoseconds.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
