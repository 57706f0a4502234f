//! Routes: which cluster a request goes to, and how it is changed.

mod compile;
mod direct_response;
mod edit;
mod index;
mod matching;
mod pattern;
mod request_head;
mod retry;
mod rewrite;
mod statuses;
mod targets;
mod template;
mod value;

use crate::settings::{RouteSettings, Settings, UpgradeSettings};
use crate::{cors::Cors, header_lines::HeaderLines, normalize};
pub use compile::unreachable_routes;
pub use direct_response::{DirectResponse, Redirect};
use edit::HeaderEdits;
pub(crate) use edit::RenderedValues;
pub use edit::Variables;
use http::{HeaderName, HeaderValue, request};
use index::RouteIndex;
use matching::RouteMatch;
pub use request_head::RequestHead;
pub(crate) use request_head::WithMethod;
pub use retry::{RetryOn, RetryPolicy};
use rewrite::Rewrite;
pub use statuses::StatusSet;
use std::{sync::Arc, time::Duration};
pub use targets::WeightedClusters;
pub use template::Captures;
use values::Diagnostic;

/// The routes of a listener, in configured order.
#[derive(Clone, Debug)]
pub struct Routes {
    list: Box<[Arc<Route>]>,
    /// Which of them a request may match.
    index: Arc<RouteIndex>,
    /// Request headers that any route matches or edits.
    headers: Box<[HeaderName]>,
}

/// Defaults of routes.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// How long the response's head may take.
    pub timeout: Option<Duration>,
    /// Whether a route's `timeout` covers the whole response, like gRPC deadlines.
    pub whole: bool,
    /// Longest time without a byte in either direction.
    pub idle_timeout: Option<Duration>,
    /// Largest request body, in bytes.
    pub max_request_body: Option<u64>,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name, which is the resource of its operations.
    pub name: Box<str>,
    /// What is done with the requests.
    pub action: Action,
    /// How long the response's head may take, from the end of the request.
    pub timeout: Option<Duration>,
    /// How long the whole response may take.
    pub total_timeout: Option<Duration>,
    /// Longest time without a byte in either direction.
    pub idle_timeout: Option<Duration>,
    /// Retry policy.
    pub retry: Option<RetryPolicy>,
    /// Cluster that gets copies.
    pub mirror: Option<Mirror>,
    /// Delay before a second endpoint is tried while there is no response head.
    pub hedge: Option<Duration>,
    /// CORS rules.
    pub cors: Option<Arc<Cors>>,
    /// Protocols that clients may upgrade to.
    pub upgrade: AllowedUpgrades,
    /// Whether `CONNECT` is allowed.
    pub connect: bool,
    /// Largest request body, in bytes.
    pub max_request_body: Option<u64>,
    matching: RouteMatch,
    rewrite: Rewrite,
    request_edits: HeaderEdits,
    response_edits: HeaderEdits,
    /// Whether any of these uses captures of the match.
    captures: bool,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward it to a cluster.
    Forward(WeightedClusters),
    /// Redirect the client.
    Redirect(Redirect),
    /// Answer it with a fixed response.
    Reply(DirectResponse),
}

/// A cluster that gets a copy of requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its name.
    pub cluster: Arc<str>,
    /// Share of the requests, 0 to 1, chosen at random.
    pub share: f64,
    /// Most bytes of a request's body that are kept for the copy.
    pub max_body: u64,
}

/// Protocols that clients may upgrade to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedUpgrades {
    /// None.
    #[default]
    None,
    /// Any protocol.
    All,
    /// These, compared without case.
    Only(Box<[Box<str>]>),
}

impl AllowedUpgrades {
    /// Whether this protocol, as in an `upgrade` header, is allowed: `websocket`, `foo/2`.
    pub fn allow(&self, protocol: &str) -> bool {
        match self {
            AllowedUpgrades::None => false,
            AllowedUpgrades::All => true,
            AllowedUpgrades::Only(list) => list.iter().any(|it| it.eq_ignore_ascii_case(protocol)),
        }
    }
}

impl Settings {
    /// Defaults of routes.
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
    /// Checks the routes of a config; paths of mistakes begin at `routes`.
    ///
    /// # Errors
    /// All mistakes.
    pub fn new(settings: &[RouteSettings], defaults: Defaults) -> Result<Self, Vec<Diagnostic>> {
        compile::routes(settings, defaults).map(Self::of)
    }

    /// A single route named `default` to one cluster.
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
        let index = RouteIndex::new(list.iter().map(|route| &route.matching));
        Self { list: list.into(), index: Arc::new(index), headers: headers.into() }
    }

    /// Request headers that any route matches or edits.
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// These routes, followed by the others.
    #[must_use]
    pub fn followed_by(self, others: Self) -> Self {
        Self::of(self.list.into_iter().chain(others.list).collect())
    }

    /// Sets the CORS rules of routes that have none.
    #[must_use]
    pub(crate) fn with_cors(mut self, cors: &Arc<Cors>) -> Self {
        for route in self.list.iter_mut().filter_map(Arc::get_mut) {
            route.cors.get_or_insert_with(|| Arc::clone(cors));
        }
        self
    }

    /// Whether any route has CORS rules.
    pub(crate) fn has_cors(&self) -> bool {
        self.list.iter().any(|route| route.cors.is_some())
    }

    /// The first route that matches. `host` is the request's authority without port, in normal
    /// form. Paths must have passed `path_fault`.
    pub fn find(&self, head: &dyn RequestHead, host: &str) -> Option<(Arc<Route>, Captures)> {
        let path = normalize::path(head.path());
        let route = self.first_match(head, host, &path)?;
        let captures = match route.captures {
            true => route.matching.path.captures(&normalize::unreserved(head.path()), &path),
            false => Captures::default(),
        };
        Some((Arc::clone(route), captures))
    }

    fn first_match(&self, head: &dyn RequestHead, host: &str, path: &str) -> Option<&Arc<Route>> {
        let matches = |route: usize| self.list[route].matching.matches(head, host, path);
        self.index.first_match(host, path, &matches).map(|route| &self.list[route])
    }

    /// Whether the path matches a route other than `route` for a service that decodes an encoded
    /// slash or backslash. Ignored if the route matched distinguishes the two spellings, unless the
    /// proxy itself answers on the other route.
    pub(crate) fn has_other_reading(
        &self,
        head: &dyn RequestHead,
        host: &str,
        route: &Arc<Route>,
    ) -> bool {
        let path = head.path();
        // Nearly every path has neither.
        if memchr::memchr2(b'%', b'\\', path.as_bytes()).is_none() {
            return false;
        }
        let other = normalize::other_reading(&normalize::path(path));
        let other = other.and_then(|path| self.first_match(head, host, &path));
        other.is_some_and(|other| {
            let answers = !matches!(other.action, Action::Forward(_));
            !Arc::ptr_eq(other, route) && (answers || !route.matching.path.distinguishes_encoding())
        })
    }

    /// All routes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.list.iter()
    }
}

/// The clusters that routes name, each with its path of keys below `routes`.
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

/// The clusters of routes that allow upgrades, which only HTTP/1.1 clusters support; each with its
/// path of keys below `routes`.
pub(crate) fn upgraded_clusters(routes: &[RouteSettings]) -> Vec<(Vec<String>, &str)> {
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
    /// Whether a request goes to one endpoint at a time.
    pub(crate) fn sends_once(&self) -> bool {
        self.mirror.is_none() && self.hedge.is_none()
    }

    /// Whether requests are changed on their way to the service.
    pub(crate) fn edits_request(&self) -> bool {
        !self.rewrite.is_none() || !self.request_edits.is_empty()
    }

    /// Whether responses are changed on their way to the client.
    pub(crate) fn edits_response(&self) -> bool {
        !self.response_edits.is_empty()
    }

    /// The host sent to the service, if it differs from the client's.
    pub fn host(&self) -> Option<HeaderValue> {
        self.rewrite.host().cloned()
    }

    /// Rewrites the request for the service: first headers, whose variables see the client's
    /// request, then path and host.
    ///
    /// # Errors
    /// Why the rewritten path is invalid.
    pub fn rewrite(
        &self,
        head: &mut request::Parts,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> Result<(), &'static str> {
        if !self.request_edits.is_empty() {
            let values = self.render_request(head, captures, variables);
            self.edit_request(&mut head.headers, &values);
        }
        self.rewrite.apply(head, captures)
    }

    /// Renders the variables of request header edits.
    pub(crate) fn render_request(
        &self,
        head: &dyn RequestHead,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> RenderedValues {
        self.request_edits.render(head, captures, variables)
    }

    /// Applies the edits of request headers.
    pub(crate) fn edit_request(&self, headers: &mut dyn HeaderLines, values: &RenderedValues) {
        self.request_edits.apply(headers, values);
    }

    /// The path for the service; `None` if it is the client's.
    ///
    /// # Errors
    /// Why the rewritten path is invalid.
    pub(crate) fn rewritten_path(
        &self,
        path: &str,
        captures: &Captures,
    ) -> Result<Option<String>, &'static str> {
        self.rewrite.path.rewrite(path, captures)
    }

    /// Renders the variables of response header edits. Must be called before `rewrite`, since it
    /// needs the client's head. Costs nothing without variables.
    pub(crate) fn render_response(
        &self,
        head: &dyn RequestHead,
        captures: &Captures,
        variables: &Variables<'_>,
    ) -> RenderedValues {
        self.response_edits.render(head, captures, variables)
    }

    /// Applies the edits of response headers.
    pub(crate) fn edit_response(&self, headers: &mut dyn HeaderLines, values: &RenderedValues) {
        self.response_edits.apply(headers, values);
    }
}

impl Action {
    /// Whether it uses captures of the match.
    fn captures(&self) -> bool {
        match self {
            Action::Redirect(redirect) => redirect.path.captures(),
            Action::Forward(_) | Action::Reply(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
