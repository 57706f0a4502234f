//! Routes: which cluster a request goes to, and what is done to it on the way.

mod answer;
mod compile;
mod edit;
mod matching;
mod pattern;
mod retry;
mod rewrite;
mod statuses;
mod targets;
mod template;
mod value;

use crate::settings::{RouteSettings, Settings, UpgradeSettings};
use crate::{cors::Cors, normal};
pub use answer::{DirectResponse, Redirect};
pub use compile::unreached;
use edit::HeaderEdits;
pub use edit::{RenderedValues, Variables};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use matching::RouteMatch;
pub use retry::{RetryOn, RetryPolicy};
use rewrite::Rewrite;
pub use statuses::StatusSet;
use std::{sync::Arc, time::Duration};
pub use targets::WeightedClusters;
pub use template::Captures;
use values::Mistake;

/// The routes of a listener, in the order of its config.
#[derive(Clone, Debug)]
pub struct Routes {
    list: Box<[Arc<Route>]>,
    /// The headers of requests that any of them looks at or edits.
    headers: Box<[HeaderName]>,
}

/// What holds for a route that says nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// How long an answer may take to begin.
    pub timeout: Option<Duration>,
    /// Whether a route's `timeout` holds to the end of the answer, as deadlines of gRPC do.
    pub whole: bool,
    /// How long nothing may move either way.
    pub idle_timeout: Option<Duration>,
    /// How many bytes a request's body may have.
    pub max_request_body: Option<u64>,
}

/// Where requests of one kind go.
#[derive(Debug)]
pub struct Route {
    /// Its name: the resource of its operations.
    pub name: Box<str>,
    /// Where they go.
    pub action: Action,
    /// How long the answer may take to begin, from the end of the request to the answer's head.
    pub timeout: Option<Duration>,
    /// How long it may take to its end.
    pub total_timeout: Option<Duration>,
    /// How long nothing may move either way.
    pub idle_timeout: Option<Duration>,
    /// What is tried again.
    pub retry: Option<RetryPolicy>,
    /// Who gets a copy.
    pub mirror: Option<Mirror>,
    /// After how long without the head of an answer a second endpoint is asked.
    pub hedge: Option<Duration>,
    /// Which other sites' pages may ask.
    pub cors: Option<Arc<Cors>>,
    /// Which protocols clients may change to.
    pub upgrade: AllowedUpgrades,
    /// Whether clients may use `CONNECT`.
    pub connect: bool,
    /// How many bytes a request's body may have.
    pub max_request_body: Option<u64>,
    matching: RouteMatch,
    rewrite: Rewrite,
    request_edits: HeaderEdits,
    response_edits: HeaderEdits,
    /// Whether any of them needs what the match names.
    captures: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to a cluster.
    Forward(WeightedClusters),
    /// Its client is sent elsewhere.
    Redirect(Redirect),
    /// The proxy answers it.
    Reply(DirectResponse),
}

/// A cluster that gets a copy of requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its name.
    pub cluster: Arc<str>,
    /// Which part of them, 0 to 1, at random.
    pub share: f64,
    /// How many bytes of a request's body are kept for it.
    pub max_body: u64,
}

/// Which protocols clients may change to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedUpgrades {
    /// None.
    #[default]
    None,
    /// Whichever they like.
    All,
    /// These, in lower case.
    Only(Box<[Box<str>]>),
}

impl AllowedUpgrades {
    /// Whether it may be this one, as an `upgrade` header names it: `websocket`, `foo/2`.
    pub fn allow(&self, protocol: &str) -> bool {
        match self {
            AllowedUpgrades::None => false,
            AllowedUpgrades::All => true,
            AllowedUpgrades::Only(list) => list.iter().any(|it| it.eq_ignore_ascii_case(protocol)),
        }
    }
}

impl Settings {
    /// What holds for routes that say nothing else.
    pub fn defaults(&self) -> Defaults {
        Defaults {
            timeout: Some(Duration::from_secs(15)),
            whole: false,
            idle_timeout: self.stream_idle_timeout.0,
            max_request_body: self.max_request_body.0.map(|size| size.0),
        }
    }
}

impl Routes {
    /// The routes of a config, or all that is wrong with them; paths of mistakes begin at
    /// `routes`.
    ///
    /// # Errors
    /// Every mistake, not just the first.
    pub fn new(settings: &[RouteSettings], defaults: Defaults) -> Result<Self, Vec<Mistake>> {
        compile::routes(settings, defaults).map(Self::of)
    }

    /// Everything to one cluster, as the route `default`.
    pub fn single(cluster: &str, defaults: Defaults) -> Self {
        let Defaults { timeout, whole, idle_timeout, max_request_body } = defaults;
        let route = Route {
            name: "default".into(),
            action: Action::Forward(WeightedClusters::one(cluster)),
            timeout,
            total_timeout: timeout.filter(|_| whole),
            idle_timeout,
            retry: None,
            mirror: None,
            hedge: None,
            cors: None,
            upgrade: AllowedUpgrades::None,
            connect: false,
            max_request_body,
            matching: RouteMatch::default(),
            rewrite: Rewrite::default(),
            request_edits: HeaderEdits::default(),
            response_edits: HeaderEdits::default(),
            captures: false,
        };
        Self::of(vec![Arc::new(route)])
    }

    fn of(list: Vec<Arc<Route>>) -> Self {
        let mut headers = Vec::new();
        for route in &list {
            let matched = route.matching.headers.iter().map(|(name, _)| name);
            headers.extend(matched.chain(route.request_edits.names()).cloned());
        }
        Self { list: list.into(), headers: headers.into() }
    }

    /// The headers of requests that any of them looks at or edits.
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// These, and then those.
    #[must_use]
    pub fn followed_by(self, others: Self) -> Self {
        Self::of(self.list.into_iter().chain(others.list).collect())
    }

    /// Those that say nothing of other sites' pages say this.
    #[must_use]
    pub(crate) fn granting(mut self, cors: &Arc<Cors>) -> Self {
        for route in self.list.iter_mut().filter_map(Arc::get_mut) {
            route.cors.get_or_insert_with(|| Arc::clone(cors));
        }
        self
    }

    /// Whether any of them says something of other sites' pages.
    pub(crate) fn have_cors(&self) -> bool {
        self.list.iter().any(|route| route.cors.is_some())
    }

    /// The first route that matches. `host` is the authority that the request is for, without
    /// the port and in normal form. Paths that `path_fault` refuses are not to come here.
    pub fn find(&self, head: &request::Parts, host: &str) -> Option<(Arc<Route>, Captures)> {
        let path = normal::path(head.uri.path());
        let route = self.taken(head, host, &path)?;
        let captures = match route.captures {
            true => route.matching.path.captures(&normal::unreserved(head.uri.path()), &path),
            false => Captures::default(),
        };
        Some((Arc::clone(route), captures))
    }

    fn taken(&self, head: &request::Parts, host: &str, path: &str) -> Option<&Arc<Route>> {
        self.list.iter().find(|route| route.matching.fits(head, host, path))
    }

    /// Whether a service that takes an encoded slash, or a backslash, for a slash reads a path that
    /// is another route's than `route`, which took the request. A route that looks at segments or
    /// characters means the path as it is written, unless the proxy itself answers on the other.
    pub(crate) fn reads_as_another(
        &self,
        head: &request::Parts,
        host: &str,
        route: &Arc<Route>,
    ) -> bool {
        let path = head.uri.path();
        // Nearly every path has neither.
        if memchr::memchr2(b'%', b'\\', path.as_bytes()).is_none() {
            return false;
        }
        let other = normal::other_reading(&normal::path(path));
        let other = other.and_then(|path| self.taken(head, host, &path));
        other.is_some_and(|other| {
            let answers = !matches!(other.action, Action::Forward(_));
            !Arc::ptr_eq(other, route) && (answers || !route.matching.path.is_close())
        })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.list.iter()
    }
}

/// The clusters that routes name, each with the keys that lead there from `routes` on.
pub fn clusters(routes: &[RouteSettings]) -> Vec<(Vec<String>, &str)> {
    let mut found = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let mut add = |keys: &[&str], name| {
            let below = keys.iter().map(|&key| key.to_owned());
            found.push((
                ["routes".to_owned(), at.to_string()].into_iter().chain(below).collect(),
                name,
            ));
        };
        if let Some(name) = &route.cluster {
            add(&["cluster"], name.as_str());
        }
        for (at, weighted) in route.clusters.iter().flatten().enumerate() {
            add(&["clusters", &at.to_string(), "cluster"], weighted.cluster.as_str());
        }
        if let Some(mirror) = &route.mirror {
            add(&["mirror", "cluster"], mirror.cluster.as_str());
        }
    }
    found
}

/// The clusters of routes on which connections may change to another protocol, which only those of
/// HTTP/1.1 can; each with the keys that say so from `routes` on.
pub fn switched(routes: &[RouteSettings]) -> Vec<(Vec<String>, &str)> {
    let mut found = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        if matches!(route.upgrade, None | Some(UpgradeSettings::All(false))) {
            continue;
        }
        let path = ["routes", &at.to_string(), "upgrade"].map(str::to_owned);
        let weighted = route.clusters.iter().flatten().map(|it| &it.cluster);
        for name in route.cluster.iter().chain(weighted) {
            found.push((path.to_vec(), name.as_str()));
        }
    }
    found
}

impl Route {
    /// The host that the service is asked for, where it is not the client's.
    pub fn host(&self) -> Option<HeaderValue> {
        self.rewrite.host().cloned()
    }

    /// Makes of the client's request what the service sees: headers first, whose variables tell
    /// what the client asked for, then path and host.
    ///
    /// # Errors
    /// Why the path that comes out can't be asked for.
    pub fn rewrite(
        &self,
        head: &mut request::Parts,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> Result<(), &'static str> {
        if !self.request_edits.is_empty() {
            let rendered = self.request_edits.render(head, captures, variables);
            self.request_edits.apply(&mut head.headers, &rendered);
        }
        self.rewrite.apply(head, captures)
    }

    /// Fills in the variables of what will be done to the answer's headers. To be called before
    /// `rewrite`, as long as the head is the client's. Costs nothing where there are none.
    pub fn render_response(
        &self,
        head: &request::Parts,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> RenderedValues {
        self.response_edits.render(head, captures, variables)
    }

    /// Edits an answer's headers.
    pub fn edit_response(&self, headers: &mut HeaderMap, rendered: &RenderedValues) {
        self.response_edits.apply(headers, rendered);
    }
}

impl Action {
    /// Whether it needs what the match names.
    fn captures(&self) -> bool {
        match self {
            Action::Redirect(redirect) => redirect.path.captures(),
            Action::Forward(_) | Action::Reply(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
