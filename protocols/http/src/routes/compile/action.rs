//! What is done with a request.

use super::{
    DiagnosticScope,
    edits::header,
    rewrites::{bare_host, new_path},
};
use crate::{
    normalize,
    routes::{
        Action,
        direct_response::{DirectResponse, Redirect},
        matching::{HostTest, PathTest, RouteMatch},
        targets::WeightedClusters,
    },
    settings::{RedirectSettings, ReplySettings, RouteSettings, WeightedSettings},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use values::Diagnostic;

/// Largest body of a fixed reply, in bytes.
const LONGEST: usize = 64 << 10;

pub(super) fn action(
    settings: &RouteSettings,
    matching: &RouteMatch,
    place: &mut DiagnosticScope<'_>,
) -> Option<Action> {
    let RouteSettings { cluster, clusters, redirect, reply, .. } = settings;
    let ways = [
        ("cluster", cluster.is_some()),
        ("clusters", clusters.is_some()),
        ("redirect", redirect.is_some()),
        ("reply", reply.is_some()),
    ];
    let ways: Vec<_> = ways.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
    let name = settings.name.text();
    match ways.as_slice() {
        [] => {
            let message = format!("the route `{name}` leads nowhere");
            place.report(&[], message, "write `cluster`, `clusters`, `redirect` or `reply`");
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("the route `{name}` has two ends: `{first}` and `{second}`");
            place.report(&[second], message, "keep one of them");
        }
    }
    if redirect.is_some() || reply.is_some() {
        check_unused(settings, place);
    }
    if let Some(cluster) = cluster {
        return Some(Action::Forward(WeightedClusters::one(cluster)));
    }
    if let Some(clusters) = clusters {
        return weighted(clusters, place).map(Action::Forward);
    }
    if let Some(redirect) = redirect {
        let place = &mut place.below(&["redirect"]);
        return self::redirect(redirect, matching, place).map(Action::Redirect);
    }
    let reply = reply.as_ref()?;
    self::reply(reply, &mut place.below(&["reply"])).map(Action::Reply)
}

/// Reports keys without effect on routes without service.
fn check_unused(settings: &RouteSettings, place: &mut DiagnosticScope<'_>) {
    for (key, is) in [
        ("timeout", settings.timeout.is_some()),
        ("total_timeout", settings.total_timeout.is_some()),
        ("retry", settings.retry.is_some()),
        ("mirror", settings.mirror.is_some()),
        ("hedge", settings.hedge.is_some()),
        ("rewrite", settings.rewrite.is_some()),
        ("request_headers", settings.request_headers.is_some()),
        ("upgrade", settings.upgrade.is_some()),
        ("connect", settings.connect.is_some()),
    ] {
        if is {
            let message = format!("`{key}` does nothing here: no service is asked");
            place.report(&[key], message, "leave it out");
        }
    }
}

fn weighted(
    list: &[WeightedSettings],
    place: &mut DiagnosticScope<'_>,
) -> Option<WeightedClusters> {
    let weight = |it: &WeightedSettings| it.weight.map_or(1, |weight| weight.get());
    let weights: Vec<_> = list.iter().map(|it| (it.cluster.as_str(), weight(it))).collect();
    for (at, (name, _)) in weights.iter().enumerate() {
        if weights.iter().take(at).any(|(other, _)| other == name) {
            let message = format!("`{name}` stands here for the second time");
            let keys = ["clusters", &at.to_string(), "cluster"];
            place.report(&keys, message, "add up their weights");
        }
    }
    let targets = WeightedClusters::weighted(&weights);
    if targets.is_none() {
        place.report(&["clusters"], "no cluster has any weight", "give one at least 1");
    }
    targets
}

fn redirect(
    settings: &RedirectSettings,
    matching: &RouteMatch,
    place: &mut DiagnosticScope<'_>,
) -> Option<Redirect> {
    let RedirectSettings { status, scheme, host, port, path, prefix, query } = settings;
    let status = status.map_or(301, |status| status.get());
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("{status} leads a client nowhere");
        place.report(&["status"], message, "301, 302, 303, 307 or 308");
    }
    let status = u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok())?;
    let scheme = match scheme.as_deref() {
        None => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(other) => {
            let message = format!("`{other}` is no scheme of the web");
            place.report(&["scheme"], message, "`http` or `https`");
            None
        }
    };
    if path.is_some() && prefix.is_some() {
        let message = "`path` and `prefix` both say what the path becomes";
        place.report(&["prefix"], message, "keep one of them");
    }
    let nowhere = RedirectSettings {
        status: settings.status,
        query: settings.query.filter(|keep| *keep),
        ..RedirectSettings::default()
    };
    if *settings == nowhere {
        let message = "this leads a client back to where it is";
        place.report(&[], message, "write `scheme`, `host`, `port`, `path` or `prefix`");
    }
    if leads_back(settings, matching) {
        let message = "this leads a client back to where it is, again and again";
        place.report(&[], message, "lead it to what this route does not take");
    }
    Some(Redirect {
        status,
        scheme,
        host: host.as_ref().and_then(|host| place.ok_or_report(&["host"], bare_host(host))),
        port: port.map(|port| port.get()),
        path: new_path(prefix.as_deref(), path.as_deref(), matching, place),
        query: query.unwrap_or(true),
    })
}

/// Whether a client that follows the redirect reaches the same route with the same request.
fn leads_back(settings: &RedirectSettings, matching: &RouteMatch) -> bool {
    let RedirectSettings { scheme, host, port, path, prefix, query, .. } = settings;
    let same_host = host.as_ref().is_none_or(|host| {
        let is =
            |it: &HostTest| matches!(it, HostTest::Exact(one) if one.eq_ignore_ascii_case(host));
        matches!(&*matching.hosts, [one] if is(one))
    });
    let same_path = match (path, prefix, &matching.path) {
        (Some(path), _, PathTest::Exact(exact)) => *normalize::path(path) == **exact,
        (_, Some(prefix), PathTest::Prefix(old)) => prefix.trim_end_matches('/') == &**old,
        (None, None, _) => host.is_some(),
        _ => false,
    };
    let same_query = matching.query.is_empty() || *query != Some(false);
    scheme.is_none() && port.is_none() && same_host && same_path && same_query
}

fn reply(settings: &ReplySettings, place: &mut DiagnosticScope<'_>) -> Option<DirectResponse> {
    let status = u16::try_from(settings.status.get()).ok()?;
    let status = StatusCode::from_u16(status).ok()?;
    let body = settings.body.clone().unwrap_or_default();
    if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
        place.report(&["body"], format!("a {} has no body", status.as_u16()), "leave it out");
    }
    if body.len() > LONGEST {
        place.report(&["body"], "the body is too long", "at most 64 KiB: a service can send more");
    }
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    for (name, value) in &settings.headers {
        let header = place.ok_or_report(&["headers", name], header(name));
        let value = HeaderValue::from_str(value).map_err(|_| {
            let message = format!("a header can't have the value {value:?}");
            Diagnostic::new(message, "one line, of printable ASCII characters")
        });
        if let Some((header, value)) = header.zip(place.ok_or_report(&["headers", name], value)) {
            headers.insert(header, value);
        }
    }
    Some(DirectResponse { status, headers, body: body.into() })
}
