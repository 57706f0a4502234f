//! Routes a request without sending it (`tollgate explain`): its head takes the same steps as a
//! client's, up to the endpoint.

mod report;

use crate::{
    buffer_account::BufferAccount,
    dialect::{Dialect, RoutedRequest},
    header_policy::{self, HeadError},
    normalize,
    routes::{Action, Route, Variables},
};
use http::{
    HeaderValue, Request, StatusCode, Uri, Version,
    header::{HOST, LOCATION},
    request,
};
pub use report::DryRunReport;
use std::{fmt, net::SocketAddr};

/// A request that is not sent.
#[derive(Clone, Debug)]
pub struct DryRequest {
    /// The method.
    pub method: String,
    /// The target: a path, or a whole URL.
    pub target: String,
    /// Headers, by name.
    pub headers: Vec<(String, String)>,
    /// As HTTP/2 instead of HTTP/1.1.
    pub http2: bool,
}

/// Where the request would go.
pub struct DryRunResult {
    /// The operation's name.
    pub name: String,
    /// The route and its captures.
    pub routed: RoutedRequest,
    /// The head as received.
    pub head: request::Parts,
    /// The request's host in normal form; empty if there is none.
    pub host: Box<str>,
    /// The head as sent to the service, without the headers that the proxy adds.
    pub sent: request::Parts,
    /// Target of a redirect.
    pub location: Option<String>,
}

/// Why the request would not be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryRunError {
    /// It is not a valid request; the reason.
    Unreadable(String),
    /// The proxy answers with this status; the log reason.
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
    /// Routes the request as if `peer` had sent it.
    ///
    /// # Errors
    /// Why it would not be forwarded.
    pub fn run(
        &self,
        dialect: &dyn Dialect,
        peer: SocketAddr,
    ) -> Result<DryRunResult, DryRunError> {
        let mut head = self.head()?;
        let authority =
            header_policy::check(&head).map_err(|HeadError { violation, status, message }| {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                DryRunError::Answered(status, format!("{}: {message}", violation.0))
            })?;
        let host: Box<str> = match authority.host() {
            NO_HOST => Box::default(),
            host => normalize::host(host).into(),
        };
        let routed = dialect.route(&mut head, &host, &BufferAccount::default());
        let routed = routed.map_err(|no| {
            DryRunError::Answered(no.answer.status(), no.reason.as_str().to_owned())
        })?;
        let name = dialect.operation_name(&head.method, &head.uri).to_owned();
        let (route, captures) = (&*routed.route, &routed.captures);
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
        Ok(DryRunResult { name, routed, head, host, sent, location })
    }

    /// The request's head. Without a host it names [`NO_HOST`], which routes and policies do not
    /// see: only HTTP/1.0 allows no host.
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

/// Stands for the missing host.
const NO_HOST: &str = "host.invalid";

/// The first cluster of a route.
fn cluster(route: &Route) -> &str {
    match &route.action {
        Action::Forward(targets) => targets.names().next().map_or("", |name| name),
        Action::Redirect(_) | Action::Reply(_) => "",
    }
}
