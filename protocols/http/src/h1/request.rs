//! A request of a client, while it is served.

use super::{
    incoming_body::{BodyFault, IncomingBody},
    link::Link,
    request_head::RequestHead,
};
use crate::{
    admitted_request::RequestTimeout, h1_validator::H1Error, upstream_error::UpstreamError,
    upstream_request::AttemptError,
};
use operation::{Close, Outcome};
use session::Phase;
use std::time::Instant;

/// Why a request has no response of the service.
pub(super) enum Failure {
    /// Its connection closes.
    Close(Close),
    Attempt(AttemptError),
    /// A time limit has expired.
    Late(RequestTimeout),
    /// The client has sent what is no body.
    Invalid(H1Error),
}

impl Failure {
    /// The outcome that is recorded at the endpoint.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Failure::Close(_) | Failure::Invalid(_) => Outcome::Cancelled,
            Failure::Attempt(error) => error.outcome(),
            Failure::Late(late) if late.is_clients() => Outcome::Cancelled,
            Failure::Late(_) => Outcome::Lost,
        }
    }
}

impl From<BodyFault> for Failure {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Aborted => Failure::Attempt(AttemptError::ClientAborted),
            BodyFault::TooLarge => Failure::Attempt(AttemptError::TooLarge),
            BodyFault::Invalid(error) => Failure::Invalid(error),
        }
    }
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
    /// The head, and what came with it.
    pub(super) bytes: &'c [u8],
    pub(super) incoming: IncomingBody<'c>,
    pub(super) began: Instant,
}

impl<'c> ClientRequest<'c> {
    /// The request that `bytes` begin with.
    pub(super) fn new(
        link: &'c mut Link,
        head: &'c RequestHead,
        bytes: &'c [u8],
        began: Instant,
    ) -> Self {
        let limits = link.server.plan.limits();
        let incoming = IncomingBody::new(head.body, &bytes[head.len..], limits);
        Self { link, head, bytes, incoming, began }
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
            Phase::Running if self.incoming.is_invalid() => Close::ClientViolation,
            Phase::Running => Close::Client,
            _ => Close::Drain,
        }
    }
}
