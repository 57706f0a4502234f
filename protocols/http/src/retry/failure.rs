//! Failures of attempts, as retry policies see them.

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// No connection could be made.
    Connect,
    /// The service did not process it: a refused stream, or one after GOAWAY.
    Refused,
    /// The connection or stream ended before the response's head.
    Reset,
    /// The attempt timed out.
    PerTryTimeout,
    /// A response with this HTTP status.
    Status(u16),
    /// A response with this gRPC status, in headers or trailers.
    Code(u16),
}
