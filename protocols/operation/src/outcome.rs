//! How operations and connections end, and whose fault that was.

use std::fmt;

/// How an operation ended, and so whose fault it was.
///
/// Outlier detection counts `Failed` and `Lost`, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The service did what was asked.
    Ok,
    /// The service answered that the request was wrong: the client's fault. Or the proxy itself said
    /// no; then there is a reason too.
    Rejected,
    /// The service answered that it could not: the service's fault.
    Failed,
    /// The service went away before it answered: reset, closed, timed out.
    Lost,
    /// The client went away before the answer was there.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of their discriminants.
    pub const ALL: [Outcome; 5] =
        [Outcome::Ok, Outcome::Rejected, Outcome::Failed, Outcome::Lost, Outcome::Cancelled];

    /// The word that logs and metric labels use.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::Lost => "lost",
            Outcome::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the proxy answers instead of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// A rate limit is used up; trying again later helps.
    RateLimited,
    /// Too much is under way already; trying again later helps.
    Overloaded,
    /// A standing rule forbids it; trying again never helps.
    Denied,
    /// No endpoint can take it.
    NoEndpoint,
    /// The service took longer than it may.
    TimedOut,
    /// An injected fault.
    Injected,
    /// The service went away before it answered.
    Lost,
    /// The request cannot be read or forwarded.
    Invalid,
    /// The request is longer than it may be.
    TooLarge,
}

impl RejectReason {
    /// Every reason, for tests and tables.
    pub const ALL: [RejectReason; 9] = [
        RejectReason::RateLimited,
        RejectReason::Overloaded,
        RejectReason::Denied,
        RejectReason::NoEndpoint,
        RejectReason::TimedOut,
        RejectReason::Injected,
        RejectReason::Lost,
        RejectReason::Invalid,
        RejectReason::TooLarge,
    ];

    /// The label in logs, metrics and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            RejectReason::RateLimited => "rate_limited",
            RejectReason::Overloaded => "overloaded",
            RejectReason::Denied => "denied",
            RejectReason::NoEndpoint => "no_endpoint",
            RejectReason::TimedOut => "timed_out",
            RejectReason::Injected => "injected",
            RejectReason::Lost => "lost",
            RejectReason::Invalid => "invalid",
            RejectReason::TooLarge => "too_large",
        }
    }

    /// Why a connection ended that was closed for this, with the same word where there is one.
    pub fn close(self) -> Close {
        match self {
            RejectReason::RateLimited => Close::RateLimited,
            RejectReason::Overloaded => Close::Overloaded,
            RejectReason::Denied => Close::Denied,
            RejectReason::NoEndpoint => Close::NoEndpoint,
            RejectReason::TimedOut => Close::OperationTimeout,
            RejectReason::Injected => Close::Injected,
            RejectReason::Lost => Close::UpstreamReset,
            RejectReason::Invalid | RejectReason::TooLarge => Close::ClientViolation,
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a connection ended.
///
/// One word for the access log, for `tollgate_connection_close_total{reason}` and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The client closed in an orderly way, with nothing left undone.
    Client,
    /// The upstream closed in an orderly way first.
    Upstream,
    /// The client's connection was reset or broke.
    ClientReset,
    /// The upstream's connection was reset or broke.
    UpstreamReset,
    /// Nothing moved for `idle_timeout`.
    IdleTimeout,
    /// The connection lived for `max_connection_duration`.
    MaxDuration,
    /// Neither peer sent a byte within `first_byte_timeout`.
    FirstByteTimeout,
    /// The client's first message could not be read within `handshake_timeout`.
    HandshakeTimeout,
    /// The client began a message, and did not end it within `message_timeout`.
    MessageTimeout,
    /// A peer took none of the bytes meant for it for `write_timeout`.
    WriteTimeout,
    /// One side had ended, and nothing moved for `half_close_timeout`.
    HalfCloseTimeout,
    /// An operator ended it.
    Killed,
    /// The proxy is going down, and the connection had come to a rest.
    Drain,
    /// The proxy is going down, and the connection had not come to a rest within `drain_timeout`.
    DrainTimeout,
    /// The endpoint is removed or drained, and the connection had come to a rest.
    EndpointDrained,
    /// The endpoint is removed or drained, and the connection had not come to a rest within the
    /// cluster's `drain_timeout`.
    EndpointRemoved,
    /// The endpoint's health checks fail (`close_connections_on_unhealthy`).
    EndpointUnhealthy,
    /// No endpoint of the cluster accepted a connection.
    ConnectFailed,
    /// No endpoint of the cluster accepted a connection within `connect_timeout`.
    ConnectTimeout,
    /// This machine had no port, descriptor or memory left for a connection to the cluster.
    LocalError,
    /// The cluster has no endpoint to connect to.
    NoEndpoint,
    /// The cluster has as many connections as it may, and none was free in time; or a policy has as
    /// much under way as it may, and that is said by closing.
    Overloaded,
    /// The listener or the whole proxy is at its limit of connections.
    ConnectionLimit,
    /// The client's bytes can't be what the listener's protocol says.
    ClientViolation,
    /// The upstream's bytes can't be what the listener's protocol says.
    UpstreamViolation,
    /// A policy's rate limit is used up, and the protocol has no words for that, or it is said by
    /// closing.
    RateLimited,
    /// A policy forbids it, and the protocol has no words for that, or it is said by closing.
    Denied,
    /// A policy's time limit was over, and the protocol has no words for that.
    OperationTimeout,
    /// An injected fault.
    Injected,
    /// The client has had as many requests as a connection may carry.
    MaxRequests,
    /// Serving the connection panicked, which is a bug in the proxy.
    Panic,
}

impl Close {
    /// Every way a connection can end, for tests and tables.
    pub const ALL: [Close; 31] = [
        Close::Client,
        Close::Upstream,
        Close::ClientReset,
        Close::UpstreamReset,
        Close::IdleTimeout,
        Close::MaxDuration,
        Close::FirstByteTimeout,
        Close::HandshakeTimeout,
        Close::MessageTimeout,
        Close::WriteTimeout,
        Close::HalfCloseTimeout,
        Close::Killed,
        Close::Drain,
        Close::DrainTimeout,
        Close::EndpointDrained,
        Close::EndpointRemoved,
        Close::EndpointUnhealthy,
        Close::ConnectFailed,
        Close::ConnectTimeout,
        Close::LocalError,
        Close::NoEndpoint,
        Close::Overloaded,
        Close::ConnectionLimit,
        Close::ClientViolation,
        Close::UpstreamViolation,
        Close::RateLimited,
        Close::Denied,
        Close::OperationTimeout,
        Close::Injected,
        Close::MaxRequests,
        Close::Panic,
    ];

    /// The word that logs and metric labels use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Close::Client => "client",
            Close::Upstream => "upstream",
            Close::ClientReset => "client_reset",
            Close::UpstreamReset => "upstream_reset",
            Close::IdleTimeout => "idle_timeout",
            Close::MaxDuration => "max_duration",
            Close::FirstByteTimeout => "first_byte_timeout",
            Close::HandshakeTimeout => "handshake_timeout",
            Close::MessageTimeout => "message_timeout",
            Close::WriteTimeout => "write_timeout",
            Close::HalfCloseTimeout => "half_close_timeout",
            Close::Killed => "killed",
            Close::Drain => "drain",
            Close::DrainTimeout => "drain_timeout",
            Close::EndpointDrained => "endpoint_drained",
            Close::EndpointRemoved => "endpoint_removed",
            Close::EndpointUnhealthy => "endpoint_unhealthy",
            Close::ConnectFailed => "connect_failed",
            Close::ConnectTimeout => "connect_timeout",
            Close::LocalError => "local_error",
            Close::NoEndpoint => "no_endpoint",
            Close::Overloaded => "overloaded",
            Close::ConnectionLimit => "connection_limit",
            Close::ClientViolation => "client_violation",
            Close::UpstreamViolation => "upstream_violation",
            Close::RateLimited => "rate_limited",
            Close::Denied => "denied",
            Close::OperationTimeout => "operation_timeout",
            Close::Injected => "injected",
            Close::MaxRequests => "max_requests",
            Close::Panic => "panic",
        }
    }

    /// Whether a policy or a limit of the cluster would not have the connection or its operation.
    pub fn is_rejection(self) -> bool {
        matches!(self, Close::RateLimited | Close::Overloaded | Close::Denied)
    }

    /// What became of an operation that was still open when its connection ended this way.
    ///
    /// `stream`: the operation is the connection itself, as for raw TCP: an orderly
    /// end of the connection is then a good end of the operation.
    pub fn outcome(self, stream: bool) -> Outcome {
        match self {
            Close::Client | Close::Upstream if stream => Outcome::Ok,
            Close::IdleTimeout | Close::MaxDuration | Close::Drain if stream => Outcome::Ok,
            Close::EndpointDrained | Close::HalfCloseTimeout if stream => Outcome::Ok,
            Close::Client | Close::ClientReset | Close::ClientViolation => Outcome::Cancelled,
            Close::Upstream | Close::UpstreamReset | Close::UpstreamViolation => Outcome::Lost,
            Close::ConnectFailed | Close::ConnectTimeout | Close::NoEndpoint => Outcome::Lost,
            Close::LocalError => Outcome::Lost,
            Close::FirstByteTimeout | Close::HandshakeTimeout => Outcome::Cancelled,
            Close::MessageTimeout | Close::HalfCloseTimeout | Close::Killed => Outcome::Cancelled,
            Close::WriteTimeout | Close::IdleTimeout | Close::MaxDuration => Outcome::Cancelled,
            Close::Drain | Close::DrainTimeout | Close::MaxRequests => Outcome::Cancelled,
            Close::EndpointDrained | Close::EndpointRemoved | Close::Panic => Outcome::Cancelled,
            Close::EndpointUnhealthy | Close::OperationTimeout | Close::Injected => Outcome::Lost,
            Close::Overloaded | Close::ConnectionLimit => Outcome::Rejected,
            Close::RateLimited | Close::Denied => Outcome::Rejected,
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
