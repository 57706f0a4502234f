//! Local replies: responses made by the proxy. They carry the request id and the route's response
//! headers.

use crate::{
    active_operation::OperationEnd,
    body::Body,
    client_connection::ClientConnection,
    cors::CorsHeaders,
    dialect::{Dialect, RoutedRequest},
    header_policy::{self, HeaderPolicy},
    request_attributes::{RequestAttributes, RequestProgress},
    response_body::ResponseBody,
    routes::{RenderedValues, Route, Variables},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request, response};
use operation::{EndReason, Outcome};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a route adds to a response's headers.
pub(crate) struct RouteHeaders<'a> {
    pub(crate) route: &'a Route,
    pub(crate) values: &'a RenderedValues,
    pub(crate) cors: Option<&'a CorsHeaders>,
}

/// CORS headers for the response, if the route has `cors`.
pub(crate) fn cors_headers(route: &Route, headers: &HeaderMap) -> Option<CorsHeaders> {
    Some(route.cors.as_ref()?.headers_for(headers))
}

/// Determines id and client address of a request that is not forwarded, so that its response and
/// its log line have the same id.
pub(crate) fn assign_identity(
    connection: &ClientConnection,
    attributes: &RequestAttributes,
    headers: &HeaderMap,
) {
    let policy: &HeaderPolicy = &connection.server.plan.header_policy;
    let mut rng = connection.rng.borrow_mut();
    attributes.identity.get_or_init(|| {
        let span = attributes.span.get();
        header_policy::identity(headers, policy, &connection.peer, span, &mut rng)
    });
}

/// Values of the route's response headers if no cluster was picked.
pub(crate) fn response_values(
    attributes: &RequestAttributes,
    routed: &RoutedRequest,
    head: &request::Parts,
) -> RenderedValues {
    let traced = attributes.identity.get();
    let id = traced.and_then(|it| it.request_id.as_ref()?.to_str().ok());
    let variables = Variables {
        peer: attributes.link.peer,
        host: &attributes.host,
        request_id: id.unwrap_or_default(),
        cluster: "",
    };
    routed.route.render_response(head, &routed.captures, &variables)
}

/// The words after a status; empty if it has none.
pub(crate) fn reason_phrase(status: StatusCode) -> &'static str {
    match status.as_u16() {
        499 => "Client Closed Request",
        _ => status.canonical_reason().unwrap_or_default(),
    }
}

/// Completes a local reply. `reason` is its reason in the log.
pub(crate) fn finish(
    connection: &ClientConnection,
    attributes: &RequestAttributes,
    mut answer: Response<Body>,
    reason: Option<EndReason>,
    route_headers: Option<RouteHeaders<'_>>,
) -> Response<ResponseBody> {
    if let Some(RouteHeaders { route, values: response_values, cors }) = route_headers {
        route.edit_response(answer.headers_mut(), response_values);
        if let Some(cors) = cors {
            cors.replace(answer.headers_mut());
        }
    }
    let id = attributes.identity.get().and_then(|traced| traced.request_id.as_ref());
    complete(&*connection.server.dialect, &attributes.progress, &mut answer, (id, reason));
    answer.map(ResponseBody::untracked)
}

/// Adds the request's id to a local reply, and notes its status. `reason` is its reason in the log.
pub(crate) fn complete(
    dialect: &dyn Dialect,
    progress: &RequestProgress,
    answer: &mut Response<Body>,
    (id, reason): (Option<&HeaderValue>, Option<EndReason>),
) {
    if let Some(id) = id {
        dialect.add_request_id(answer, id.to_str().unwrap_or_default(), reason);
        answer.headers_mut().entry(REQUEST_ID).or_insert_with(|| id.clone());
    }
    progress.status.set(Some(answer.status()));
}

/// How an operation ends that a route answers with this redirect or fixed response.
pub(crate) fn end_of_direct_response(
    dialect: &dyn Dialect,
    head: &response::Parts,
) -> OperationEnd {
    match dialect.outcome_of_head(head) {
        Some(outcome) => OperationEnd { confirmed: false, ..outcome.into() },
        None => OperationEnd::new(Outcome::Ok, EndReason::LocalReply),
    }
}
