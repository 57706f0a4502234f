//! How attempts fail, as routes tell it.

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// There was no connection to send it by.
    Connect,
    /// The service says that it was not looked at: a stream that was refused, or one that came
    /// after GOAWAY.
    Refused,
    /// The connection or the stream ended before the answer's head.
    Reset,
    /// The attempt took longer than attempts may.
    PerTryTimeout,
    /// An answer with this HTTP status.
    Status(u16),
    /// An answer with this status of gRPC, in headers or in trailers.
    Code(u16),
}
