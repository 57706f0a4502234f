//! Finds the routes that a request may match by its host and path, so that a lookup among a
//! thousand routes costs little more than one among few.
//!
//! The index only narrows the search: whether a route matches is still decided by its
//! [`RouteMatch`]. So a part of the index may offer too many routes, but never too few.

mod path_index;
mod path_tree;
mod regex_index;

use super::matching::{HostTest, RouteMatch};
use foldhash::{HashMap, HashMapExt as _};
use path_index::PathIndex;

/// The routes of a listener by host and path. Routes are numbered in configured order.
#[derive(Debug)]
pub(super) struct RouteIndex {
    /// Routes for every host.
    every_host: PathIndex,
    exact: HashMap<Box<str>, PathIndex>,
    /// By a suffix from a dot on: `.example.com`.
    suffixes: HashMap<Box<str>, PathIndex>,
    /// By a prefix up to a dot: `shop.`.
    prefixes: HashMap<Box<str>, PathIndex>,
    /// Length of the longest suffix or prefix. Others of a request's host are not looked up.
    longest: usize,
}

/// A search for the first route that matches.
struct FirstMatch<'a> {
    /// Whether the route of this number matches the request.
    matches: &'a dyn Fn(usize) -> bool,
    /// The first match so far; `usize::MAX` if there is none.
    found: usize,
}

impl FirstMatch<'_> {
    /// Tries these routes, which are in order, unless a route before them matches.
    fn try_routes(&mut self, routes: &[usize]) {
        let mut before = routes.iter().copied().take_while(|route| *route < self.found);
        if let Some(route) = before.find(|route| (self.matches)(*route)) {
            self.found = route;
        }
    }
}

impl RouteIndex {
    /// Indexes routes by their conditions, which are in configured order.
    pub(super) fn new<'m>(routes: impl Iterator<Item = &'m RouteMatch>) -> Self {
        let mut index = Self {
            every_host: PathIndex::default(),
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            prefixes: HashMap::new(),
            longest: 0,
        };
        for (route, conditions) in routes.enumerate() {
            if conditions.hosts.is_empty() {
                index.every_host.insert(route, &conditions.path);
            }
            for host in &conditions.hosts {
                index.of_host(host).insert(route, &conditions.path);
            }
        }
        index.every_host.finish();
        let by_host = [&mut index.exact, &mut index.suffixes, &mut index.prefixes];
        by_host.into_iter().flat_map(HashMap::values_mut).for_each(PathIndex::finish);
        index
    }

    /// The routes with this condition on the host.
    fn of_host(&mut self, host: &HostTest) -> &mut PathIndex {
        let (routes, text) = match host {
            HostTest::Exact(name) => return self.exact.entry(name.clone()).or_default(),
            HostTest::Below(end) => (&mut self.suffixes, end),
            HostTest::Begins(start) => (&mut self.prefixes, start),
        };
        self.longest = self.longest.max(text.len());
        routes.entry(text.clone()).or_default()
    }

    /// The first route for this host and path, both in normal form, for which `matches` holds.
    pub(super) fn first_match(
        &self,
        host: &str,
        path: &str,
        matches: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut search = FirstMatch { matches, found: usize::MAX };
        let mut try_host = |routes: Option<&PathIndex>| {
            routes.into_iter().for_each(|routes| routes.search(path, &mut search));
        };
        try_host(Some(&self.every_host));
        try_host(self.exact.get(host));
        if self.longest > 0 {
            for dot in memchr::memchr_iter(b'.', host.as_bytes()) {
                let (suffix, prefix) = (&host[dot..], &host[..=dot]);
                if suffix.len() <= self.longest {
                    try_host(self.suffixes.get(suffix));
                }
                if prefix.len() <= self.longest {
                    try_host(self.prefixes.get(prefix));
                }
            }
        }
        Some(search.found).filter(|found| *found != usize::MAX)
    }
}
