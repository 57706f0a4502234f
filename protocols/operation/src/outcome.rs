//! How operations and connections end, and which side is to blame.

use std::fmt;

/// How an operation ended, and so which side is to blame.
///
/// Outlier detection counts only `Failed` and `Lost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The service succeeded.
    Ok,
    /// The service replied that the request is wrong, so the client is to blame; or the proxy rejected
    /// it, and then there is a reason too.
    Rejected,
    /// The service replied that it failed, so the service is to blame.
    Failed,
    /// The service did not reply: reset, closed, timed out.
    Lost,
    /// The client left before the reply.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of their discriminants.
    pub const ALL: [Outcome; 5] =
        [Outcome::Ok, Outcome::Rejected, Outcome::Failed, Outcome::Lost, Outcome::Cancelled];

    /// The label in logs and metrics.
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

/// Why the proxy rejects a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// A rate limit is exceeded; a later retry helps.
    RateLimited,
    /// Too many operations or connections are in flight; a later retry helps.
    Overloaded,
    /// A policy forbids it; a retry never helps.
    Denied,
    /// The cluster has no usable endpoint.
    NoEndpoint,
    /// The service exceeded a time limit.
    TimedOut,
    /// An injected fault.
    Injected,
    /// The service closed the connection before its reply.
    Lost,
    /// The request cannot be read or forwarded.
    Invalid,
    /// The request exceeds the maximum size.
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

    /// The close reason of a connection that is closed for this reason; it has the same label where there
    /// is one.
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
/// The access log and `tollgate_connection_close_total{reason}` use [`as_str`](Self::as_str).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The client closed the connection with FIN, with no operation in flight.
    Client,
    /// The upstream closed the connection with FIN first.
    Upstream,
    /// The client's connection was reset or failed.
    ClientReset,
    /// The upstream connection was reset or failed.
    UpstreamReset,
    /// No bytes passed for `idle_timeout`.
    IdleTimeout,
    /// The connection reached `max_connection_duration`.
    MaxDuration,
    /// Neither peer sent a byte within `first_byte_timeout`.
    FirstByteTimeout,
    /// The client's first message was not complete within `handshake_timeout`.
    HandshakeTimeout,
    /// The client did not complete a message within `message_timeout`.
    MessageTimeout,
    /// A peer accepted no bytes for `write_timeout`.
    WriteTimeout,
    /// One side had closed, and no bytes passed for `half_close_timeout`.
    HalfCloseTimeout,
    /// An operator closed it through the admin interface.
    Killed,
    /// The proxy drains, and the connection was idle.
    Drain,
    /// The proxy drains, and the connection was not idle within `drain_timeout`.
    DrainTimeout,
    /// The endpoint is removed or drained, and the connection was idle.
    EndpointDrained,
    /// The endpoint is removed or drained, and the connection was not idle within the cluster's
    /// `drain_timeout`.
    EndpointRemoved,
    /// The endpoint's health checks fail (`close_connections_on_unhealthy`).
    EndpointUnhealthy,
    /// The endpoint is not the primary any more, and the connection was idle.
    RoleLost,
    /// The certificate that the connection to the endpoint was opened with is about to expire.
    CertificateExpired,
    /// The client's certificate is no longer accepted.
    CertificateRevoked,
    /// No endpoint of the cluster accepted a connection.
    ConnectFailed,
    /// No endpoint of the cluster accepted a connection within `connect_timeout`.
    ConnectTimeout,
    /// This machine had no port, descriptor or memory left for a connection to the cluster.
    LocalError,
    /// The cluster has no endpoint to connect to.
    NoEndpoint,
    /// The cluster is at its connection limit and none was free in time; or a policy's concurrency limit
    /// was reached, and it rejects by closing.
    Overloaded,
    /// The listener or the whole proxy is at its limit of connections.
    ConnectionLimit,
    /// The client violated the listener's protocol.
    ClientViolation,
    /// The upstream violated the listener's protocol.
    UpstreamViolation,
    /// A policy's rate limit was exceeded, and the protocol has no error reply or the policy rejects by
    /// closing.
    RateLimited,
    /// A policy forbids it, and the protocol has no error reply or the policy rejects by closing.
    Denied,
    /// A policy's time limit was exceeded, and the protocol has no error reply.
    OperationTimeout,
    /// An injected fault.
    Injected,
    /// The connection reached its maximum number of requests.
    MaxRequests,
    /// The TLS handshake with the client failed.
    TlsHandshake,
    /// A PROXY protocol header was expected, and what came is none or is not accepted.
    ProxyHeader,
    /// Serving the connection panicked, which is a bug in the proxy.
    Panic,
}

impl Close {
    /// Every reason, for tests and tables.
    pub const ALL: [Close; 36] = [
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
        Close::RoleLost,
        Close::CertificateExpired,
        Close::CertificateRevoked,
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
        Close::TlsHandshake,
        Close::ProxyHeader,
        Close::Panic,
    ];

    /// The label in logs and metrics.
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
            Close::RoleLost => "role_lost",
            Close::CertificateExpired => "certificate_expired",
            Close::CertificateRevoked => "certificate_revoked",
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
            Close::TlsHandshake => "tls_handshake",
            Close::ProxyHeader => "proxy_header",
            Close::Panic => "panic",
        }
    }

    /// Whether a policy or a limit of the cluster rejected the connection or its operation.
    pub fn is_rejection(self) -> bool {
        matches!(self, Close::RateLimited | Close::Overloaded | Close::Denied)
    }

    /// The outcome of an operation in flight when its connection ends for this reason.
    ///
    /// `stream`: the operation is the connection itself, as for raw TCP. An orderly end of the
    /// connection is then a success.
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
            Close::RoleLost => Outcome::Cancelled,
            Close::CertificateExpired | Close::CertificateRevoked => Outcome::Cancelled,
            Close::EndpointUnhealthy | Close::OperationTimeout | Close::Injected => Outcome::Lost,
            Close::Overloaded | Close::ConnectionLimit => Outcome::Rejected,
            Close::RateLimited | Close::Denied => Outcome::Rejected,
            Close::TlsHandshake | Close::ProxyHeader => Outcome::Cancelled,
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
