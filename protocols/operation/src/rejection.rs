//! Rejections: of an operation or a connection, by a policy or by the proxy.

use crate::RejectReason;
use std::{rc::Rc, sync::Arc, time::Duration};

/// A policy's rejection of an operation or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why; decides the protocol's error code.
    pub reason: RejectReason,
    /// The error message for people.
    pub message: Rc<str>,
    /// Whether to send an error, close or reset.
    pub mode: RejectMode,
    /// A configured error code, in the protocol's own numbers.
    pub code: Option<i32>,
    /// Configured error labels, for protocols whose errors have labels.
    pub labels: Rc<[Rc<str>]>,
    /// How long the client should wait before it retries, if known.
    pub retry_after: Option<Duration>,
    /// The policy that rejects; set by the gate.
    pub policy: Option<Arc<str>>,
}

impl Rejection {
    /// A rejection with the protocol's usual error.
    pub fn new(reason: RejectReason, message: impl Into<Rc<str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            mode: RejectMode::Reply,
            code: None,
            labels: Rc::default(),
            retry_after: None,
            policy: None,
        }
    }

    /// Adds to the message that the attribute `fact` is not known, and so counts as a match.
    #[must_use]
    pub fn with_unknown_attribute(self, fact: &str) -> Self {
        let message = format!("{} (its `{fact}` is not known)", self.message);
        Self { message: message.into(), ..self }
    }

    /// The borrowed form, for the codec that writes the error.
    pub fn as_ref(&self) -> RejectionRef<'_> {
        RejectionRef {
            reason: self.reason,
            message: &self.message,
            code: self.code,
            labels: &self.labels,
            retry_after: self.retry_after,
            policy: self.policy.as_deref(),
        }
    }
}

/// How a rejection reaches the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectMode {
    /// By an error reply; by closing the connection if the protocol has none.
    #[default]
    Reply,
    /// By closing the connection.
    Close,
    /// By resetting the connection.
    Reset,
}

/// A rejection, from which a codec writes its protocol's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectionRef<'a> {
    /// Why: decides the error code, and whether a client should retry.
    pub reason: RejectReason,
    /// The error message for people.
    pub message: &'a str,
    /// A configured error code, in the protocol's own numbers.
    pub code: Option<i32>,
    /// Configured error labels; empty means those of the reason.
    pub labels: &'a [Rc<str>],
    /// How long the client should wait before it retries, if known.
    pub retry_after: Option<Duration>,
    /// The policy that rejects, if any.
    pub policy: Option<&'a str>,
}

impl<'a> RejectionRef<'a> {
    /// A rejection with the protocol's usual error.
    pub fn new(reason: RejectReason, message: &'a str) -> Self {
        Self { reason, message, code: None, labels: &[], retry_after: None, policy: None }
    }
}
