//! Policies: what is decided about connections and operations, counted and logged.
//!
//! A policy is written against `operation` and holds for every protocol: this crate knows no
//! protocol and no config file. The reader of settings hands in the names of attributes
//! ([`attributes`]), and checks what depends on listeners and their protocols.
//!
//! - [`gate`]: asks the policies of one listener on one worker, and settles operations
//! - [`series`]: operations of one name on one resource, with the policies that apply to them;
//!   `cardinality` bounds their number
//! - [`live`]: the configured policies in force, replaceable while the proxy runs; `active`: the
//!   same on one worker, with the metrics that count their effects
//! - [`rule`]: a configured policy; [`matching`]: the conditions under which it applies
//! - `settings`: a policy as it is configured; `kind`, [`kinds`]: what a policy can do, a file and
//!   a row each; `key`, `over_limit`: settings that several kinds share; `source`: the settings
//!   as they were written, for changes
//! - `worker_policy`: the traits that every policy implements; `env`: what policies are built from
//! - built-in policies: `stats` counts, `query_shapes` counts by shape, `spans` traces, [`access_log`] logs, [`live_tap`]
//!   records the last operations while there is a watcher, `breaker` holds a cluster's limits

pub mod access_log;
mod active;
mod attribute_memo;
pub mod attributes;
mod bound_policies;
mod breaker;
mod cardinality;
mod env;
pub mod gate;
mod key;
mod kind;
pub mod kinds;
pub mod live;
pub mod live_tap;
pub mod matching;
mod over_limit;
mod policy_set;
mod position_set;
mod query_shapes;
pub mod rule;
pub mod series;
mod series_key;
mod settings;
mod spans;
mod stats;
#[cfg(test)]
mod testing;
mod worker_policy;

pub use active::ActivePolicy;
pub use bound_policies::BoundPolicy;
pub use breaker::{BreakerPolicy, NAME as BREAKER};
pub use env::PolicyEnv;
pub use kind::{BuiltPolicy, PolicyKind};
pub use live::Live;
pub use operation::Decision;
pub use rule::Rule;
pub use settings::PolicySettings;
pub use worker_policy::{
    ConnectDecision, ConnectionPermit, PolicyEffect, SeriesPolicy, Settled, WorkerPolicy,
};
