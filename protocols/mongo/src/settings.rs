//! The settings under `protocol: { mongo: { … } }`.

mod auth;

pub(crate) use auth::DEFAULT_DATABASE;
pub use auth::{AuthSettings, AuthUser, LookupAccount};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use values::{Diagnostic, Share, Text, host_port};

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
    /// What clients of a cluster with a `pool` take the proxy for: `router`, a mongos; `primary`, a
    /// replica set of one member that is always the primary, for clients with `replicaSet=` in their URI;
    /// or `member`, the server itself, which needs a cluster without a `pool`. Default: a router with a
    /// `pool`, else a member.
    pub present_as: Option<PresentAs>,
    /// Clients log in at the proxy, which logs in at the servers as the same users, so that the clients of a
    /// user share connections. It needs a cluster with a `pool`. Default: log-ins pass through to the
    /// servers, and each client that logs in has an upstream connection of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSettings>,
    /// What clients see of `$clusterTime` and `operationTime`, by which a deployment orders its
    /// operations: `pass`, or `strip`, so that they can be moved to another deployment, which would refuse
    /// the times of the first one. `strip` needs a cluster with a `pool`. Default: `pass`.
    pub cluster_time: ClusterTime,
    /// Count commands by the shape of their query, and look for programs that query badly: see `GET
    /// /shapes` and `GET /findings` of the admin interface. Default: `true`.
    pub query_shapes: bool,
    /// A cluster that gets copies of reads after clients were answered; with `compare` the answers are
    /// compared. It needs clusters with a `pool`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSettings>,
    /// The shard key of each `database.collection`, most significant field first, for
    /// `tollgate_mongo_reads_total`. Default: `_id`.
    pub shard_keys: BTreeMap<String, Vec<String>>,
}

/// What clients see of a deployment's cluster time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`pass` or `strip`")]
pub enum ClusterTime {
    /// All of it.
    #[default]
    Pass,
    /// Nothing.
    Strip,
}

/// Which reads a second cluster gets too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "MongoMirror",
    expecting = "keys and values, such as `{ to: next, percent: 1, compare: true }`"
)]
pub struct MirrorSettings {
    /// The name of the cluster that gets them.
    pub to: String,
    /// Percentage of the reads, chosen at random. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Text<Share>>,
    /// Compare what both clusters answer. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<bool>,
}

impl MirrorSettings {
    /// The share of the reads, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.percent.map_or(1.0, |Text(percent)| percent.get() / 100.0)
    }
}

/// What clients take the proxy for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`member`, `router` or `primary`")]
pub enum PresentAs {
    /// The server itself.
    Member,
    /// A mongos.
    Router,
    /// The only member of a replica set.
    Primary,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            advertise: None,
            members: BTreeMap::new(),
            rewrite_hello: true,
            present_as: None,
            auth: None,
            cluster_time: ClusterTime::Pass,
            query_shapes: true,
            mirror: None,
            shard_keys: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Checks the settings. `pooled`: operations share connections.
    ///
    /// # Errors
    /// All mistakes in them, each with its path of keys.
    pub fn check(&self, pooled: bool) -> Result<(), Vec<Diagnostic>> {
        let mut mistakes = mistakes(self);
        mistakes.extend(self.auth.iter().flat_map(AuthSettings::mistakes));
        if self.mirror.is_some() && self.auth.is_some() {
            let message = "a `mirror` can't log in as the clients that log in at the proxy";
            let hint = "leave out `mirror` or `auth`";
            mistakes.push(Diagnostic::at(&["mirror"], message, hint));
        }
        mistakes.extend(if pooled { unpoolable(self) } else { needs_pool(self) });
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

/// What does not go with a pool.
fn unpoolable(settings: &Settings) -> Option<Diagnostic> {
    let (key, message) = match settings {
        Settings { present_as: Some(PresentAs::Member), .. } => (
            "present_as",
            "clients of a `pool` can't take the proxy for one member: their connections are not the \
             server's",
        ),
        Settings { rewrite_hello: false, .. } => {
            ("rewrite_hello", "the proxy itself answers `hello` where its cluster has a `pool`")
        }
        Settings { members, .. } if !members.is_empty() => {
            ("members", "clients see one server where the cluster has a `pool`")
        }
        _ => return None,
    };
    let hint = "leave it out, or leave out the cluster's `pool`";
    Some(Diagnostic::at(&[key], message, hint))
}

/// What needs a pool.
fn needs_pool(settings: &Settings) -> Option<Diagnostic> {
    if settings.auth.is_some() {
        let message = "clients log in at the proxy where the cluster has a `pool`";
        let hint = "add `pool: {}` to the cluster, or leave `auth` out: log-ins pass through";
        return Some(Diagnostic::at(&["auth"], message, hint));
    }
    if settings.mirror.is_some() {
        let message = "`mirror` needs a listener whose cluster has a `pool`";
        let hint = "add `pool: {}` to the cluster, or leave `mirror` out";
        return Some(Diagnostic::at(&["mirror"], message, hint));
    }
    if settings.cluster_time == ClusterTime::Strip {
        let message = "`cluster_time: strip` needs a cluster with a `pool`";
        let hint = "add `pool: {}` to the cluster, or leave `cluster_time` out";
        return Some(Diagnostic::at(&["cluster_time"], message, hint));
    }
    let other = settings.present_as.filter(|it| *it != PresentAs::Member)?;
    let word = if other == PresentAs::Router { "router" } else { "primary" };
    let message = format!("`present_as: {word}` needs a cluster with a `pool`");
    let hint = "add `pool: {}` to the cluster, or leave `present_as` out";
    Some(Diagnostic::at(&["present_as"], message, hint))
}

fn mistakes(settings: &Settings) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    let mut address = |path: &[&str], text: &str| {
        if let Err(fault) = host_port(text) {
            mistakes.push(Diagnostic::at(path, fault.message, fault.hint));
        }
    };
    if let Some(advertise) = &settings.advertise {
        address(&["advertise"], advertise);
    }
    for (member, listener) in &settings.members {
        address(&["members", member], member);
        address(&["members", member], listener);
    }
    let mut taken = BTreeMap::new();
    for (member, listener) in &settings.members {
        if let Some(other) = taken.insert(listener, member) {
            let message = format!("`{listener}` stands for two members: {other} and {member}");
            let hint = "each member needs a listener of its own";
            mistakes.push(Diagnostic::at(&["members", member], message, hint));
        }
    }
    if !settings.rewrite_hello && (settings.advertise.is_some() || !settings.members.is_empty()) {
        let message = "`rewrite_hello: false` makes `advertise` and `members` useless";
        let hint = "leave out the one or the other";
        mistakes.push(Diagnostic::at(&["rewrite_hello"], message, hint));
    }
    for (collection, key) in &settings.shard_keys {
        let path = ["shard_keys", collection];
        let named =
            collection.split_once('.').is_some_and(|(db, rest)| !db.is_empty() && !rest.is_empty());
        if !named {
            let message = format!("`{collection}` is not a `database.collection`");
            mistakes.push(Diagnostic::at(&path, message, "write `shop.orders: [customer]`"));
        }
        if key.is_empty() || key.iter().any(String::is_empty) {
            let message = format!("the shard key of `{collection}` has a field without a name");
            mistakes.push(Diagnostic::at(&path, message, "name its fields: `[customer, _id]`"));
        }
    }
    mistakes
}
