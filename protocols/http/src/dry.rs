//! What would become of a request, for who asks without sending one: its head goes the way that
//! heads of clients go, as far as the proxy itself decides.

use crate::{
    buffered::BufferAccount,
    dialect::{Dialect, RoutedRequest},
    hygiene::{self, HeadError},
    normal,
    routes::{Action, Route, Variables},
};
use http::{
    HeaderValue, Request, StatusCode, Uri, Version,
    header::{HOST, LOCATION},
    request,
};
use std::{fmt, net::SocketAddr};

/// A request that nobody sends.
#[derive(Clone, Debug)]
pub struct DryRequest {
    /// The method.
    pub method: String,
    /// The target: a path, or a whole URL.
    pub target: String,
    /// Headers, by name.
    pub headers: Vec<(String, String)>,
    /// By HTTP/2, and not by HTTP/1.1.
    pub http2: bool,
}

/// Where it would go.
pub struct DryRunResult {
    /// What the operation is called.
    pub name: String,
    /// The route, and what it takes from the path.
    pub asked: RoutedRequest,
    /// The head as it came in.
    pub head: request::Parts,
    /// The host that it is for, in normal form; empty if none was given.
    pub host: Box<str>,
    /// The head as the service sees it, before the proxy's own headers are added.
    pub sent: request::Parts,
    /// Where a redirect leads.
    pub location: Option<String>,
}

/// Why it would go nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryRunError {
    /// It is no request: why.
    Unreadable(String),
    /// The proxy answers it with this status, for this reason, as the log has it.
    Answered(StatusCode, String),
}

impl fmt::Display for DryRunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DryRunError::Unreadable(why) => f.write_str(why),
            DryRunError::Answered(status, why) => write!(f, "answered {} ({why})", status.as_u16()),
        }
    }
}

impl DryRequest {
    /// What becomes of it. `peer` is who would send it.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn ask(
        &self,
        dialect: &dyn Dialect,
        peer: SocketAddr,
    ) -> Result<DryRunResult, DryRunError> {
        let mut head = self.head()?;
        let authority =
            hygiene::check(&head).map_err(|HeadError { violation, status, message }| {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                DryRunError::Answered(status, format!("{}: {message}", violation.0))
            })?;
        let host: Box<str> = match authority.host() {
            NO_HOST => Box::default(),
            host => normal::host(host).into(),
        };
        let asked = dialect.read(&mut head, &host, &BufferAccount::default());
        let asked =
            asked.map_err(|no| DryRunError::Answered(no.answer.status(), no.reason.to_owned()))?;
        let name = dialect.name(&head.method, &head.uri).to_owned();
        let (route, captures) = (&*asked.route, &asked.captures);
        let mut sent = head.clone();
        let variables = Variables { peer, host: &host, request_id: "", cluster: cluster(route) };
        route.rewrite(&mut sent, captures, &variables).map_err(|why| {
            DryRunError::Answered(StatusCode::BAD_REQUEST, format!("the path becomes none: {why}"))
        })?;
        let location = match &route.action {
            Action::Redirect(redirect) => {
                let answer = redirect.answer(&head, captures, "http");
                let location = answer.headers().get(LOCATION);
                location.and_then(|it| it.to_str().ok()).map(str::to_owned)
            }
            Action::Forward(_) | Action::Reply(_) => None,
        };
        Ok(DryRunResult { name, asked, head, host, sent, location })
    }

    /// The head that a client would send. Without a host it names [`NO_HOST`], which no route and no
    /// policy gets to see: only HTTP/1.0 does without one.
    fn head(&self) -> Result<request::Parts, DryRunError> {
        let unreadable = |why: &dyn fmt::Display| DryRunError::Unreadable(why.to_string());
        let uri: Uri =
            self.target.parse().map_err(|why: http::uri::InvalidUri| unreadable(&why))?;
        let mut request = Request::builder().method(&*self.method);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(|why| unreadable(&why))?;
        let (mut head, ()) = request.into_parts();
        head.version = if self.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let authority = uri.authority().map_or(NO_HOST, |authority| authority.as_str());
        let value = HeaderValue::from_str(authority).map_err(|it| unreadable(&it))?;
        head.headers.entry(HOST).or_insert(value);
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        head.uri = path.parse().map_err(|why: http::uri::InvalidUri| unreadable(&why))?;
        Ok(head)
    }
}

/// Who a request is for that names no host.
const NO_HOST: &str = "host.invalid";

/// The name of a route's cluster, where there is just one.
fn cluster(route: &Route) -> &str {
    match &route.action {
        Action::Forward(targets) => targets.names().next().map_or("", |name| name),
        Action::Redirect(_) | Action::Reply(_) => "",
    }
}
