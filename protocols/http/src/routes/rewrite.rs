//! Rewrites of path and host.

use super::template::{Captures, PathFormat};
use crate::normalize::{self, path_fault, unreserved};
use http::{HeaderValue, Uri, header::HOST, request, uri::Authority};
use regex::Regex;

/// How path and host are rewritten for the service.
#[derive(Clone, Debug, Default)]
pub(super) struct Rewrite {
    pub(super) path: PathRewrite,
    pub(super) host: Option<(Authority, HeaderValue)>,
}

/// How a path is rewritten.
#[derive(Clone, Debug, Default)]
pub(super) enum PathRewrite {
    /// Unchanged.
    #[default]
    Same,
    /// Replaces the prefix of the match (first) by the second; both without trailing slash.
    Prefix(Box<str>, Box<str>),
    /// All bytes, in memory.
    Format(PathFormat),
    /// Replaces all matches of the regex.
    Pattern(Regex, Box<str>),
}

impl Rewrite {
    /// The host that replaces the client's.
    pub(super) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref().map(|(_, value)| value)
    }

    /// Whether nothing is rewritten.
    pub(super) fn is_none(&self) -> bool {
        self.host.is_none() && matches!(self.path, PathRewrite::Same)
    }

    /// Rewrites the request.
    ///
    /// # Errors
    /// Why the rewritten path is invalid.
    pub(super) fn apply(
        &self,
        head: &mut request::Parts,
        captures: &Captures,
    ) -> Result<(), &'static str> {
        let new = self.path.rewrite(head.uri.path(), captures)?;
        let named = head.uri.authority().is_some();
        let moved = self.host.as_ref().map(|(host, _)| host).filter(|_| named);
        if new.is_some() || moved.is_some() {
            head.uri =
                with_target(&head.uri, new.as_deref(), moved).ok_or("the path is no path")?;
        }
        // HTTP/2 clients send no `host`, and the service does not need it.
        if let Some((_, value)) = &self.host
            && (head.uri.authority().is_none() || head.headers.contains_key(HOST))
        {
            head.headers.insert(HOST, value.clone());
        }
        Ok(())
    }
}

/// The target with another path, another authority, or both.
fn with_target(uri: &Uri, path: Option<&str>, authority: Option<&Authority>) -> Option<Uri> {
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

/// A path with the original query.
pub(super) fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// The rest of a path after as many segments as the prefix has. The prefix does not end in a slash.
fn rest_after<'p>(path: &'p str, prefix: &str) -> &'p str {
    let segments = prefix.matches('/').count();
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    &path[end..]
}

impl PathRewrite {
    /// Whether it uses captures of the match.
    pub(super) fn captures(&self) -> bool {
        matches!(self, PathRewrite::Format(filled) if !filled.is_fixed())
    }

    /// The rewritten path; `None` if it is unchanged. Targets that are not paths are unchanged.
    ///
    /// # Errors
    /// Why the rewritten path is invalid.
    pub(super) fn rewrite(
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
                if normalize::after(&normalize::path(path), old).is_none() {
                    return Ok(None);
                }
                match (new.as_ref(), rest_after(&unreserved(path), old)) {
                    ("", "") => "/".to_owned(),
                    (new, rest) => format!("{new}{rest}"),
                }
            }
            PathRewrite::Format(filled) => filled.fill(captures),
            PathRewrite::Pattern(regex, by) => {
                let new = regex.replace_all(&unreserved(path), &**by).into_owned();
                if new.starts_with('/') { new } else { format!("/{new}") }
            }
        };
        if let Some(fault) = path_fault(&new) {
            return Err(fault);
        }
        // Other characters come from a valid path or from the checked config.
        if new.contains(['?', '#', ' ']) {
            return Err("the path has a character that no path has");
        }
        Ok(Some(new))
    }
}
