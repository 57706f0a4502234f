//! Health checks: the request, and whether the reply is that of a healthy service.

use bytes::BytesMut;

/// One health check of a protocol, without I/O. Its user connects, waits and applies time-outs,
/// and knows no protocol.
pub trait Probe: Send {
    /// Writes the request. Nothing written: a successful connect is the whole check.
    fn write_request(&mut self, out: &mut BytesMut);

    /// The application protocol (ALPN) that TLS has agreed upon for this check's connection. Comes
    /// before the request is written, if at all.
    fn protocol_agreed(&mut self, protocol: &[u8]) {
        let _ = protocol;
    }

    /// Evaluates all reply bytes received so far.
    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult;
}

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// Undecided: more reply bytes are needed.
    NeedMore,
    /// The service works, and the connection can be used for the next check. The text is a detail
    /// for operators, or empty: `primary of rs0`.
    Healthy(String),
    /// The service does not work; the text is the reason, for operators.
    Unhealthy(String),
}
