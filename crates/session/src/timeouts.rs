//! The time limits of a client's connection.

use serde::Serialize;
use std::time::Duration;

/// The time limits of a client's connection; `None`: no limit. They are serialized as in a config.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeouts {
    /// How long the connection may be idle.
    #[serde(rename = "idle_timeout", serialize_with = "values::shown")]
    pub idle: Option<Duration>,
    /// How long the connection may be open.
    #[serde(rename = "max_connection_duration", serialize_with = "values::shown")]
    pub max_duration: Option<Duration>,
    /// How long a new connection may stay silent on both sides.
    #[serde(rename = "first_byte_timeout", serialize_with = "values::shown")]
    pub first_byte: Option<Duration>,
    /// How long the client may take to send its first complete message.
    #[serde(rename = "handshake_timeout", serialize_with = "values::shown")]
    pub handshake: Option<Duration>,
    /// How long the client may take to complete a message that it began.
    #[serde(rename = "message_timeout", serialize_with = "values::shown")]
    pub message: Option<Duration>,
    /// How long a peer may accept none of the bytes for it.
    #[serde(rename = "write_timeout", serialize_with = "values::shown")]
    pub write: Option<Duration>,
    /// How long a half-closed connection may move no byte.
    #[serde(rename = "half_close_timeout", serialize_with = "values::shown")]
    pub half_close: Option<Duration>,
}
