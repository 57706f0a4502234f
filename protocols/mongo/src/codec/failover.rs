//! What a pooled client gets when its server fails: see [`crate::recovery`].

use super::Mongo;
use crate::{
    message_view::MessageView,
    parsed_command::ParsedCommand,
    presentation::Presentation,
    recovery::{RequestKind, failure_of},
    retryable_write::{can_be_retryable, without_number},
    scan::MessageFacts,
    state_change,
};
use bytes::Bytes;
use operation::ResendReason;

impl Mongo {
    /// A reply without the errors of a server that has lost its role; `None` if it has none. `message` is
    /// whole.
    pub(super) fn hide_state_change(
        &self,
        facts: &MessageFacts,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let shown = self.listener.presentation.as_ref()?;
        let hides = facts.is_state_change() && shown.is_followed();
        let label = self.pooled.as_deref().and_then(|client| client.kind.error_label());
        hides.then(|| state_change::hide(message, label)).flatten()
    }

    /// Why the request is sent again, if another server can do what this one has not done: it does not know
    /// the cursor, is no primary, or knows no retryable writes.
    pub(super) fn resend_reason(&mut self, facts: &MessageFacts) -> Option<ResendReason> {
        let client = self.pooled.as_deref_mut()?;
        if client.has_untried && facts.is_cursor_not_found() {
            return Some(ResendReason::NotHeld);
        }
        if !client.may_resend {
            return None;
        }
        if client.session.is_some() && facts.is_unsupported() {
            if self.listener.sessions.record_unsupported() {
                self.listener.notices.record_unsupported_retries();
            }
            return Some(ResendReason::Unsupported);
        }
        let is_followed =
            self.listener.presentation.as_ref().is_some_and(Presentation::is_followed);
        let failure = failure_of(facts).filter(|_| is_followed)?;
        client.kind.is_resent_after(failure).then_some(ResendReason::LostRole)
    }

    /// Makes the last request retryable, if it is a write that can be.
    pub(super) fn add_number(&mut self, front: &[u8]) -> Option<(usize, Bytes)> {
        let client = self.pooled.as_deref_mut()?;
        let config = self.listener.replay;
        let wanted = config.makes_writes_retryable && client.kind == RequestKind::Write;
        if !wanted {
            return None;
        }
        let shown = self.listener.presentation.as_ref()?;
        if !shown.has_retryable_writes() || !self.listener.sessions.are_supported() {
            return None;
        }
        let message =
            MessageView::read(front).filter(|it| it.bytes().len() <= config.max_request)?;
        let asked = ParsedCommand::parse(&message, &mut String::new());
        if !can_be_retryable(&message, &asked) {
            return None;
        }
        let session = self.listener.sessions.borrow();
        let (len, with) = session.add_to(message.bytes())?;
        client.kind = RequestKind::RetryableWrite { by_driver: false };
        client.session = Some(session);
        Some((len, with.into()))
    }

    /// A request as it is sent again: without what was added, if the servers know no retryable writes.
    pub(super) fn remove_number(&mut self, request: Box<[u8]>) -> Box<[u8]> {
        let Some(client) = self.pooled.as_deref_mut() else { return request };
        if self.listener.sessions.are_supported() || client.session.take().is_none() {
            return request;
        }
        client.kind = RequestKind::Write;
        without_number(&request).map_or(request, Vec::into_boxed_slice)
    }
}
