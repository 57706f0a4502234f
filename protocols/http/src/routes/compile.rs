//! Compiles route settings, and reports all mistakes in them.

mod action;
mod edits;
mod matches;
mod rewrites;

use super::{
    AllowedUpgrades, Defaults, Mirror, Route,
    matching::{PathTest, RouteMatch},
    retry::RetryPolicy,
};
use crate::settings::{
    CorsSettings, MatchSettings, MirrorSettings, RetrySettings, RouteSettings, UpgradeSettings,
};
use crate::{cors::Cors, mirror::DEFAULT_MAX_BODY};
use http::Method;
use std::{sync::Arc, time::Duration};
use values::{Diagnostic, OneOrMore, Size, Text};

/// Largest `max_body` of retries and mirrors.
const MAX_BODY_KEPT: u64 = 16 << 20;

/// A position in the config, and the list that mistakes are added to.
pub(super) struct DiagnosticScope<'a> {
    keys: Vec<String>,
    mistakes: &'a mut Vec<Diagnostic>,
}

impl DiagnosticScope<'_> {
    /// The position at these keys below.
    fn below(&mut self, keys: &[&str]) -> DiagnosticScope<'_> {
        let keys = self.keys.iter().cloned().chain(keys.iter().map(|&key| key.to_owned()));
        DiagnosticScope { keys: keys.collect(), mistakes: self.mistakes }
    }

    /// Reports an error of the value at these keys.
    fn report_error(&mut self, keys: &[&str], error: Diagnostic) {
        let DiagnosticScope { keys, mistakes } = self.below(keys);
        mistakes.push(error.below(&keys));
    }

    fn report(&mut self, keys: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        self.report_error(keys, Diagnostic::new(message, hint));
    }

    /// The value, or `None` after reporting the error.
    fn ok_or_report<T>(&mut self, keys: &[&str], result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|error| self.report_error(keys, error)).ok()
    }
}

/// All routes, or all mistakes.
pub(super) fn routes(
    settings: &[RouteSettings],
    defaults: Defaults,
) -> Result<Vec<Arc<Route>>, Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let mut list = Vec::new();
    for (at, settings) in settings.iter().enumerate() {
        let keys = vec!["routes".to_owned(), at.to_string()];
        list.extend(route(
            settings,
            defaults,
            &mut DiagnosticScope { keys, mistakes: &mut mistakes },
        ));
    }
    mistakes.extend(unreachable_routes(settings, &|_| false));
    if mistakes.is_empty() { Ok(list.into_iter().map(Arc::new).collect()) } else { Err(mistakes) }
}

/// Reports duplicate names and unreachable routes; paths begin at `routes`. The matches of routes
/// for which `unsure` is true are unknown.
pub fn unreachable_routes(
    settings: &[RouteSettings],
    unsure: &dyn Fn(usize) -> bool,
) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    let every = MatchSettings::default();
    let mut before: Vec<(&Arc<str>, Option<&MatchSettings>, bool)> = Vec::new();
    for (at, route) in settings.iter().enumerate() {
        let (name, matched) = (route.name.text(), route.matches.as_ref().unwrap_or(&every));
        let mut tell = |message, hint: String| {
            mistakes.push(Diagnostic::at(&["routes", &at.to_string(), "name"], message, hint));
        };
        let sure = !unsure(at);
        let taken = |(_, other, any): &&(_, Option<&MatchSettings>, _)| {
            *any || sure && *other == Some(matched)
        };
        if before.iter().any(|(other, ..)| *other == name) {
            let message = format!("the name `{name}` stands here for the second time");
            tell(message, "names tell routes apart in metrics: give each its own".to_owned());
        } else if let Some((other, ..)) = before.iter().find(taken) {
            let message = format!("no request reaches `{name}`: `{other}` before it takes them");
            tell(
                message,
                format!("the first that matches is taken: put `{name}` before `{other}`"),
            );
        }
        let mut told = Vec::new();
        let mut nowhere = DiagnosticScope { keys: Vec::new(), mistakes: &mut told };
        let test = matches::matching(matched, &mut nowhere);
        let any = sure && test.is_some_and(|test| test.matches_all());
        before.push((name, sure.then_some(matched), any));
    }
    mistakes
}

fn route(
    settings: &RouteSettings,
    defaults: Defaults,
    place: &mut DiagnosticScope<'_>,
) -> Option<Route> {
    let name = &**settings.name.text();
    let matched = settings.matches.clone().unwrap_or_default();
    let matching = matches::matching(&matched, &mut place.below(&["match"]));
    // An invalid match has no captures; their users are not reported as well.
    let matching = matching.unwrap_or_else(|| RouteMatch {
        path: PathTest::Prefix(Box::default()),
        ..RouteMatch::default()
    });
    let names = matching.path.names();
    let action = action::action(settings, &matching, place);
    let rewrite = settings
        .rewrite
        .as_ref()
        .map(|rewrite| rewrites::rewrite(rewrite, &matching, &mut place.below(&["rewrite"])));
    let mut edits = |key: &str, edits: &Option<_>| match edits {
        Some(it) => edits::edits(it, name, &names, &mut place.below(&[key])),
        None => super::edit::HeaderEdits::default(),
    };
    let request_edits = edits("request_headers", &settings.request_headers);
    let response_edits = edits("response_headers", &settings.response_headers);
    let (timeout, total_timeout) = timeouts(settings, defaults, place);
    let cors = settings.cors.as_ref();
    let cors = cors.and_then(|it| self::cors(it, defaults, &mut place.below(&["cors"])));
    let retry = settings.retry.as_ref();
    let hedge = settings.hedge.as_ref().map(|hedge| hedge.after.0);
    if hedge.is_some_and(|after| timeout.is_some_and(|timeout| after >= timeout)) {
        let message = "a second endpoint would be asked when the time is over already";
        place.report(&["hedge", "after"], message, "shorter than the route's `timeout`");
    }
    let rewrite = rewrite.unwrap_or_default();
    let action = action?;
    Some(Route {
        name: name.into(),
        captures: action.captures()
            || rewrite.path.captures()
            || request_edits.captures()
            || response_edits.captures(),
        action,
        matching,
        rewrite,
        request_edits,
        response_edits,
        timeout,
        total_timeout,
        idle_timeout: settings.idle_timeout.map_or(defaults.idle_timeout, |it| it.0),
        retry: retry.map(|retry| retry_policy(retry, timeout, &mut place.below(&["retry"]))),
        mirror: settings.mirror.as_ref().map(|it| mirror(it, &mut place.below(&["mirror"]))),
        hedge,
        cors,
        upgrade: upgrades(settings.upgrade.as_ref(), place),
        connect: settings.connect.unwrap_or_default(),
        max_request_body: settings
            .max_request_body
            .map_or(defaults.max_request_body, |it| it.0.map(|size| size.0)),
    })
}

/// The timeouts for the response's head and for the whole response.
fn timeouts(
    settings: &RouteSettings,
    defaults: Defaults,
    place: &mut DiagnosticScope<'_>,
) -> (Option<Duration>, Option<Duration>) {
    let timeout = settings.timeout.map_or(defaults.timeout, |it| it.0);
    let total = match settings.total_timeout {
        Some(total) => total.0,
        None => timeout.filter(|_| defaults.whole),
    };
    let longer = timeout.zip(total).is_some_and(|(timeout, total)| timeout > total);
    if longer && settings.timeout.is_some() {
        let message = "the answer may take longer to begin than in all";
        place.report(&["timeout"], message, "no longer than the route's `total_timeout`");
    }
    (timeout, total)
}

fn retry_policy(
    settings: &RetrySettings,
    timeout: Option<Duration>,
    place: &mut DiagnosticScope<'_>,
) -> RetryPolicy {
    let longer = |try_: Text<Duration>| timeout.is_some_and(|timeout| try_.0 > timeout);
    if settings.per_try_timeout.is_some_and(longer) {
        let message = "one try may take longer than all of them";
        place.report(&["per_try_timeout"], message, "shorter than the route's `timeout`");
    }
    check_max_body(settings.max_body, place);
    if let Some(methods) = &settings.methods {
        self::methods(methods, &mut place.below(&["methods"]));
    }
    let retry = RetryPolicy::new(settings);
    if retry.backoff.max < retry.backoff.base {
        let message = "the pause may never be as long as before the first retry";
        place.report(&["backoff", "max"], message, "no shorter than `base`");
    }
    retry
}

fn cors(
    settings: &CorsSettings,
    defaults: Defaults,
    place: &mut DiagnosticScope<'_>,
) -> Option<Arc<Cors>> {
    if defaults.whole {
        let hint = "write `web: { origins: [\"https://shop.example\"] }` beside `routes`";
        place.report(&[], "whose pages may call is said by `web`, for all routes of gRPC", hint);
        return None;
    }
    for error in crate::cors::errors_of(settings) {
        place.report_error(&[], error);
    }
    Some(Arc::new(Cors::of(settings)))
}

/// Checks how much of a body is kept.
fn check_max_body(most: Option<Text<Size>>, place: &mut DiagnosticScope<'_>) {
    if most.is_some_and(|most| most.bytes() > MAX_BODY_KEPT) {
        place.report(&["max_body"], "so much is not kept for each request", "at most `16MiB`");
    }
}

fn mirror(settings: &MirrorSettings, place: &mut DiagnosticScope<'_>) -> Mirror {
    check_max_body(settings.max_body, place);
    Mirror {
        cluster: settings.cluster.as_str().into(),
        share: settings.percent.map_or(1.0, |percent| percent.get() / 100.0),
        max_body: settings.max_body.map_or(DEFAULT_MAX_BODY, |it| it.bytes()),
    }
}

/// Parses methods.
fn methods(list: &OneOrMore<String>, place: &mut DiagnosticScope<'_>) -> Box<[Method]> {
    let mut methods = Vec::new();
    for (at, name) in list.0.iter().enumerate() {
        let upper = name.to_ascii_uppercase();
        let at = at.to_string();
        let keys: &[&str] = if list.0.len() == 1 { &[] } else { &[&at] };
        match name.parse::<Method>() {
            Ok(method) if *name == upper => methods.push(method),
            Ok(_) => place.report(
                keys,
                format!("no request has the method `{name}`"),
                format!("methods are in capitals: `{upper}`"),
            ),
            Err(_) => place.report(keys, format!("`{name}` is no method"), "such as `GET`"),
        }
    }
    methods.into()
}

fn upgrades(
    settings: Option<&UpgradeSettings>,
    place: &mut DiagnosticScope<'_>,
) -> AllowedUpgrades {
    match settings {
        None | Some(UpgradeSettings::All(false)) => AllowedUpgrades::None,
        Some(UpgradeSettings::All(true)) => AllowedUpgrades::All,
        Some(UpgradeSettings::Only(names)) => {
            for name in names {
                if name.is_empty() || name.contains(|c: char| !c.is_ascii_graphic() || c == ',') {
                    let message = format!("`{name}` is no protocol to change to");
                    place.report(&["upgrade"], message, "such as `[websocket]`");
                } else if name.eq_ignore_ascii_case("h2c") {
                    let message = "no connection changes to `h2c`, whatever a route says";
                    let hint = "leave it out: clients that know HTTP/2 begin with it";
                    place.report(&["upgrade"], message, hint);
                }
            }
            AllowedUpgrades::Only(names.iter().map(|it| it.to_ascii_lowercase().into()).collect())
        }
    }
}
