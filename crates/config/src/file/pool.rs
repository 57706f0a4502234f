//! The config of connections that operations share.

use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use values::{
    Count, InRange, Limit, OrOff,
    spanned::{Opt, Spanned},
};

/// Connections that the operations of all clients share. Workers share the limits out
/// evenly, and each has at least one connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max_pool_size: 100 }`")]
#[schemars(rename = "Pool")]
pub(crate) struct PoolConfig {
    /// The most connections to each endpoint that operations use or that are idle. Default: 100.
    pub(crate) max_pool_size: Opt<Count>,
    /// How many connections to each endpoint are kept open. Default: 0.
    pub(crate) min_pool_size: Opt<Limit>,
    /// How long a connection may be idle. Default: `10m`.
    pub(crate) max_idle_time: Opt<Duration>,
    /// How old a connection may get, or `off`. Default: `1h`.
    pub(crate) max_lifetime: Opt<OrOff<Duration>>,
    /// The most connections to each endpoint that each worker opens at the same time. Default: 2.
    pub(crate) max_connecting: Opt<InRange<1, 100>>,
    /// The most connections to each endpoint for operations that wait for news, such as change streams:
    /// they leave those of `max_pool_size` to others. Default: 100.
    pub(crate) max_awaiting: Opt<Count>,
    /// How operations that wait take turns: `connection`, in the order in which they came; or `peer`, `app`,
    /// `user`, one of each value in turn. Default: `connection`.
    pub(crate) fair_by: Option<Spanned<String>>,
    /// Give each application connections of its own, which introduce themselves by its name; the limits
    /// hold for each. Default: `false`.
    pub(crate) by_app: Option<Spanned<bool>>,
    /// How long an operation may wait for a connection. Default: `10s`.
    pub(crate) wait_queue_timeout: Opt<Duration>,
    /// The most operations that wait for a connection to each endpoint. Default: 10000.
    pub(crate) wait_queue_size: Opt<Count>,
}
