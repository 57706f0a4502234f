//! Which route takes a request, and what it does with it, in words.

use super::{DryRequest, DryRunError, DryRunResult};
use crate::{
    dialect::Dialect,
    routes::{Action, AllowedUpgrades, Route},
    settings::{EditSettings, RetryCondition, RouteSettings},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use values::{OneOrMore, Size, Text, duration_text};

/// What a listener does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunReport {
    /// The operation's name.
    pub operation: String,
    /// Its resource: the route's name.
    pub resource: String,
    /// Its attributes.
    pub attributes: Vec<(&'static str, String)>,
    /// What is done, each with a word before it.
    pub actions: Vec<(&'static str, String)>,
}

impl DryRequest {
    /// What a listener does with the request. `routes` are the settings of its routes; without a
    /// `peer` the request comes from this machine.
    ///
    /// # Errors
    /// Why the request would not be forwarded.
    pub fn report(
        &self,
        dialect: &dyn Dialect,
        routes: &[RouteSettings],
        peer: Option<IpAddr>,
    ) -> Result<DryRunReport, DryRunError> {
        let peer = SocketAddr::new(peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0);
        let found = self.run(dialect, peer)?;
        let route = &found.routed.route;
        let written = routes.iter().find(|written| **written.name.text() == *route.name);
        Ok(DryRunReport {
            attributes: attributes(&found),
            actions: actions(&found, route, written),
            resource: route.name.to_string(),
            operation: found.name,
        })
    }
}

fn attributes(found: &DryRunResult) -> Vec<(&'static str, String)> {
    let mut attributes = vec![("path", found.head.uri.path().to_owned())];
    if !found.host.is_empty() {
        attributes.push(("host", found.host.to_string()));
    }
    if let Some(query) = found.head.uri.query() {
        attributes.push(("query", query.to_owned()));
    }
    let agent = found.head.headers.get(http::header::USER_AGENT);
    if let Some(agent) = agent.and_then(|it| it.to_str().ok()) {
        attributes.push(("user_agent", agent.to_owned()));
    }
    attributes
}

fn actions(
    found: &DryRunResult,
    route: &Route,
    written: Option<&RouteSettings>,
) -> Vec<(&'static str, String)> {
    let mut actions = vec![("route", route.name.to_string())];
    match &route.action {
        Action::Forward(targets) => {
            let shares = targets.shares();
            let share = |share: f64| (share * 1000.0).round() / 10.0;
            let clusters: Vec<String> = match shares.as_slice() {
                [(one, _)] => vec![one.to_string()],
                several => {
                    several.iter().map(|(name, it)| format!("{name} {} %", share(*it))).collect()
                }
            };
            actions.push(("cluster", clusters.join(", ")));
        }
        Action::Redirect(_) => {
            let location = found.location.as_deref().unwrap_or("a path that is none: 400");
            actions.push(("redirect", format!("to {location}")));
        }
        Action::Reply(fixed) => {
            actions.push(("reply", format!("{}, by the proxy itself", fixed.status().as_u16())));
        }
    }
    if !matches!(route.action, Action::Forward(_)) {
        actions.extend(edits(written.and_then(|it| it.response_headers.as_ref())).map(answer));
        return actions;
    }
    if found.sent.uri.path() != found.head.uri.path() {
        let (old, new) = (found.head.uri.path(), found.sent.uri.path());
        actions.push(("path", format!("{old} becomes {new}")));
    }
    if let Some(host) = route.host() {
        actions.push(("host", format!("becomes {}", String::from_utf8_lossy(host.as_bytes()))));
    }
    actions.extend(
        edits(written.and_then(|it| it.request_headers.as_ref())).map(|it| ("request headers", it)),
    );
    actions.extend(edits(written.and_then(|it| it.response_headers.as_ref())).map(answer));
    actions.push(("time-outs", timeouts(found, route)));
    if let Some(retry) = &route.retry {
        let on = written.and_then(|it| it.retry.as_ref()).map(|it| &it.on);
        let each = retry.per_try_timeout;
        let each = each.map_or(String::new(), |it| format!(", each within {}", duration_text(it)));
        actions.push(("retries", format!("{} more on {}{each}", retry.attempts, conditions(on))));
    }
    if let Some(mirror) = &route.mirror {
        let share = (mirror.share * 1000.0).round() / 10.0;
        actions.push(("mirror", format!("a copy of {share} % to {}", mirror.cluster)));
    }
    if let Some(after) = route.hedge {
        actions
            .push(("hedge", format!("a second endpoint is asked after {}", duration_text(after))));
    }
    match &route.upgrade {
        AllowedUpgrades::None => {}
        AllowedUpgrades::All => actions.push(("upgrade", "to whatever clients like".to_owned())),
        AllowedUpgrades::Only(list) => actions.push(("upgrade", format!("to {}", list.join(", ")))),
    }
    if let Some(most) = route.max_request_body {
        actions.push(("request body", format!("at most {}", Size(most).text())));
    }
    actions
}

fn answer(text: String) -> (&'static str, String) {
    ("answer headers", text)
}

/// What is done to headers, as it was written.
fn edits(written: Option<&EditSettings>) -> Option<String> {
    let EditSettings { set, add, remove } = written?;
    let removed = remove.iter().map(|name| format!("without {name}"));
    let set = set.iter().map(|(name, value)| format!("{name}: {value}"));
    let added = add.iter().map(|(name, value)| format!("one more {name}: {value}"));
    let all: Vec<String> = removed.chain(set).chain(added).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn timeouts(found: &DryRunResult, route: &Route) -> String {
    let text = |what: &str, limit: Option<Duration>| {
        limit.map_or(format!("no limit {what}"), |it| format!("{} {what}", duration_text(it)))
    };
    let mut all = vec![
        text("until the answer begins", route.timeout),
        text("until it ends", route.total_timeout),
        text("without a byte", route.idle_timeout),
    ];
    if let Some(patience) = found.routed.client_timeout {
        all.push(format!("{} as the client says", duration_text(patience)));
    }
    all.join(", ")
}

fn conditions(on: Option<&OneOrMore<Text<RetryCondition>>>) -> String {
    let Some(OneOrMore(on)) = on else { return String::new() };
    let words = on.iter().map(|condition| match serde_json::to_value(condition) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    });
    words.collect::<Vec<_>>().join(", ")
}
