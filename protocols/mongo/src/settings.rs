//! The settings under `protocol: { mongo: { … } }`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a MongoDB listener presents itself and what it distinguishes. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address that clients should dial, `host:port`, put in place of the members' own in
    /// every `hello` reply. Default: the address at which each client reached the listener.
    pub advertise: Option<String>,
    /// For a replica set with a listener for each member: the member's own `host:port`, and the
    /// `host:port` of the listener before it. Members that are not named here are hidden.
    pub members: BTreeMap<String, String>,
    /// Rewrite `hello` replies so that drivers stay on the proxy. With `false` drivers learn the
    /// members' own addresses, and dial those. Default: `true`.
    pub rewrite_hello: bool,
    /// The shard key of each `database.collection`, most significant field first, for
    /// `tollgate_mongo_reads_total`. Default: `_id`.
    pub shard_keys: BTreeMap<String, Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            advertise: None,
            members: BTreeMap::new(),
            rewrite_hello: true,
            shard_keys: BTreeMap::new(),
        }
    }
}
