//! Why operations and connections end: one type for logs, metrics, replies and code.

use crate::{Close, RejectReason};
use std::fmt;

/// Why an operation ended. Adds detail to the [`Outcome`](crate::Outcome).
///
/// The access log, `tollgate_operations_rejected_total{reason}` and error replies use
/// [`as_str`](Self::as_str). Code compares variants, since several have the same label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The end of the connection ended the operation.
    Closed(Close),
    /// The proxy answered with an error.
    Rejected(RejectReason),
    /// The client violated the protocol, and the proxy answered with an error.
    Violation(Violation),
    /// The codec lost the framing. The connection's bytes are forwarded unread, and the outcome is
    /// unknown.
    Unreadable,
    /// The service closed a byte-stream session without having sent a byte.
    NoReply,
    /// The connection had too many operations in flight; this was the oldest, and is no longer tracked.
    TooManyInFlight,
    /// A response made no progress for the idle time-out. Unlike an idle connection, this counts
    /// against the endpoint. The label is that of [`Close::IdleTimeout`].
    ResponseIdle,
    /// The proxy answered with the route's `redirect` or `reply`.
    LocalReply,
    /// The proxy answered a CORS preflight request.
    Preflight,
    /// The proxy rejected the origin of a CORS request.
    OriginRefused,
    /// No route matches the request.
    NoRoute,
    /// The request's path is ambiguous: servers may normalize it differently.
    AmbiguousPath,
    /// The path of a gRPC request names no method.
    NoMethod,
    /// No `google.api.http` rule matches the JSON request.
    NoRule,
    /// The request is not gRPC, nor anything that the listener can translate.
    Unsupported,
    /// The service's response could not be translated for the client.
    Untranslated,
}

impl EndReason {
    /// The remaining reasons that concern the service's reply.
    const OF_OPERATIONS: [EndReason; 4] = [
        EndReason::Unreadable,
        EndReason::NoReply,
        EndReason::TooManyInFlight,
        EndReason::ResponseIdle,
    ];
    /// The remaining reasons of replies by the proxy itself.
    const OF_ANSWERS: [EndReason; 9] = [
        EndReason::NoRoute,
        EndReason::AmbiguousPath,
        EndReason::LocalReply,
        EndReason::Preflight,
        EndReason::OriginRefused,
        EndReason::NoMethod,
        EndReason::NoRule,
        EndReason::Unsupported,
        EndReason::Untranslated,
    ];

    /// Every reason except violations, which each protocol names itself.
    pub fn all() -> impl Iterator<Item = EndReason> {
        let closes = Close::ALL.into_iter().map(EndReason::Closed);
        let rejections = RejectReason::ALL.into_iter().map(EndReason::Rejected);
        closes.chain(Self::OF_OPERATIONS).chain(rejections).chain(Self::OF_ANSWERS)
    }

    /// The label in logs, metrics and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndReason::Closed(close) => close.as_str(),
            EndReason::Rejected(reason) => reason.as_str(),
            EndReason::Violation(violation) => violation.0,
            EndReason::Unreadable => "unreadable",
            EndReason::NoReply => "no_reply",
            EndReason::TooManyInFlight => "too_many_open",
            EndReason::ResponseIdle => Close::IdleTimeout.as_str(),
            EndReason::LocalReply => "answered_here",
            EndReason::Preflight => "preflight",
            EndReason::OriginRefused => "origin_refused",
            EndReason::NoRoute => "no_route",
            EndReason::AmbiguousPath => "path",
            EndReason::NoMethod => "no_method",
            EndReason::NoRule => "no_rule",
            EndReason::Unsupported => "unsupported",
            EndReason::Untranslated => "untranslated",
        }
    }

    /// Whether a bad outcome with this reason counts against the endpoint.
    ///
    /// Injected faults and errors of this machine do not count, nor do idle connections: some services
    /// send nothing by design.
    pub const fn blames_endpoint(self) -> bool {
        let is_own_error = self.is_injected() || matches!(self, Self::Closed(Close::LocalError));
        let is_idle = matches!(
            self,
            Self::Closed(Close::IdleTimeout | Close::HalfCloseTimeout | Close::MaxDuration)
        );
        !is_own_error && !is_idle
    }

    /// Whether a policy injected the fault that ended the operation.
    pub const fn is_injected(self) -> bool {
        matches!(self, Self::Closed(Close::Injected) | Self::Rejected(RejectReason::Injected))
    }

    /// Whether a policy's time limit ended the operation.
    pub const fn is_time_limit(self) -> bool {
        matches!(
            self,
            Self::Closed(Close::OperationTimeout) | Self::Rejected(RejectReason::TimedOut)
        )
    }
}

/// A violation of the protocol by a peer. The text is a metric label and a log field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Violation(pub &'static str);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Violation {}

impl From<Close> for EndReason {
    fn from(close: Close) -> Self {
        EndReason::Closed(close)
    }
}

impl From<RejectReason> for EndReason {
    fn from(reason: RejectReason) -> Self {
        EndReason::Rejected(reason)
    }
}

impl From<Violation> for EndReason {
    fn from(violation: Violation) -> Self {
        EndReason::Violation(violation)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_errors_and_idle_time_do_not_blame_the_endpoint() {
        let blameless: Vec<_> =
            EndReason::all().filter(|reason| !reason.blames_endpoint()).collect();
        let expected = [
            EndReason::Closed(Close::IdleTimeout),
            EndReason::Closed(Close::MaxDuration),
            EndReason::Closed(Close::HalfCloseTimeout),
            EndReason::Closed(Close::LocalError),
            EndReason::Closed(Close::Injected),
            EndReason::Rejected(RejectReason::Injected),
        ];
        assert_eq!(blameless, expected);
    }

    #[test]
    fn a_response_without_progress_counts_against_the_endpoint() {
        assert_eq!(EndReason::ResponseIdle.as_str(), Close::IdleTimeout.as_str());
        assert!(EndReason::ResponseIdle.blames_endpoint());
    }
}
