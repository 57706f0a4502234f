//! The config of what happens to operations when an endpoint of a pool fails.

use cluster::{LostRequests, RetryableWrites};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use values::{
    OrOff, Size,
    spanned::{Opt, Spanned},
};

/// What happens to the operations of a `pool` when an endpoint fails, steps down or restarts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ hold: 15s }`")]
#[schemars(rename = "Failover")]
pub(crate) struct FailoverConfig {
    /// How long an operation waits while no endpoint fits it or can be reached, such as during an election,
    /// or `off`. Its own time limit (`maxTimeMS`) holds too. Default: `15s`.
    pub(crate) hold: Opt<OrOff<Duration>>,
    /// Send requests again that the endpoint has not done, or that do no harm when they are done twice.
    /// Default: `true`.
    pub(crate) replay: Option<Spanned<bool>>,
    /// The longest request that is sent again, at most `128KiB`. Default: `64KiB`.
    pub(crate) replay_max: Opt<Size>,
    /// Which writes can be sent again although they may have been done: `as_sent`, those that drivers send
    /// as retryable writes; or `add`, which makes all others retryable that can be. Default: `as_sent`.
    pub(crate) retryable_writes: Opt<RetryableWrites>,
    /// What a client gets whose request may have been done, and must not be sent again: `close` closes its
    /// connection, `error` answers with an error. Default: `close`.
    pub(crate) lost: Opt<LostRequests>,
    /// How long transactions and cursors stay open that a client has left behind when its connections were
    /// closed, or `off` to leave them to the server. Default: `1s`.
    pub(crate) orphan_grace: Opt<OrOff<Duration>>,
    /// How long the server may go on with a write whose client has vanished, or `off` to stop it at once.
    /// Reads are always stopped at once. Default: `1s`.
    pub(crate) cancel_grace: Opt<OrOff<Duration>>,
}
