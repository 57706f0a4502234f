//! The scope of policies: listeners, their protocols, and the attributes of these.

use super::plan::Plan;
use crate::protocols;
use operation::Protocol;
use std::{borrow::Cow, sync::Arc};

/// Attributes of operations of every protocol.
const COMMON: [&str; 4] = ["peer", "local", "endpoint", "cluster"];

/// The listeners of a config, by name, with their protocols.
#[derive(Clone, Debug)]
pub struct Scope {
    listeners: Vec<ListenerScope>,
}

/// One listener.
#[derive(Clone, Debug)]
pub(crate) struct ListenerScope {
    pub(crate) name: Arc<str>,
    /// `None` if the protocol was invalid.
    pub(crate) protocol: Option<&'static Protocol>,
    /// The names of its routes, if known.
    pub(crate) resources: Option<Vec<Arc<str>>>,
}

impl Scope {
    /// The scope of policies in this plan.
    pub fn of(plan: &Plan) -> Self {
        let scopes = plan.listeners.iter().map(|listener| {
            let protocol = Some(listener.protocol.describe());
            let resources = listener.protocol.routes();
            ListenerScope { name: Arc::clone(&listener.name), protocol, resources }
        });
        Self { listeners: scopes.collect() }
    }

    /// The scope of policies beside these listeners.
    pub(crate) fn new(listeners: Vec<ListenerScope>) -> Self {
        Self { listeners }
    }

    /// The listeners.
    pub(crate) fn listeners(&self) -> &[ListenerScope] {
        &self.listeners
    }

    /// The names of the listeners.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|it| &*it.name)
    }
}

/// Whether operations of a protocol have such an attribute.
pub(crate) fn has_attribute(protocol: &Protocol, attribute: &str) -> bool {
    // Names of headers are case-insensitive (RFC 9110, section 5.1).
    let one_of = |known: &&str| match known.ends_with('.') {
        true => attribute.strip_prefix(*known).is_some_and(|rest| !rest.is_empty()),
        false => attribute == *known,
    };
    COMMON.iter().chain(protocol.attributes).any(one_of)
}

/// Whether policies can match this attribute of a protocol's operations.
pub(crate) fn is_matchable(protocol: &Protocol, attribute: &str) -> bool {
    has_attribute(protocol, attribute) && !is_late(protocol, attribute)
}

/// Whether operations of a protocol have this attribute, but only after policies decide.
pub(crate) fn is_late(protocol: &Protocol, attribute: &str) -> bool {
    protocol.log_only.contains(&attribute)
}

/// Whether operations of any protocol have this attribute.
pub(crate) fn is_attribute(name: &str) -> bool {
    protocols::all().into_iter().any(|protocol| has_attribute(protocol, name))
}

/// Names of attributes in other software, and their names here.
const ALIASES: [(&str, &str); 19] = [
    ("action", "operation"),
    ("application", "app"),
    ("appname", "app"),
    ("client_ip", "peer"),
    ("cmd", "operation"),
    ("command", "operation"),
    ("db", "database"),
    ("ip", "peer"),
    ("method", "operation"),
    ("namespace", "resource"),
    ("ns", "resource"),
    ("op", "operation"),
    ("remote_ip", "peer"),
    ("route", "resource"),
    ("source", "peer"),
    ("source_ip", "peer"),
    ("url", "path"),
    ("uri", "path"),
    ("username", "user"),
];

/// `, did you mean …?` if a known word is similar to this one or its alias.
pub(crate) fn suggest(word: &str, known: &[&str]) -> String {
    let lower = word.to_ascii_lowercase();
    let otherwise = ALIASES.iter().find(|(other, _)| *other == lower).map(|(_, name)| *name);
    let own = otherwise.filter(|name| known.contains(name));
    let own = own.or_else(|| (word != lower && is_attribute(&lower)).then_some(&*lower));
    match own {
        Some(own) => format!(", did you mean `{own}`?"),
        None => values::did_you_mean(values::nearest(word, known.iter().copied())),
    }
}

/// The attribute's name; those of headers are in lower case.
pub(crate) fn normalize(attribute: &str) -> Cow<'_, str> {
    let capital = |c: char| c.is_ascii_uppercase();
    match attribute.split_once('.') {
        Some((_, rest)) if rest.contains(capital) => attribute.to_ascii_lowercase().into(),
        _ => attribute.into(),
    }
}

/// All attributes of all protocols.
pub(crate) fn attributes() -> Vec<&'static str> {
    let own = protocols::all().into_iter().flat_map(|protocol| protocol.attributes);
    let mut all: Vec<_> = COMMON.into_iter().chain(own.copied()).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|attribute| seen.insert(*attribute));
    all
}
