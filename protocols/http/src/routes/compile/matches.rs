//! Compiles matches.

use super::{DiagnosticScope, methods};
use crate::{
    normalize,
    routes::{
        matching::{HostTest, PathTest, RouteMatch},
        pattern,
        template::{PathTemplate, literal},
        value::ValueTest,
    },
    settings::{MatchSettings, ValueMatch},
};
use http::HeaderName;
use std::{collections::BTreeMap, sync::Arc};
use values::Diagnostic;

/// The compiled match; `None` if it has mistakes.
pub(super) fn matching(
    settings: &MatchSettings,
    place: &mut DiagnosticScope<'_>,
) -> Option<RouteMatch> {
    let before = place.mistakes.len();
    let hosts = settings.host.as_ref().map(|list| &*list.0).unwrap_or_default();
    let mut tests = Vec::new();
    for (at, text) in hosts.iter().enumerate() {
        let at = at.to_string();
        let keys: &[&str] = if hosts.len() == 1 { &["host"] } else { &["host", &at] };
        tests.extend(place.ok_or_report(keys, host(text)));
    }
    // `*` makes all other hosts irrelevant.
    let tests: Option<Vec<HostTest>> = tests.into_iter().collect();
    let path = path(settings, place);
    let methods = settings.method.as_ref();
    let methods = methods.map(|list| methods_of(list, place)).unwrap_or_default();
    let headers = values(&settings.headers, &mut place.below(&["headers"]), |name| {
        let header = name.parse::<HeaderName>().map_err(|_| {
            let hint = "letters, digits and `-`, as in `x-version`";
            Diagnostic::new(format!("`{name}` can't be a header"), hint)
        })?;
        if header == http::header::HOST {
            return Err(Diagnostic::new(
                "not every request has this header",
                "write `host` for it",
            ));
        }
        Ok(header)
    });
    let query =
        values(&settings.query, &mut place.below(&["query"]), |name| Ok(name.as_bytes().into()));
    let right = place.mistakes.len() == before;
    let hosts = tests.unwrap_or_default().into();
    right.then(|| RouteMatch { hosts, path, methods, headers: headers.into(), query: query.into() })
}

fn methods_of(
    list: &values::OneOrMore<String>,
    place: &mut DiagnosticScope<'_>,
) -> Box<[http::Method]> {
    methods(list, &mut place.below(&["method"]))
}

/// Parses a host; `None` means every host.
fn host(text: &str) -> Result<Option<HostTest>, Diagnostic> {
    if text == "*" {
        return Ok(None);
    }
    let shape = "write `shop.example.com`, `*.example.com` or `shop.*`";
    let lower = normalize::host(&text.to_ascii_lowercase()).into_owned();
    let (test, name) = if let Some(end) = lower.strip_prefix('*') {
        (HostTest::Below(end.into()), end.strip_prefix('.'))
    } else if let Some(start) = lower.strip_suffix('*') {
        (HostTest::Begins(start.into()), start.strip_suffix('.'))
    } else {
        (HostTest::Exact(normalize::written_host(&lower).into()), Some(&*lower))
    };
    let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('*')) else {
        let message = format!("`{text}` is no host: a `*` stands for whole labels at one end");
        return Err(Diagnostic::new(message, shape));
    };
    if let Some((name, port)) = name.rsplit_once(':')
        && !port.is_empty()
        && values::is_digits(port)
        && (!name.contains(':') || name.ends_with(']'))
    {
        let message = format!("`{text}` has a port, which no route looks at");
        return Err(Diagnostic::new(message, format!("leave it out: `{name}`")));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._:[]~%".contains(c));
    if name.contains(odd) {
        return Err(Diagnostic::new(format!("`{text}` is no host"), shape));
    }
    Ok(Some(test))
}

fn path(settings: &MatchSettings, place: &mut DiagnosticScope<'_>) -> PathTest {
    let MatchSettings { path, path_prefix, path_template, path_regex, .. } = settings;
    let written = [
        ("path", path),
        ("path_prefix", path_prefix),
        ("path_template", path_template),
        ("path_regex", path_regex),
    ];
    let written: Vec<_> =
        written.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))).collect();
    if let [(first, _), (second, _), ..] = written.as_slice() {
        let message = format!("`{first}` and `{second}` both say what the path is");
        place.report(&[second], message, "keep one of them");
    }
    let Some((key, text)) = written.first() else { return PathTest::Any };
    let test = match *key {
        "path" => plain(text).map(PathTest::Exact),
        "path_prefix" => plain(text).map(|it| PathTest::Prefix(it.trim_end_matches('/').into())),
        "path_template" => PathTemplate::new(text).map(PathTest::Template),
        _ => pattern::whole(text).map(|regex| {
            let names = regex.capture_names().flatten().map(Arc::from).collect();
            PathTest::Regex(regex, names)
        }),
    };
    place.ok_or_report(&[key], test).unwrap_or_default()
}

/// A path that is compared literally. A `*` in it is reported, since it is a wildcard elsewhere.
fn plain(text: &str) -> Result<Box<str>, Diagnostic> {
    if !text.contains('*') {
        return literal(text);
    }
    let before = text.strip_suffix('*').filter(|before| !before.contains('*'));
    let hint = match before.and_then(|before| before.strip_suffix('/')) {
        Some("") => "leave it out: every path is right then".to_owned(),
        Some(before) => format!("write `path_prefix: {before}`, which is for all below it too"),
        None if text == "*" => "leave it out: every path is right then".to_owned(),
        None => "write `path_template: \"/users/{id}/carts\"`, or `path_regex`".to_owned(),
    };
    let message = format!("`{text}` is compared as it stands, and no path has a `*` in it");
    Err(Diagnostic::new(message, format!("{hint}; a `*` itself is `[*]` in a `path_regex`")))
}

fn values<N>(
    settings: &BTreeMap<String, ValueMatch>,
    place: &mut DiagnosticScope<'_>,
    read: impl Fn(&str) -> Result<N, Diagnostic>,
) -> Vec<(N, ValueTest)> {
    let mut tests = Vec::new();
    for (name, settings) in settings {
        let test = place.ok_or_report(&[name], ValueTest::new(settings));
        if let (Some(name), Some(test)) = (place.ok_or_report(&[name], read(name)), test) {
            tests.push((name, test));
        }
    }
    tests
}
