//! A request of a client, while it is served.

use super::{link::Link, request_head::RequestHead};
use crate::{
    admitted_request::RequestTimeout, upstream_error::UpstreamError, upstream_request::AttemptError,
};
use operation::Close;
use session::Phase;
use std::time::Instant;

/// Why a request has no response of the service.
pub(super) enum Failure {
    /// Its connection closes.
    Close(Close),
    Attempt(AttemptError),
    /// A time limit has expired.
    Late(RequestTimeout),
}

impl From<Close> for Failure {
    fn from(close: Close) -> Self {
        Failure::Close(close)
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Failure::Attempt(AttemptError::Upstream(error))
    }
}

/// A request that is being served.
pub(super) struct ClientRequest<'c> {
    pub(super) link: &'c mut Link,
    pub(super) head: &'c RequestHead,
    /// The head, and the part of the body that came with it.
    pub(super) bytes: &'c [u8],
    /// The body's length in bytes.
    pub(super) body: u64,
    pub(super) began: Instant,
}

impl<'c> ClientRequest<'c> {
    pub(super) fn new(
        link: &'c mut Link,
        head: &'c RequestHead,
        bytes: &'c [u8],
        body: u64,
        began: Instant,
    ) -> Self {
        Self { link, head, bytes, body, began }
    }

    /// The bytes of the body that have not been read yet.
    pub(super) fn unread(&self) -> u64 {
        self.body - (self.bytes.len() - self.head.len) as u64
    }

    /// Whether the connection closes after this request.
    pub(super) fn is_last(&self) -> bool {
        let most = self.link.server.plan.max_requests;
        self.head.last
            || most.is_some_and(|most| self.link.requests >= most)
            || self.link.session.phase() > Phase::Running
    }

    /// Why the connection closes after its last response.
    pub(super) fn last_close(&self) -> Close {
        let most = self.link.server.plan.max_requests;
        match self.link.session.phase() {
            Phase::Running if most.is_some_and(|most| self.link.requests >= most) => {
                Close::MaxRequests
            }
            Phase::Running => Close::Client,
            _ => Close::Drain,
        }
    }
}
