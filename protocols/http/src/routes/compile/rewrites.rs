//! Compiles rewrites of path and host.

use super::DiagnosticScope;
use crate::{
    routes::{
        matching::{PathTest, RouteMatch},
        pattern,
        rewrite::{PathRewrite, Rewrite},
        template::{PathFormat, literal},
    },
    settings::{PatternRewrite, RewriteSettings},
};
use http::{HeaderValue, uri::Authority};
use regex::Regex;
use values::Diagnostic;

pub(super) fn rewrite(
    settings: &RewriteSettings,
    matching: &RouteMatch,
    place: &mut DiagnosticScope<'_>,
) -> Rewrite {
    let RewriteSettings { prefix, path, regex, host } = settings;
    if *settings == RewriteSettings::default() {
        place.report(&[], "this rewrites nothing", "write `prefix`, `path`, `regex` or `host`");
    }
    let keys = [("prefix", prefix.is_some()), ("path", path.is_some()), ("regex", regex.is_some())];
    let written: Vec<_> = keys.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
    if let [first, second, ..] = written.as_slice() {
        let message = format!("`{first}` and `{second}` both say what the path becomes");
        place.report(&[second], message, "keep one of them");
    }
    let new = new_path(prefix.as_deref(), path.as_deref(), matching, place);
    let pattern = regex.as_ref().and_then(|it| replaced(it, &mut place.below(&["regex"])));
    let host = host.as_ref().and_then(|host| place.ok_or_report(&["host"], authority(host)));
    Rewrite { path: pattern.unwrap_or(new), host }
}

/// The path rewrite of `prefix` or `path`.
pub(super) fn new_path(
    prefix: Option<&str>,
    path: Option<&str>,
    matching: &RouteMatch,
    place: &mut DiagnosticScope<'_>,
) -> PathRewrite {
    let new = match (prefix, path) {
        (None, None) => None,
        (Some(prefix), _) => match &matching.path {
            PathTest::Prefix(old) => place
                .ok_or_report(&["prefix"], literal(prefix))
                .map(|new| PathRewrite::Prefix(old.clone(), new.trim_end_matches('/').into())),
            _ => {
                let message = "there is no prefix in whose place this could be put";
                let hint = "match by `path_prefix`, or write the whole `path`";
                place.report(&["prefix"], message, hint);
                None
            }
        },
        (None, Some(path)) => {
            let filled = PathFormat::new(path, &matching.path.names());
            place.ok_or_report(&["path"], filled).map(PathRewrite::Format)
        }
    };
    new.unwrap_or_default()
}

fn replaced(settings: &PatternRewrite, place: &mut DiagnosticScope<'_>) -> Option<PathRewrite> {
    let regex = place.ok_or_report(&["pattern"], pattern::anywhere(&settings.pattern))?;
    let by = &settings.substitution;
    place.ok_or_report(&["substitution"], substitution(by, &regex))?;
    Some(PathRewrite::Pattern(regex, by.as_str().into()))
}

/// Checks that each group of a substitution exists and the rest is valid in a path.
fn substitution(text: &str, regex: &Regex) -> Result<(), Diagnostic> {
    let mut plain = String::from("/");
    let mut left = text;
    while let Some((before, after)) = left.split_once('$') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            plain.push('$');
            left = after;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let (name, rest) =
            braced.unwrap_or_else(|| after.split_at(after.find(word).unwrap_or(after.len())));
        let there = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|known| known == name),
        };
        if !there {
            let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
            let hint = match digits.is_empty() {
                true => "`$1` is the first group, `${name}` that of `(?<name>…)`, `$$` a dollar"
                    .to_owned(),
                false => format!("write `${{{digits}}}` where letters or digits follow"),
            };
            return Err(Diagnostic::new(format!("the pattern has no group `{name}`"), hint));
        }
        plain.push('x');
        left = rest;
    }
    plain.push_str(left);
    literal(&plain).map(|_| ())
}

/// A host, perhaps with port.
fn authority(text: &str) -> Result<(Authority, HeaderValue), Diagnostic> {
    let wrong =
        || Diagnostic::new(format!("`{text}` is no host"), "`shop.example.com`, or with a port");
    let authority: Authority = text.parse().map_err(|_| wrong())?;
    let value = HeaderValue::from_str(text).map_err(|_| wrong())?;
    if text.contains('@') || authority.host().is_empty() {
        return Err(wrong());
    }
    Ok((authority, value))
}

/// A host without port.
pub(super) fn bare_host(text: &str) -> Result<Box<str>, Diagnostic> {
    let (authority, _) = authority(text)?;
    match authority.port() {
        Some(_) => {
            let hint = format!("write it under `port`, and `{}` here", authority.host());
            Err(Diagnostic::new(format!("`{text}` has a port"), hint))
        }
        None => Ok(text.into()),
    }
}
