//! Health checks: what is asked of a service, and whether its answer is that of one that works.

use bytes::BytesMut;

/// One health check in a protocol's words, without I/O: who connects, waits and gives up is
/// elsewhere, and knows no protocol.
pub trait Probe: Send {
    /// Writes what is asked. Where nothing is written, connecting was all there is to check.
    fn write_request(&mut self, out: &mut BytesMut);

    /// Judges everything that was answered so far.
    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult;
}

/// What an answer tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// Nothing yet: more has to come.
    NeedMore,
    /// The service works, and the connection can be used for the next check. In words, if there
    /// is anything to tell: `primary of rs0`.
    Healthy(String),
    /// The service doesn't work, in words for an operator.
    Unhealthy(String),
}
