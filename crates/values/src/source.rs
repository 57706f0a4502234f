//! An object of a config as written, and its change by a partial text: a JSON merge patch (RFC 7396).

use crate::{FilesRead, Node, Span, Value};
use std::fmt;

/// What a listener, a cluster or a policy is made of: its keys and values without defaults, and the
/// files that they name. Two are equal if nothing that is written for the object differs. It may
/// contain secrets, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectSource {
    written: Node,
    files: FilesRead,
}

impl Default for ObjectSource {
    fn default() -> Self {
        Self { written: Node::map([]), files: FilesRead::default() }
    }
}

impl fmt::Debug for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectSource(..)")
    }
}

impl ObjectSource {
    /// The source of an object that is written so and reads these files.
    pub fn new(written: &Node, files: FilesRead) -> Self {
        Self { written: without_spans(written), files }
    }

    /// Whether both have the same value of this key, and the same files.
    pub fn has_same_value(&self, key: &str, other: &ObjectSource) -> bool {
        self.value(key) == other.value(key) && self.files == other.files
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.written.child(key).map(|(_, node)| &node.value)
    }

    /// The object with `change` applied. Keys that `change` does not have stay; keys with an empty
    /// value are removed. The object has one of `kinds`, so that a new one replaces the old one.
    pub fn merged(&self, change: &Node, kinds: &[&str]) -> Node {
        let acts = |node: &Node, key: &str| {
            node.child(key).is_some_and(|(_, value)| value.value != Value::Null)
        };
        let new = kinds.iter().find(|key| acts(change, key));
        let own = kinds.iter().find(|key| acts(&self.written, key));
        match (own, new) {
            (Some(own), Some(new)) if own != new => {
                merged(&self.written.clone().without(own), change)
            }
            _ => merged(&self.written, change),
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
