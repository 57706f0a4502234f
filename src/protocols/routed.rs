//! Which route takes a request, and what it does with it, in words: for `check --explain`.

use super::Protocol;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tollgate_http::{
    Action, AllowedUpgrades, Dialect, EditSettings, Route, RouteSettings,
    dry_run::{DryRequest, DryRunError, DryRunResult},
};
use values::{OneOrMore, Size, Text, duration_text};

/// What a listener does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    /// What the operation is called.
    pub(crate) operation: String,
    /// What it is about: the route's name.
    pub(crate) resource: String,
    /// Attributes that come with it.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// What is done, each with a word before it.
    pub(crate) told: Vec<(&'static str, String)>,
}

/// Whether a protocol's operations are requests that have a target.
pub(crate) fn has_targets(protocol: &operation::Protocol) -> bool {
    [tollgate_http::PROTOCOL.name, grpc::Grpc::PROTOCOL.name].contains(&protocol.name)
}

/// A request of a protocol: a call of gRPC where nothing else is said.
pub(crate) fn question(
    protocol: &operation::Protocol,
    method: &str,
    target: &str,
    headers: Vec<(String, String)>,
) -> DryRequest {
    let is_grpc = protocol.name == grpc::Grpc::PROTOCOL.name;
    let mut headers = headers;
    let mut http2 = false;
    if is_grpc && !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
        http2 = true;
    }
    DryRequest { method: method.to_owned(), target: target.to_owned(), headers, http2 }
}

/// What this listener does with a request; `None` if its protocol has no such requests.
pub(crate) fn routed(
    protocol: &Protocol,
    asked: &DryRequest,
    peer: Option<IpAddr>,
) -> Option<Result<Routed, DryRunError>> {
    let peer = SocketAddr::new(peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0);
    let (dialect, routes): (&dyn Dialect, &[RouteSettings]) = match protocol {
        Protocol::Tcp(_) | Protocol::Mongo(_) => return None,
        Protocol::Http(listener) => (&*listener.http, &listener.settings.routes),
        Protocol::Grpc(listener) => (&*listener.grpc, &listener.settings.routes),
    };
    Some(asked.run(dialect, peer).map(|found| {
        let route = &found.routed.route;
        let written = routes.iter().find(|written| **written.name.text() == *route.name);
        Routed {
            facts: facts(&found),
            told: told(&found, route, written),
            resource: route.name.to_string(),
            operation: found.name,
        }
    }))
}

fn facts(found: &DryRunResult) -> Vec<(&'static str, String)> {
    let mut facts = vec![("path", found.head.uri.path().to_owned())];
    if !found.host.is_empty() {
        facts.push(("host", found.host.to_string()));
    }
    if let Some(query) = found.head.uri.query() {
        facts.push(("query", query.to_owned()));
    }
    let agent = found.head.headers.get(http::header::USER_AGENT);
    if let Some(agent) = agent.and_then(|it| it.to_str().ok()) {
        facts.push(("user_agent", agent.to_owned()));
    }
    facts
}

fn told(
    found: &DryRunResult,
    route: &Route,
    written: Option<&RouteSettings>,
) -> Vec<(&'static str, String)> {
    let mut told = vec![("route", route.name.to_string())];
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
            told.push(("cluster", clusters.join(", ")));
        }
        Action::Redirect(_) => {
            let location = found.location.as_deref().unwrap_or("a path that is none: 400");
            told.push(("redirect", format!("to {location}")));
        }
        Action::Reply(fixed) => {
            told.push(("reply", format!("{}, by the proxy itself", fixed.status().as_u16())));
        }
    }
    if !matches!(route.action, Action::Forward(_)) {
        told.extend(edits(written.and_then(|it| it.response_headers.as_ref())).map(answer));
        return told;
    }
    if found.sent.uri.path() != found.head.uri.path() {
        let (old, new) = (found.head.uri.path(), found.sent.uri.path());
        told.push(("path", format!("{old} becomes {new}")));
    }
    if let Some(host) = route.host() {
        told.push(("host", format!("becomes {}", String::from_utf8_lossy(host.as_bytes()))));
    }
    told.extend(
        edits(written.and_then(|it| it.request_headers.as_ref())).map(|it| ("request headers", it)),
    );
    told.extend(edits(written.and_then(|it| it.response_headers.as_ref())).map(answer));
    told.push(("time-outs", timeouts(found, route)));
    if let Some(retry) = &route.retry {
        let on = written.and_then(|it| it.retry.as_ref()).map(|it| &it.on);
        let each = retry.per_try_timeout;
        let each = each.map_or(String::new(), |it| format!(", each within {}", duration_text(it)));
        told.push(("retries", format!("{} more on {}{each}", retry.attempts, conditions(on))));
    }
    if let Some(mirror) = &route.mirror {
        let share = (mirror.share * 1000.0).round() / 10.0;
        told.push(("mirror", format!("a copy of {share} % to {}", mirror.cluster)));
    }
    if let Some(after) = route.hedge {
        told.push(("hedge", format!("a second endpoint is asked after {}", duration_text(after))));
    }
    match &route.upgrade {
        AllowedUpgrades::None => {}
        AllowedUpgrades::All => told.push(("upgrade", "to whatever clients like".to_owned())),
        AllowedUpgrades::Only(list) => told.push(("upgrade", format!("to {}", list.join(", ")))),
    }
    if let Some(most) = route.max_request_body {
        told.push(("request body", format!("at most {}", Size(most).text())));
    }
    told
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

fn conditions(on: Option<&OneOrMore<Text<tollgate_http::RetryCondition>>>) -> String {
    let Some(OneOrMore(on)) = on else { return String::new() };
    let words = on.iter().map(|condition| match serde_json::to_value(condition) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    });
    words.collect::<Vec<_>>().join(", ")
}
