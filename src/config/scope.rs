//! What policies can be about: listeners, what those speak, and the attributes of that.

use super::plan::Plan;
use crate::protocols;
use operation::Protocol;
use std::sync::Arc;

/// Attributes that an operation has whatever its protocol.
const COMMON: [&str; 4] = ["peer", "local", "endpoint", "cluster"];

/// The listeners of a config, by name, with what each of them speaks.
#[derive(Clone, Debug)]
pub struct Scope {
    listeners: Vec<Heard>,
}

/// One listener.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) name: Arc<str>,
    /// `None` if that was written wrong.
    pub(crate) protocol: Option<&'static Protocol>,
}

impl Scope {
    /// What policies of this plan can be about.
    pub fn of(plan: &Plan) -> Self {
        let heard = plan.listeners.iter().map(|listener| {
            let protocol = Some(listener.protocol.describe());
            Heard { name: Arc::clone(&listener.name), protocol }
        });
        Self { listeners: heard.collect() }
    }

    /// What policies can be about that stand beside these listeners.
    pub(crate) fn new(listeners: Vec<Heard>) -> Self {
        Self { listeners }
    }

    /// The listeners.
    pub(crate) fn listeners(&self) -> &[Heard] {
        &self.listeners
    }

    /// The names of the listeners.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|it| &*it.name)
    }
}

/// Whether operations of a protocol have such an attribute.
pub(crate) fn has(protocol: &Protocol, attribute: &str) -> bool {
    let one_of = |known: &&str| match known.ends_with('.') {
        true => attribute.len() > known.len() && attribute.starts_with(*known),
        false => attribute == *known,
    };
    COMMON.iter().chain(protocol.attributes).any(one_of)
}

/// Whether policies can go by such an attribute of a protocol's operations.
pub(crate) fn tells(protocol: &Protocol, attribute: &str) -> bool {
    has(protocol, attribute) && !is_late(protocol, attribute)
}

/// Whether operations of a protocol have such an attribute, but not yet when policies are asked.
pub(crate) fn is_late(protocol: &Protocol, attribute: &str) -> bool {
    protocol.late.contains(&attribute)
}

/// Whether operations of some protocol have such an attribute.
pub(crate) fn is_attribute(name: &str) -> bool {
    protocols::all().into_iter().any(|protocol| has(protocol, name))
}

/// Every attribute that operations of some protocol have.
pub(crate) fn attributes() -> Vec<&'static str> {
    let own = protocols::all().into_iter().flat_map(|protocol| protocol.attributes);
    let mut all: Vec<_> = COMMON.into_iter().chain(own.copied()).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|attribute| seen.insert(*attribute));
    all
}
