//! Settings of one word, and serializers of values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;
use values::{Size, Text, duration_text};

/// How to return several messages where the client expects one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", rename = "GrpcServerStreams")]
pub enum ServerStreams {
    /// Refused with 502.
    #[default]
    Refuse,
    /// Passed on in frames, the status in the last.
    Frames,
}

/// How several messages are written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", rename = "GrpcStreamShape")]
pub enum StreamShape {
    /// One array.
    #[default]
    Array,
    /// A line each.
    Lines,
}

pub(super) fn show_size<S: Serializer>(size: &Text<Size>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&size.0.text())
}

pub(super) fn show_duration<S: Serializer>(
    duration: &Text<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_str(&duration_text(duration.0))
}
