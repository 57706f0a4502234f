//! Routes: which cluster a request goes to, and what is done to it on the way.

mod answer;
mod edit;
mod path;
mod retry;
mod statuses;
mod targets;
mod template;

use crate::settings::{RouteSettings, Settings};
pub use answer::{Fixed, Redirect};
pub use edit::{Rendered, Variables};
use http::{HeaderMap, request};
pub use path::path_fault;
pub use retry::{Retry, RetryOn};
pub use statuses::Statuses;
use std::{sync::Arc, time::Duration};
pub use targets::Targets;
pub use template::Captures;
use values::Mistake;

/// The routes of a listener, in the order of its config.
#[derive(Clone, Debug)]
pub struct Routes {
    list: Box<[Arc<Route>]>,
}

/// What holds for a route that says nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// How long an answer may take in all.
    pub timeout: Option<Duration>,
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
    /// How long the answer may take in all, from the end of the request to the end of the answer.
    pub timeout: Option<Duration>,
    /// How long nothing may move either way.
    pub idle_timeout: Option<Duration>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Who gets a copy.
    pub mirror: Option<Mirror>,
    /// After how long without the head of an answer a second endpoint is asked.
    pub hedge: Option<Duration>,
    /// Which protocols clients may change to.
    pub upgrade: Upgrades,
    /// Whether clients may use `CONNECT`.
    pub connect: bool,
    /// How many bytes a request's body may have.
    pub max_request_body: Option<u64>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to a cluster.
    Forward(Targets),
    /// Its client is sent elsewhere.
    Redirect(Redirect),
    /// The proxy answers it.
    Reply(Fixed),
}

/// A cluster that gets a copy of requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its name.
    pub cluster: Arc<str>,
    /// Which part of them, 0 to 1, at random.
    pub share: f64,
}

/// Which protocols clients may change to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrades {
    /// None.
    #[default]
    None,
    /// Whichever they like.
    All,
    /// These, in lower case.
    Only(Box<[Box<str>]>),
}

impl Upgrades {
    /// Whether it may be this one, as an `upgrade` header names it: `websocket`, `foo/2`.
    pub fn allow(&self, protocol: &str) -> bool {
        match self {
            Upgrades::None => false,
            Upgrades::All => true,
            Upgrades::Only(list) => list.iter().any(|it| it.eq_ignore_ascii_case(protocol)),
        }
    }
}

impl Settings {
    /// What holds for routes that say nothing else.
    pub fn defaults(&self) -> Defaults {
        Defaults {
            timeout: Some(Duration::from_secs(15)),
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
    pub fn new(_settings: &[RouteSettings], _defaults: Defaults) -> Result<Self, Vec<Mistake>> {
        Ok(Self { list: Box::default() })
    }

    /// Everything to one cluster, as the route `default`.
    pub fn single(cluster: &str, defaults: Defaults) -> Self {
        let Defaults { timeout, idle_timeout, max_request_body } = defaults;
        let route = Route {
            name: "default".into(),
            action: Action::Forward(Targets::one(cluster)),
            timeout,
            idle_timeout,
            retry: None,
            mirror: None,
            hedge: None,
            upgrade: Upgrades::None,
            connect: false,
            max_request_body,
        };
        Self { list: Box::new([Arc::new(route)]) }
    }

    /// These, and then those.
    #[must_use]
    pub fn followed_by(self, others: Self) -> Self {
        Self { list: self.list.into_iter().chain(others.list).collect() }
    }

    /// The first route that matches. `host` is the authority that the request is for, without
    /// the port and in lower case.
    pub fn find(&self, _head: &request::Parts, _host: &str) -> Option<(Arc<Route>, Captures)> {
        self.list.first().map(|route| (Arc::clone(route), Captures::default()))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.list.iter()
    }
}

/// The clusters that routes name, each with the keys that lead there from `routes` on.
pub fn clusters(_routes: &[RouteSettings]) -> Vec<(Vec<String>, &str)> {
    Vec::new()
}

impl Route {
    /// Makes of the client's request what the service sees: headers first, whose variables tell
    /// what the client asked for, then path and host.
    ///
    /// # Errors
    /// Why the path that comes out can't be asked for.
    pub fn rewrite(
        &self,
        _head: &mut request::Parts,
        _captures: &Captures,
        _variables: &Variables<'_>,
    ) -> Result<(), &'static str> {
        Ok(())
    }

    /// Fills in the variables of what will be done to the answer's headers. To be called before
    /// `rewrite`, as long as the head is the client's. Costs nothing where there are none.
    pub fn render_response(
        &self,
        _head: &request::Parts,
        _captures: &Captures,
        _variables: &Variables<'_>,
    ) -> Rendered {
        Rendered::default()
    }

    /// Edits an answer's headers.
    pub fn edit_response(&self, _headers: &mut HeaderMap, _rendered: &Rendered) {}
}
