//! The request at the front of a connection's unread bytes, while it may not be forwarded.

use super::{admission::PendingVerdict, front_action::FrontAction, held_request::HeldRequest};
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
    /// What happens to it once it may be forwarded, unless it passes unchanged.
    pub(super) action: Option<FrontAction>,
    /// How many bytes of its front were replaced before it was known how it passes.
    pub(super) replaced: usize,
    /// Why the connection closes if the request that was rejected last is the whole connection.
    pub(super) rejected: Option<Close>,
}

impl FrontRequest {
    /// Whether the codec answers it.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.action, Some(FrontAction::Answer { .. }))
    }

    /// Whether a verdict or a delay holds it back.
    pub(super) fn is_delayed(&self) -> bool {
        self.delayed_until.is_some() || self.verdict.is_some()
    }
}
