//! What is right in a config and still worth a thought: told by `tollgate check` beside `ok`.

use super::plan::{ListenerPlan, Plan};

/// Each hint in a line of its own: what it is about, and what to do.
pub fn hints(plan: &Plan) -> Vec<String> {
    let mut hints = Vec::new();
    for listener in &plan.listeners {
        hints.extend(unlimited(plan, listener));
        hints.extend(more_than_all(plan, listener));
    }
    for rule in &plan.policies {
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
