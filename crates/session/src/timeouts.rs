//! The time limits of a client's connection.

use std::time::Duration;

/// The time limits of a client's connection; `None`: no limit.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    /// How long the connection may be idle.
    pub idle: Option<Duration>,
    /// How long the connection may be open.
    pub max_duration: Option<Duration>,
    /// How long a new connection may stay silent on both sides.
    pub first_byte: Option<Duration>,
    /// How long the client may take to send its first complete message.
    pub handshake: Option<Duration>,
    /// How long the client may take to complete a message that it began.
    pub message: Option<Duration>,
    /// How long a peer may accept none of the bytes for it.
    pub write: Option<Duration>,
    /// How long a half-closed connection may move no byte.
    pub half_close: Option<Duration>,
}
