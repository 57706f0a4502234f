//! The config of a replica set, whose members are found by asking them.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use values::{HostPort, Text, spanned::Spanned};

/// A replica set, whose members are found by asking them. A member that leaves its configuration is
/// drained as an endpoint that leaves its cluster is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ name: rs0, seeds: [\"db-1:27017\"] }`"
)]
#[schemars(rename = "ReplicaSet")]
pub(crate) struct ReplicaSetConfig {
    /// Its name, as in `replicaSet=` of a connection string. A member of another set is not used.
    #[schemars(required)]
    pub(crate) name: Option<Spanned<String>>,
    /// Members to ask first, `host:port`, at least one. The others are found by asking these.
    #[schemars(required)]
    pub(crate) seeds: Option<Spanned<Vec<Spanned<Text<HostPort>>>>>,
    /// Where members are dialled whose own names can't be dialled from here: the name as in the
    /// configuration of the set, and the address. Default: each by its own name.
    pub(crate) members: Option<BTreeMap<String, Spanned<Text<HostPort>>>>,
}
