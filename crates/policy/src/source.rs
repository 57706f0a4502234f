//! A policy as written, and its change by a partial text: a JSON merge patch (RFC 7396).

use std::fmt;
use values::{Node, Span, Value};

/// The keys and values of a policy without defaults. It may contain secrets, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicySource(Node);

impl Default for PolicySource {
    fn default() -> Self {
        Self(Node::map([]))
    }
}

impl fmt::Debug for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicySource(..)")
    }
}

impl PolicySource {
    /// The source of this node.
    pub fn of(written: &Node) -> Self {
        Self(without_spans(written))
    }

    /// Whether both have the same value of this key.
    pub(crate) fn has_same_value(&self, key: &str, other: &PolicySource) -> bool {
        self.value(key) == other.value(key)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.0.child(key).map(|(_, node)| &node.value)
    }

    /// The policy with `change` applied. Keys that `change` does not have stay; keys with an empty
    /// value are removed. A policy has one of `kinds`, so that a new one replaces the old one.
    pub fn merged(&self, change: &Node, kinds: &[&str]) -> Node {
        let acts = |node: &Node, key: &str| {
            node.child(key).is_some_and(|(_, value)| value.value != Value::Null)
        };
        let new = kinds.iter().find(|key| acts(change, key));
        let own = kinds.iter().find(|key| acts(&self.0, key));
        match (own, new) {
            (Some(own), Some(new)) if own != new => merged(&self.0.clone().without(own), change),
            _ => merged(&self.0, change),
        }
    }
}

/// Merges maps key by key. What comes from `change` keeps its span, for error messages.
fn merged(known: &Node, change: &Node) -> Node {
    let (Value::Map(kept), Value::Map(changes)) = (&known.value, &change.value) else {
        return change.clone();
    };
    let mut entries = Vec::new();
    for (key, value) in kept {
        match changes.iter().find(|(name, _)| name.as_text() == key.as_text()) {
            None => entries.push((key.clone(), value.clone())),
            Some((_, Node { value: Value::Null, .. })) => {}
            Some((name, change)) => entries.push((name.clone(), merged(value, change))),
        }
    }
    // A repeated key is an error: the second one is kept so that it is reported.
    let mut placed: Vec<&str> = kept.iter().map(|(key, _)| key.as_text()).collect();
    for (name, value) in changes {
        if let Some(place) = placed.iter().position(|key| *key == name.as_text()) {
            placed.swap_remove(place);
        } else if value.value != Value::Null {
            entries.push((name.clone(), value.clone()));
        }
    }
    Node { at: change.at, value: Value::Map(entries) }
}

/// The same without spans: they refer to another text.
fn without_spans(node: &Node) -> Node {
    let value = match &node.value {
        Value::Map(entries) => Value::Map(
            entries.iter().map(|(key, value)| (without_spans(key), without_spans(value))).collect(),
        ),
        Value::List(items) => Value::List(items.iter().map(without_spans).collect()),
        value => value.clone(),
    };
    Node { at: Span::NOWHERE, value }
}
