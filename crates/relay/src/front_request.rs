//! The request at the front of a connection's unread bytes, while it may not be forwarded.

use super::{admission::PendingVerdict, held_request::HeldRequest};
use bytes::Bytes;
use operation::Close;
use std::time::Instant;

/// What the request at the front waits for. Nearly always nothing.
#[derive(Debug, Default)]
pub(super) struct FrontRequest {
    /// A policy needs more of it than the codec does.
    pub(super) hold: Option<Box<HeldRequest>>,
    /// Its verdict is pending.
    pub(super) verdict: Option<Box<PendingVerdict>>,
    /// A policy delays it until then.
    pub(super) delayed_until: Option<Instant>,
    /// Its length, and the bytes that replace it.
    pub(super) rewrite: Option<(usize, Bytes)>,
    /// Why the connection closes if the request that was rejected last is the whole connection.
    pub(super) rejected: Option<Close>,
}

impl FrontRequest {
    /// Whether a verdict or a delay holds it back.
    pub(super) fn is_delayed(&self) -> bool {
        self.delayed_until.is_some() || self.verdict.is_some()
    }
}
