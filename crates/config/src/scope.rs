//! The scope of policies: listeners, their protocols, and the attributes of all protocols.

use super::plan::Plan;
use operation::Protocol;
use policy::attributes::AttributeNames;
use std::sync::Arc;

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

/// The attributes of all protocols.
pub fn attributes() -> AttributeNames<'static> {
    AttributeNames::of(protocols::all())
}
