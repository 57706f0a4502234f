//! What differs between two configs, and what that does to open connections: for operators who reload one.
//!
//! Both are compared as `/config` shows them: with all defaults, and without secrets.

use crate::plan::{ConnectionLimits, OnReload};
use protocols::Pooling;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt};

/// Longer values are cut, in characters.
const MAX_VALUE: usize = 80;

/// What differs between two configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

/// What differs in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is.
    pub object: ConfigObject,
    /// Its name; of a setting, its key.
    pub name: String,
    /// How it differs.
    pub kind: ChangeKind,
    /// What that does.
    pub effect: String,
    /// How many connections are open there, if that is known.
    pub connections: Option<usize>,
}

/// What a config consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigObject {
    /// A listener.
    Listener,
    /// A cluster.
    Cluster,
    /// A policy.
    Policy,
    /// A setting of the whole proxy.
    Setting,
}

/// How an object differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These keys differ. None: a secret differs, or the content of a file.
    Changed(Vec<KeyChange>),
    /// These keys differ, and the running process can't follow.
    NeedsRestart(Vec<KeyChange>),
}

/// A key whose values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The path of keys: `circuit_breaker.max_connections`. Empty: the object itself.
    pub key: String,
    /// The value of before; `None`: it was not set.
    pub before: Option<String>,
    /// The new value; `None`: it is not set.
    pub after: Option<String>,
}

impl ConfigObject {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigObject::Listener => "listener",
            ConfigObject::Cluster => "cluster",
            ConfigObject::Policy => "policy",
            ConfigObject::Setting => "setting",
        }
    }
}

impl Changes {
    /// What differs between two configs, in the form of [`Plan::to_json`](crate::plan::Plan::to_json).
    pub fn between(before: &Value, after: &Value) -> Self {
        let mut changes = Vec::new();
        for (object, key) in
            [(ConfigObject::Listener, "listeners"), (ConfigObject::Cluster, "clusters")]
        {
            compare_objects(object, &named(before, key), &named(after, key), &mut changes);
        }
        let policies = [before, after].map(policies);
        compare_objects(ConfigObject::Policy, &policies[0], &policies[1], &mut changes);
        changes
            .extend(reordered(policies.map(|all| all.into_iter().map(|(name, _)| name).collect())));
        settings(before, after, &mut changes);
        Self(changes)
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether nothing differs that a running process can follow.
    pub fn need_only_restart(&self) -> bool {
        self.0.iter().all(|change| matches!(change.kind, ChangeKind::NeedsRestart(_)))
    }

    /// Whether this object differs.
    pub(crate) fn has(&self, object: ConfigObject, name: &str) -> bool {
        self.0.iter().any(|change| change.object == object && change.name == name)
    }

    /// Whether a listener differs in more than the number of its connections, which is no part of its plan.
    pub(crate) fn differ_beyond_limits(&self, listener: &str) -> bool {
        self.0.iter().any(|it| {
            it.object == ConfigObject::Listener && it.name == listener && !it.is_only_of_limits()
        })
    }

    /// Adds that a secret of this object differs, or the content of a file that it names.
    pub(crate) fn add_hidden(&mut self, object: ConfigObject, name: &str) {
        if !self.has(object, name) {
            let kind = ChangeKind::Changed(Vec::new());
            let effect = effect(object, &kind, None);
            self.0.push(Change { object, name: name.to_owned(), kind, effect, connections: None });
        }
    }

    /// Adds how many connections are open, where `open` returns it for an object and its name.
    pub fn count_connections(&mut self, open: impl Fn(ConfigObject, &str) -> Option<usize>) {
        for change in &mut self.0 {
            change.connections = open(change.object, &change.name);
        }
    }

    /// An array with an object for each change.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(Change::to_json).collect()
    }
}

impl Change {
    fn is_only_of_limits(&self) -> bool {
        let ChangeKind::Changed(keys) = &self.kind else { return false };
        !keys.is_empty() && keys.iter().all(|key| ConnectionLimits::KEYS.contains(&&*key.key))
    }

    fn to_json(&self) -> Value {
        let keys = match &self.kind {
            ChangeKind::Changed(keys) | ChangeKind::NeedsRestart(keys) => keys.as_slice(),
            ChangeKind::Added | ChangeKind::Removed => &[],
        };
        let key = |it: &KeyChange| json!({ "key": it.key, "before": it.before, "after": it.after });
        json!({
            "change": match self.kind {
                ChangeKind::Added => "added",
                ChangeKind::Removed => "removed",
                ChangeKind::Changed(_) => "changed",
                ChangeKind::NeedsRestart(_) => "needs_restart",
            },
            "object": self.object.as_str(),
            "name": self.name,
            "keys": keys.iter().map(key).collect::<Value>(),
            "effect": self.effect,
            "connections": self.connections,
        })
    }
}

/// A line for each change: `~ cluster orders: connect_timeout 1s → 500ms (next connections)`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.0 {
            writeln!(f, "{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, keys) = match &self.kind {
            ChangeKind::Added => ('+', None),
            ChangeKind::Removed => ('-', None),
            ChangeKind::Changed(keys) => ('~', Some(keys)),
            ChangeKind::NeedsRestart(keys) => ('!', Some(keys)),
        };
        write!(f, "{sign} ")?;
        match self.object {
            ConfigObject::Setting => f.write_str(&self.name)?,
            object => write!(f, "{} {}", object.as_str(), self.name)?,
        }
        if let Some(keys) = keys {
            let separator = if self.object == ConfigObject::Setting { " " } else { ": " };
            let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
            let keys = match keys.as_slice() {
                [] => NOT_SHOWN.to_owned(),
                keys => keys.join(", "),
            };
            write!(f, "{separator}{keys}")?;
        }
        let open = match self.connections {
            None | Some(0) => String::new(),
            Some(1) => "1 open connection: ".to_owned(),
            Some(open) => format!("{open} open connections: "),
        };
        write!(f, " ({open}{})", self.effect)
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.as_deref().unwrap_or("(none)").to_owned();
        let gap = if self.key.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{} → {}", self.key, value(&self.before), value(&self.after))
    }
}

/// What is said of an object whose shown values are the same.
const NOT_SHOWN: &str = "a secret, a file that it names, or how it is written";

type Named<'v> = Vec<(&'v str, &'v Value)>;

/// The objects under a key, by their names.
fn named<'v>(config: &'v Value, key: &str) -> Named<'v> {
    let objects = config.get(key).and_then(Value::as_object).into_iter().flatten();
    objects.map(|(name, object)| (name.as_str(), object)).collect()
}

/// The policies, by their names, in order.
fn policies(config: &Value) -> Named<'_> {
    let list = config.get("policies").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|policy| Some((policy.get("name")?.as_str()?, policy))).collect()
}

fn compare_objects(
    object: ConfigObject,
    before: &Named<'_>,
    after: &Named<'_>,
    to: &mut Vec<Change>,
) {
    let add = |name: &str, kind: ChangeKind, now: Option<&Value>| {
        let effect = effect(object, &kind, now);
        Change { object, name: name.to_owned(), kind, effect, connections: None }
    };
    for (name, now) in after {
        match before.iter().find(|(known, _)| known == name) {
            None => to.push(add(name, ChangeKind::Added, Some(now))),
            Some((_, was)) if was == now => {}
            Some((_, was)) => {
                let mut keys = Vec::new();
                compare_values("", Some(was), Some(now), &mut keys);
                to.push(add(name, ChangeKind::Changed(keys), Some(now)));
            }
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.iter().any(|(known, _)| known == name));
    to.extend(gone.map(|(name, _)| add(name, ChangeKind::Removed, None)));
}

/// The change of the policies' order, if those of both configs come in another one.
fn reordered([before, after]: [Vec<&str>; 2]) -> Option<Change> {
    fn common<'n>(names: &[&'n str], others: &[&str]) -> Vec<&'n str> {
        names.iter().copied().filter(|name| others.contains(name)).collect()
    }
    let (was, now) = (common(&before, &after), common(&after, &before));
    let value = |names: Vec<&str>| Some(cut(names.join(", ")));
    (was != now).then(|| {
        let key = KeyChange { key: "order".to_owned(), before: value(was), after: value(now) };
        let kind = ChangeKind::Changed(vec![key]);
        let (object, name) = (ConfigObject::Setting, "policies".to_owned());
        Change { object, name, kind, effect: AT_ONCE.to_owned(), connections: None }
    })
}

/// Compares the settings of the whole proxy.
fn settings(before: &Value, after: &Value, to: &mut Vec<Change>) {
    let none = Map::new();
    let [before, after] = [before, after].map(|it| it.as_object().unwrap_or(&none));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let objects = ["listeners", "clusters", "policies"];
    for key in keys.into_iter().filter(|key| !objects.contains(&key.as_str())) {
        let mut keys = Vec::new();
        compare_values("", before.get(key), after.get(key), &mut keys);
        if keys.is_empty() {
            continue;
        }
        let (kind, effect) = match key.as_str() {
            "workers" | "admin" | "upgrade_socket" => (ChangeKind::NeedsRestart(keys), RESTART),
            "max_connections" => (ChangeKind::Changed(keys), NEXT_CONNECTIONS),
            "drain" | "drain_timeout" | "drain_spread" => (ChangeKind::Changed(keys), "next drain"),
            _ => (ChangeKind::Changed(keys), AT_ONCE),
        };
        let object = ConfigObject::Setting;
        to.push(Change {
            object,
            name: key.clone(),
            kind,
            effect: effect.into(),
            connections: None,
        });
    }
}

/// Collects the keys below `path` whose values differ.
fn compare_values(
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    to: &mut Vec<KeyChange>,
) {
    if before == after {
        return;
    }
    if let (Some(Value::Object(was)), Some(Value::Object(now))) = (before, after) {
        let keys: BTreeSet<_> = was.keys().chain(now.keys()).collect();
        for key in keys {
            let dot = if path.is_empty() { "" } else { "." };
            compare_values(&format!("{path}{dot}{key}"), was.get(key), now.get(key), to);
        }
        return;
    }
    to.push(KeyChange { key: path.to_owned(), before: before.map(shown), after: after.map(shown) });
}

fn shown(value: &Value) -> String {
    cut(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const AT_ONCE: &str = "at once";
const NEXT_CONNECTIONS: &str = "next connections";
const RESTART: &str = "after a restart or an upgrade";

/// What a change does. `now` is the object as it will be.
fn effect(object: ConfigObject, kind: &ChangeKind, now: Option<&Value>) -> String {
    let words = match (object, kind) {
        (_, ChangeKind::NeedsRestart(_)) => RESTART,
        (ConfigObject::Setting | ConfigObject::Policy, ChangeKind::Added | ChangeKind::Removed) => {
            AT_ONCE
        }
        (ConfigObject::Setting, ChangeKind::Changed(_)) => AT_ONCE,
        (ConfigObject::Policy, ChangeKind::Changed(keys)) => policy_effect(keys),
        (ConfigObject::Listener, ChangeKind::Added) => "begins to accept",
        (ConfigObject::Cluster, ChangeKind::Added) => AT_ONCE,
        (ConfigObject::Listener, ChangeKind::Removed) => {
            "accepts no more, and its connections close when they are idle"
        }
        (ConfigObject::Cluster, ChangeKind::Removed) => "its connections drain",
        (ConfigObject::Listener, ChangeKind::Changed(keys)) => listener_effect(keys, now),
        (ConfigObject::Cluster, ChangeKind::Changed(keys)) => return cluster_effect(keys),
    };
    words.to_owned()
}

/// What a policy keeps in mind belongs to what it does, and not to what it matches.
fn policy_effect(keys: &[KeyChange]) -> &'static str {
    let rest = ["enabled", "dry_run"];
    let is_rest = |it: &KeyChange| rest.contains(&&*it.key) || first(&it.key) == "match";
    match !keys.is_empty() && keys.iter().all(is_rest) {
        true => "at once, and it keeps its state",
        false => "at once, and its state begins anew",
    }
}

fn listener_effect(keys: &[KeyChange], now: Option<&Value>) -> &'static str {
    if keys.iter().all(|it| ConnectionLimits::KEYS.contains(&&*it.key)) && !keys.is_empty() {
        return NEXT_CONNECTIONS;
    }
    let rests = now.and_then(|now| now.get(OnReload::KEY)).is_some_and(|it| it == "rest");
    match keys.iter().any(|it| it.key == "address") {
        true => {
            "next connections at the new address; those at the old one close when they are idle"
        }
        false if rests => "next connections; open ones close when they are idle",
        false => "next connections; open ones end as they began",
    }
}

fn cluster_effect(keys: &[KeyChange]) -> String {
    let words = |it: &KeyChange| match first(&it.key) {
        "endpoints" | "endpoints_file" | "replica_set" => "endpoints that leave drain",
        "tls" | "proxy_protocol" | Pooling::KEY => "shared connections close when idle",
        "health_check" | "outlier_detection" | "circuit_breaker" | "lb_policy" | "slow_start"
        | "pool" | "failover" | "dns" => AT_ONCE,
        _ => NEXT_CONNECTIONS,
    };
    let all: BTreeSet<_> = keys.iter().map(words).collect();
    match all.is_empty() {
        true => AT_ONCE.to_owned(),
        false => all.into_iter().collect::<Vec<_>>().join("; "),
    }
}

/// The first key of a path.
fn first(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
