//! Answers of the proxy's own: each tells which request it is to, and carries what the request's
//! route adds to answers.

use crate::{
    body::Body,
    cors::CorsHeaders,
    dialect::RoutedRequest,
    download::ResponseBody,
    facts::RequestAttributes,
    hygiene::{self, HeaderPolicy},
    routes::{RenderedValues, Route, Variables},
    visit::ClientConnection,
};
use http::{HeaderMap, HeaderName, Response, request};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The log's word for an answer that a route's `redirect` or `reply` is.
pub(crate) const ANSWERED_HERE: &str = "answered_here";

/// What a route adds to an answer.
pub(crate) struct RouteHeaders<'a> {
    pub(crate) route: &'a Route,
    pub(crate) rendered: &'a RenderedValues,
    pub(crate) grant: Option<&'a CorsHeaders>,
}

/// What the page that asks may read of the answer, if a route says something of that.
pub(crate) fn grant(route: &Route, headers: &HeaderMap) -> Option<CorsHeaders> {
    Some(route.cors.as_ref()?.grant(headers))
}

/// Gives a request that goes nowhere its id, if it has none: its answer and its line in the log tell
/// the same one.
pub(crate) fn trace(visit: &ClientConnection, facts: &RequestAttributes, headers: &HeaderMap) {
    let hygiene: &HeaderPolicy = &visit.server.plan.hygiene;
    let mut rng = visit.rng.borrow_mut();
    facts.traced.get_or_init(|| hygiene::traced(headers, hygiene, &visit.peer, &mut rng));
}

/// What the route of a request adds to its answer, where no cluster was picked.
pub(crate) fn rendered(
    facts: &RequestAttributes,
    asked: &RoutedRequest,
    head: &request::Parts,
) -> RenderedValues {
    let traced = facts.traced.get();
    let id = traced.and_then(|it| it.request_id.as_ref()?.to_str().ok());
    let variables = Variables {
        peer: facts.link.peer,
        host: &facts.host,
        request_id: id.unwrap_or_default(),
        cluster: "",
    };
    asked.route.render_response(head, &asked.captures, &variables)
}

/// Makes an answer one to this request. `reason` is the log's word for why it is the proxy's own.
pub(crate) fn answer(
    visit: &ClientConnection,
    facts: &RequestAttributes,
    mut answer: Response<Body>,
    reason: Option<&str>,
    dress: Option<RouteHeaders<'_>>,
) -> Response<ResponseBody> {
    if let Some(RouteHeaders { route, rendered, grant }) = dress {
        route.edit_response(answer.headers_mut(), rendered);
        if let Some(grant) = grant {
            grant.replace(answer.headers_mut());
        }
    }
    let id = facts.traced.get().and_then(|traced| traced.request_id.as_ref());
    if let Some(id) = id {
        visit.server.dialect.identify(&mut answer, id.to_str().unwrap_or_default(), reason);
        answer.headers_mut().entry(REQUEST_ID).or_insert_with(|| id.clone());
    }
    facts.status.set(Some(answer.status()));
    answer.map(ResponseBody::plain)
}
