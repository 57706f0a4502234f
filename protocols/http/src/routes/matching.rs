//! Matching of requests.

use super::{
    RequestHead,
    template::{Captures, PathTemplate},
    value::ValueTest,
};
use crate::normalize::{after, decoded};
use http::{HeaderName, Method};
use regex::Regex;
use std::sync::Arc;

/// The conditions of a route; all must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteMatch {
    /// Any of them; all requests match if it is empty.
    pub(super) hosts: Box<[HostTest]>,
    pub(super) path: PathTest,
    /// Any of them; all requests match if it is empty.
    pub(super) methods: Box<[Method]>,
    pub(super) headers: Box<[(HeaderName, ValueTest)]>,
    pub(super) query: Box<[(Box<[u8]>, ValueTest)]>,
}

/// A condition on the host, in lower case.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum HostTest {
    Exact(Box<str>),
    /// A suffix with something before it: `.example.com`.
    Below(Box<str>),
    /// A prefix with something after it: `shop.`.
    Begins(Box<str>),
}

/// A condition on the path, in normal form.
#[derive(Clone, Debug, Default)]
pub(super) enum PathTest {
    #[default]
    Any,
    Exact(Box<str>),
    /// Without trailing slash.
    Prefix(Box<str>),
    Template(PathTemplate),
    /// With the names of its groups.
    Regex(Regex, Box<[Arc<str>]>),
}

impl RouteMatch {
    /// Whether it matches every request.
    pub(super) fn matches_all(&self) -> bool {
        let any_path = match &self.path {
            PathTest::Any => true,
            PathTest::Prefix(prefix) => prefix.is_empty(),
            PathTest::Exact(_) | PathTest::Template(_) | PathTest::Regex(..) => false,
        };
        any_path
            && self.hosts.is_empty()
            && self.methods.is_empty()
            && self.headers.is_empty()
            && self.query.is_empty()
    }

    /// Whether it matches the request; `path` is the path in normal form.
    pub(super) fn matches(&self, head: &dyn RequestHead, host: &str, path: &str) -> bool {
        self.path.matches(path)
            && (self.methods.is_empty()
                || self.methods.iter().any(|it| it.as_str() == head.method()))
            && (self.hosts.is_empty() || self.hosts.iter().any(|it| it.matches(host)))
            && (self.headers.iter())
                .all(|(name, test)| test.holds(&|fits| head.has_header(name, fits)))
            && (self.query.is_empty() || self.matches_query(head.query().unwrap_or_default()))
    }

    fn matches_query(&self, query: &str) -> bool {
        self.query.iter().all(|(name, test)| {
            test.holds(&|fits| {
                let parameters = query.split('&').filter(|it| !it.is_empty());
                parameters
                    .map(|it| it.split_once('=').unwrap_or((it, "")))
                    .any(|(key, value)| *decoded(key) == **name && fits(&decoded(value)))
            })
        })
    }
}

impl HostTest {
    fn matches(&self, host: &str) -> bool {
        match self {
            HostTest::Exact(name) => **name == *host,
            HostTest::Below(end) => host.len() > end.len() && host.ends_with(&**end),
            HostTest::Begins(start) => host.len() > start.len() && host.starts_with(&**start),
        }
    }
}

impl PathTest {
    fn matches(&self, path: &str) -> bool {
        match self {
            PathTest::Any => true,
            PathTest::Exact(exact) => **exact == *path,
            PathTest::Prefix(prefix) => after(path, prefix).is_some(),
            PathTest::Template(template) => template.matches(path, |_, _| {}),
            PathTest::Regex(regex, _) => regex.is_match(path),
        }
    }

    /// Whether it matches single segments or characters, and so distinguishes an encoded slash from
    /// a slash.
    pub(super) fn distinguishes_encoding(&self) -> bool {
        matches!(self, PathTest::Template(_) | PathTest::Regex(..))
    }

    /// The names of its captures.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        match self {
            PathTest::Any | PathTest::Exact(_) | PathTest::Prefix(_) => Vec::new(),
            PathTest::Template(template) => template.names().cloned().collect(),
            PathTest::Regex(_, names) => names.to_vec(),
        }
    }

    /// The captures of a path that matches in its normal form, `normal`. They are taken from the
    /// client's spelling `path` if that matches too.
    pub(super) fn captures(&self, path: &str, normal: &str) -> Captures {
        let path = if self.matches(path) { path } else { normal };
        let mut pieces = Vec::new();
        match self {
            PathTest::Any | PathTest::Exact(_) | PathTest::Prefix(_) => {}
            PathTest::Template(template) => {
                template.matches(path, |name, piece| pieces.push((Arc::clone(name), piece.into())));
            }
            PathTest::Regex(regex, names) => {
                let found = regex.captures(path);
                for name in names {
                    let piece = found.as_ref().and_then(|found| found.name(name));
                    let piece = piece.map_or("", |piece| piece.as_str());
                    pieces.push((Arc::clone(name), piece.into()));
                }
            }
        }
        Captures(pieces)
    }
}
