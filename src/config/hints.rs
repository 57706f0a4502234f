//! What is right in a config and still worth a thought: told by `tollgate check` beside `ok`.

use super::plan::{ListenerPlan, Plan};
use crate::policy::Rule;

/// Each hint in a line of its own: what it is about, and what to do.
pub fn hints(plan: &Plan) -> Vec<String> {
    let mut hints = Vec::new();
    for listener in &plan.listeners {
        hints.extend(unlimited(plan, listener));
        hints.extend(more_than_all(plan, listener));
    }
    for rule in &plan.policies {
        hints.extend(leaves_unnamed(plan, rule));
        hints.extend(rule.action.hint().map(|hint| format!("policy `{}`: {hint}", rule.name)));
    }
    hints
}

/// A listener on all interfaces where nothing bounds what a client may have.
fn unlimited(plan: &Plan, listener: &ListenerPlan) -> Option<String> {
    let ListenerPlan { name, address, protocol, max_connections, .. } = listener;
    let bounded = plan.policies.iter().any(|rule| {
        let holds = rule.enabled && !rule.dry_run && rule.action.bounds_clients();
        holds && rule.matching.may_apply(name, protocol.name())
    });
    let open = address.ip().is_unspecified() && *max_connections >= plan.max_connections;
    (open && !bounded).then(|| {
        format!(
            "listener `{name}`: {address} is every interface, and nothing limits a client there: add \
             `connection_limit: {{ max: 100, key: [peer/64] }}`, or see docs/facing-strangers.md"
        )
    })
}

/// A limit of a listener that the whole proxy's makes pointless.
fn more_than_all(plan: &Plan, listener: &ListenerPlan) -> Option<String> {
    let (own, all) = (listener.max_connections, plan.max_connections);
    (own > all).then(|| {
        format!(
            "listener `{}`: it never has {own} connections, since the whole proxy has at most {all}: \
             raise the proxy's `max_connections`",
            listener.name
        )
    })
}

/// A list of operations to be denied that leaves out those that are not known by name: a service
/// may have another name for one that is in the list.
fn leaves_unnamed(plan: &Plan, rule: &Rule) -> Option<String> {
    let left_out = plan.listeners.iter().find_map(|listener| {
        let unnamed = listener.protocol.describe().unnamed;
        let applies = rule.matching.may_apply(&listener.name, listener.protocol.name());
        let left = applies && !unnamed.is_empty() && rule.matching.leaves_out(unnamed);
        left.then_some(unnamed)
    });
    let unnamed = left_out.filter(|_| rule.enabled && rule.action.kind() == "deny")?;
    Some(format!(
        "policy `{}`: operations that are not known by name are called `{unnamed}`, and pass: add \
         `{unnamed}` to `operation`, or deny all but what is allowed (`not: {{ operation: […] }}`)",
        rule.name
    ))
}
