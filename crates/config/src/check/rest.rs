//! Checks of the valid rest of a protocol's settings, so that one run finds all diagnostics.

use super::Check;
use protocols::ProtocolSettings;
use values::{Node, Span, Value, spanned::Spanned};

impl Check<'_> {
    /// Reports unknown clusters and unreachable routes. `rest` is the valid part of the settings.
    pub(super) fn rest(
        &mut self,
        listener: &str,
        rest: &dyn ProtocolSettings,
        clusters: Option<&[String]>,
    ) {
        for (path, cluster) in rest.clusters() {
            let (at, _) = self.find_rest(listener, &path);
            self.refers_to(&Spanned { at, value: Some(cluster) }, clusters);
        }
        let unsure = |at: usize| {
            let path = [rest.describe().name, "routes", &at.to_string()].map(str::to_owned);
            let (_, route) = self.find_rest(listener, &path);
            let matched = route.and_then(|route| route.child("match"));
            matched.is_some_and(|(key, value)| {
                self.is_wrong(value, key.map(|key| key.at)) || self.has_wrong(value)
            })
        };
        let errors = rest.unreachable_routes(&unsure);
        for error in errors {
            let (at, _) = self.find_rest(listener, &error.path);
            self.report.add_diagnostic(at, error);
        }
    }

    /// The span and node at a path in the valid rest of a listener's protocol. Invalid list items
    /// are not counted.
    fn find_rest(&self, listener: &str, path: &[String]) -> (Span, Option<&Node>) {
        let keys = ["listeners", listener, "protocol"];
        let mut at = self.tree.place(&keys);
        let mut node = self.tree;
        for key in keys {
            let Some((_, value)) = node.child(key) else { return (at, None) };
            node = value;
        }
        for step in path {
            let step = match (&node.value, step.parse::<usize>()) {
                (Value::List(items), Ok(wanted)) => {
                    let items = items.iter().enumerate();
                    let mut good = items.filter(|(_, item)| !self.is_wrong(item, None));
                    good.nth(wanted).map(|(index, _)| index.to_string())
                }
                _ => Some(step.clone()),
            };
            let Some((key, value)) = step.and_then(|step| node.child(&step)) else {
                return (at, None);
            };
            node = value;
            at = value.place_under(key.map(|key| key.at));
        }
        (at, Some(node))
    }

    fn is_wrong(&self, node: &Node, key: Option<Span>) -> bool {
        self.report.is_invalid(node.place_under(key))
    }

    /// Whether a part of it is invalid.
    fn has_wrong(&self, node: &Node) -> bool {
        match &node.value {
            Value::Null | Value::Word(_) | Value::Text(_) => self.is_wrong(node, None),
            Value::List(items) => {
                items.iter().any(|item| self.is_wrong(item, None) || self.has_wrong(item))
            }
            Value::Map(entries) => entries.iter().any(|(key, value)| {
                self.is_wrong(key, None)
                    || self.is_wrong(value, Some(key.at))
                    || self.has_wrong(value)
            }),
        }
    }
}
