//! Which requests a route is for.

use super::{
    template::{Captures, PathTemplate},
    value::ValueTest,
};
use crate::normal::{after, decoded};
use http::{HeaderName, Method, request};
use regex::Regex;
use std::sync::Arc;

/// Which requests a route is for: those for which all of it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteMatch {
    /// One of them, or any if there are none.
    pub(super) hosts: Box<[HostTest]>,
    pub(super) path: PathTest,
    /// One of them, or any if there are none.
    pub(super) methods: Box<[Method]>,
    pub(super) headers: Box<[(HeaderName, ValueTest)]>,
    pub(super) query: Box<[(Box<[u8]>, ValueTest)]>,
}

/// A host, in lower case.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum HostTest {
    Exact(Box<str>),
    /// It ends so, and something is before: `.example.com`.
    Below(Box<str>),
    /// It begins so, and something follows: `shop.`.
    Begins(Box<str>),
}

/// A path, in normal form.
#[derive(Clone, Debug, Default)]
pub(super) enum PathTest {
    #[default]
    Any,
    Exact(Box<str>),
    /// Without a slash at its end.
    Prefix(Box<str>),
    Template(PathTemplate),
    /// With the names of its groups.
    Regex(Regex, Box<[Arc<str>]>),
}

impl RouteMatch {
    /// Whether it is for all requests that there are.
    pub(super) fn is_any(&self) -> bool {
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

    /// Whether it is for this request; `path` is the normal form of its path.
    pub(super) fn fits(&self, head: &request::Parts, host: &str, path: &str) -> bool {
        self.path.fits(path)
            && (self.methods.is_empty() || self.methods.contains(&head.method))
            && (self.hosts.is_empty() || self.hosts.iter().any(|it| it.fits(host)))
            && self.headers.iter().all(|(name, test)| {
                test.holds(&|fits| {
                    head.headers.get_all(name).iter().any(|value| fits(value.as_bytes()))
                })
            })
            && (self.query.is_empty() || self.fits_query(head.uri.query().unwrap_or_default()))
    }

    fn fits_query(&self, query: &str) -> bool {
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
    fn fits(&self, host: &str) -> bool {
        match self {
            HostTest::Exact(name) => **name == *host,
            HostTest::Below(end) => host.len() > end.len() && host.ends_with(&**end),
            HostTest::Begins(start) => host.len() > start.len() && host.starts_with(&**start),
        }
    }
}

impl PathTest {
    fn fits(&self, path: &str) -> bool {
        match self {
            PathTest::Any => true,
            PathTest::Exact(exact) => **exact == *path,
            PathTest::Prefix(prefix) => after(path, prefix).is_some(),
            PathTest::Template(template) => template.fits(path, |_, _| {}),
            PathTest::Regex(regex, _) => regex.is_match(path),
        }
    }

    /// Whether it looks at segments or characters, and so tells an encoded slash from a slash.
    pub(super) fn is_close(&self) -> bool {
        matches!(self, PathTest::Template(_) | PathTest::Regex(..))
    }

    /// What it names in paths.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        match self {
            PathTest::Any | PathTest::Exact(_) | PathTest::Prefix(_) => Vec::new(),
            PathTest::Template(template) => template.names().cloned().collect(),
            PathTest::Regex(_, names) => names.to_vec(),
        }
    }

    /// The pieces of a path that fits in its normal form, `normal`. They are taken from `path`, the
    /// client's own spelling, where that fits too.
    pub(super) fn captures(&self, path: &str, normal: &str) -> Captures {
        let path = if self.fits(path) { path } else { normal };
        let mut pieces = Vec::new();
        match self {
            PathTest::Any | PathTest::Exact(_) | PathTest::Prefix(_) => {}
            PathTest::Template(template) => {
                template.fits(path, |name, piece| pieces.push((Arc::clone(name), piece.into())));
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
