//! What a path and a host become on the way to a service.

use super::template::{Captures, PathFormat};
use crate::normal::{self, path_fault, unreserved};
use http::{HeaderValue, Uri, header::HOST, request, uri::Authority};
use regex::Regex;

/// What the service sees in the place of what the client asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rewrite {
    pub(super) path: PathRewrite,
    pub(super) host: Option<(Authority, HeaderValue)>,
}

/// What a path becomes.
#[derive(Clone, Debug, Default)]
pub(super) enum PathRewrite {
    /// What it is.
    #[default]
    Same,
    /// The prefix of the match, and what is put in its place; both without a slash at the end.
    Prefix(Box<str>, Box<str>),
    /// All of it.
    Filled(PathFormat),
    /// What fits is replaced.
    Pattern(Regex, Box<str>),
}

impl Rewrite {
    /// The host that is put in the place of the client's.
    pub(super) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref().map(|(_, value)| value)
    }

    /// Does it.
    ///
    /// # Errors
    /// Why the path that comes out can't be asked for.
    pub(super) fn apply(
        &self,
        head: &mut request::Parts,
        captures: &Captures,
    ) -> Result<(), &'static str> {
        let new = self.path.of(head.uri.path(), captures)?;
        let named = head.uri.authority().is_some();
        let moved = self.host.as_ref().map(|(host, _)| host).filter(|_| named);
        if new.is_some() || moved.is_some() {
            head.uri = respelt(&head.uri, new.as_deref(), moved).ok_or("the path is no path")?;
        }
        // A client of HTTP/2 has sent no such header, and neither needs the service.
        if let Some((_, value)) = &self.host
            && (head.uri.authority().is_none() || head.headers.contains_key(HOST))
        {
            head.headers.insert(HOST, value.clone());
        }
        Ok(())
    }
}

/// The same target with another path, another authority, or both.
fn respelt(uri: &Uri, path: Option<&str>, authority: Option<&Authority>) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    if let Some(path) = path {
        let target = with_query(path, uri.query());
        parts.path_and_query = Some(target.parse().ok()?);
    }
    if let Some(authority) = authority {
        parts.authority = Some(authority.clone());
    }
    Uri::from_parts(parts).ok()
}

/// A path, and the query that belonged to another one.
pub(super) fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// What follows in a path behind as many segments as a prefix has. The prefix does not end in a
/// slash.
fn behind<'p>(path: &'p str, prefix: &str) -> &'p str {
    let segments = prefix.matches('/').count();
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    &path[end..]
}

impl PathRewrite {
    /// Whether it needs what the match names.
    pub(super) fn captures(&self) -> bool {
        matches!(self, PathRewrite::Filled(filled) if !filled.is_fixed())
    }

    /// What a path becomes; `None` if that is what it is. Targets that are no paths stay.
    ///
    /// # Errors
    /// Why the path that comes out can't be asked for.
    pub(super) fn of(
        &self,
        path: &str,
        captures: &Captures,
    ) -> Result<Option<String>, &'static str> {
        if !path.starts_with('/') {
            return Ok(None);
        }
        let new = match self {
            PathRewrite::Same => return Ok(None),
            PathRewrite::Prefix(old, new) => {
                if normal::after(&normal::path(path), old).is_none() {
                    return Ok(None);
                }
                match (new.as_ref(), behind(&unreserved(path), old)) {
                    ("", "") => "/".to_owned(),
                    (new, rest) => format!("{new}{rest}"),
                }
            }
            PathRewrite::Filled(filled) => filled.fill(captures),
            PathRewrite::Pattern(regex, by) => {
                let new = regex.replace_all(&unreserved(path), &**by).into_owned();
                if new.starts_with('/') { new } else { format!("/{new}") }
            }
        };
        if let Some(fault) = path_fault(&new) {
            return Err(fault);
        }
        // What else comes from the path was one, and what comes from the config is checked.
        if new.contains(['?', '#', ' ']) {
            return Err("the path has a character that no path has");
        }
        Ok(Some(new))
    }
}
