//! An incoming request: checks and routes its head, asks all policies, and hands it on.

use crate::{
    active_operation::{ActiveOperation, OperationEnd},
    admission::{ask_policies, operation},
    admitted_request::AdmittedRequest,
    body::Body,
    client_connection::{Admitted, ClientConnection},
    client_io::is_error_placeholder,
    cors,
    dialect::{Dialect, HttpRejection, RoutedRequest, UnroutedRequest},
    header_policy::{self, Authority, HeadError},
    local_reply::{self, RouteHeaders},
    request_attributes::{self, AttributesWithHeaders, RequestAttributes, RequestFlags},
    response_body::ResponseBody,
};
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use operation::{
    Attempt, AttributeValue, Attributes, EndReason, OpenSpan, Operation, Outcome, RejectMode,
    RejectReason, Rejection, RejectionRef, Settlement, Ticket, Violation,
};
use std::{cell::RefCell, error::Error, fmt, net::IpAddr, rc::Rc, time::Instant};

/// Resource of requests without a route.
pub const UNROUTED: &str = "unrouted";

/// The request's path is ambiguous.
const AMBIGUOUS_PATH: Violation = Violation("ambiguous_path");

/// The request gets no response: its HTTP/1 connection or HTTP/2 stream is closed.
#[derive(Debug)]
pub(crate) enum Abort {
    /// Closed by a policy, or the client is gone.
    Closed,
    /// The client exceeds a limit. An HTTP/2 stream is reset with this error.
    Flood(h2::Error),
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl Error for Abort {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Abort::Closed => None,
            Abort::Flood(error) => Some(error),
        }
    }
}

pub(crate) type ResponseResult = Result<Response<ResponseBody>, Abort>;

/// Handles one request.
pub(crate) async fn handle(
    connection: Rc<ClientConnection>,
    request: Request<Body>,
) -> ResponseResult {
    let began = Instant::now();
    connection.requests.set(connection.requests.get() + 1);
    let (mut head, body) = request.into_parts();
    let size = request_attributes::head_size(
        head.method.as_str().len() + head.uri.path().len() + 12,
        &head.headers,
    );
    if let Some(response) = reject_malformed(&connection, &head, size) {
        return response;
    }
    let authority = match header_policy::check(&head) {
        Ok(authority) => authority,
        Err(HeadError { violation, status, message }) => {
            connection.session.count_violation(violation);
            return Ok(untracked(reject_head(&connection, &head, status, violation, message)));
        }
    };
    let odd_names = connection.remove_lookalikes(&mut head.headers);
    let (session, peer) = (&connection.session, Rc::clone(&connection.peer_text));
    let attributes = Rc::new(RequestAttributes::new(session, peer, &head, authority.host()));
    let incoming = IncomingRequest {
        connection: &connection,
        attributes: &attributes,
        authority: &authority,
        odd_names,
        started: began,
    };
    let routed = incoming.route(&mut head);
    if let Some(rejection) = &connection.rejection {
        return incoming.reject_connection(&head, routed, rejection);
    }
    let ticket = incoming.admit(&head, routed.as_ref().ok()).await;
    let (routed, ticket) = match (routed, ticket) {
        (Ok(routed), Ok(ticket)) => (routed, ticket),
        (Ok(_), Err(answer)) => return answer,
        (Err(unrouted), ticket) => {
            return Ok(incoming.unrouted_response(unrouted, ticket.ok(), size));
        }
    };
    let terms = ticket.effects().cloned().unwrap_or_default();
    let meter = connection.server.dialect.meter();
    let operation = ActiveOperation::new(ticket, attributes, began, meter, &connection);
    operation.request_bytes.set(size);
    let response_values = std::cell::OnceCell::new();
    let cors = local_reply::cors_headers(&routed.route, &head.headers);
    let request = AdmittedRequest {
        connection,
        operation,
        head,
        routed,
        terms,
        authority,
        response_values,
        cors,
    };
    let request = Box::new(request);
    request.handle(body).await
}

/// The response to a request that no policy sees: a head that could not be read, or one beyond the
/// connection's limits. `None` if the request may go on. `size` is the head's, in bytes.
fn reject_malformed(
    connection: &Rc<ClientConnection>,
    head: &request::Parts,
    size: u64,
) -> Option<ResponseResult> {
    if connection.state.had_h1_error.get()
        && is_error_placeholder(head.uri.path())
        && let Some(fault) = connection.state.h1_error.take()
    {
        connection.close_after_response.set(true);
        return Some(Ok(untracked(invalid_request_response(
            fault.status,
            fault.violation,
            fault.message,
        ))));
    }
    if !connection.allows_headers(&head.headers, size) {
        return Some(Err(Abort::Flood(h2::Reason::ENHANCE_YOUR_CALM.into())));
    }
    if head.version >= Version::HTTP_2
        && let Some(fault) = connection.server.plan.limits().check(head)
    {
        connection.session.count_violation(fault.violation);
        return Some(Ok(untracked(reject_head(
            connection,
            head,
            fault.status,
            fault.violation,
            fault.message,
        ))));
    }
    None
}

/// The response to a request with an invalid head, in the dialect's format if it has one.
fn reject_head(
    connection: &ClientConnection,
    head: &request::Parts,
    status: u16,
    violation: Violation,
    message: &str,
) -> Response<Body> {
    let answer = connection.server.dialect.reject_head(head, status, message);
    answer.unwrap_or_else(|| invalid_request_response(status, violation, message))
}

/// The response to an invalid request.
pub(crate) fn invalid_request_response(
    status: u16,
    violation: Violation,
    message: &str,
) -> Response<Body> {
    tracing::debug!(violation = violation.0, "refused: {message}");
    let body = serde_json::json!({ "error": violation.0, "message": message }).to_string();
    let mut answer = Response::new(Body::from(bytes::Bytes::from(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

/// The body of a response that belongs to no operation.
fn untracked(answer: Response<Body>) -> Response<ResponseBody> {
    answer.map(ResponseBody::untracked)
}

/// A request before it is admitted.
struct IncomingRequest<'v> {
    connection: &'v Rc<ClientConnection>,
    attributes: &'v Rc<RequestAttributes>,
    authority: &'v Authority,
    /// Whether a header name has characters other than letters, digits and `-`.
    odd_names: bool,
    started: Instant,
}

impl IncomingRequest<'_> {
    /// Finds the request's route.
    #[expect(clippy::result_large_err, reason = "a request that goes nowhere is rare")]
    fn route(&self, head: &mut request::Parts) -> Result<RoutedRequest, UnroutedRequest> {
        let routed = self.connection.server.dialect.route(
            head,
            &self.attributes.host,
            &self.connection.buffers,
        );
        match &routed {
            Ok(routed) if routed.origin_refused => {
                self.attributes.progress.add_flag(RequestFlags::ORIGIN_REFUSED);
                self.connection.session.count_violation(cors::REFUSED);
            }
            Ok(_) => {}
            Err(UnroutedRequest { answer, reason }) => {
                self.attributes.progress.status.set(Some(answer.status()));
                local_reply::assign_identity(self.connection, self.attributes, &head.headers);
                match *reason {
                    EndReason::AmbiguousPath => {
                        self.connection.session.count_violation(AMBIGUOUS_PATH)
                    }
                    EndReason::OriginRefused => {
                        self.connection.session.count_violation(cors::REFUSED)
                    }
                    _ => {}
                }
            }
        }
        routed
    }

    /// Takes a request over that policies have admitted already.
    fn take_over(&self, admitted: Admitted) -> Ticket {
        if let Some(span) = admitted.span {
            self.attributes.set_span(span, &self.connection.server.plan.header_policy);
        }
        admitted.ticket
    }

    /// Asks all policies, unless they have admitted the request already. The error is the response of the policy
    /// that rejects.
    async fn admit(
        &self,
        head: &request::Parts,
        routed: Option<&RoutedRequest>,
    ) -> Result<Ticket, ResponseResult> {
        if let Some(admitted) = self.connection.admitted.take() {
            return Ok(self.take_over(admitted));
        }
        let with = AttributesWithHeaders {
            attributes: self.attributes,
            headers: &head.headers,
            policy: &self.connection.server.plan.header_policy,
            peer: &self.connection.peer,
            authority: self.authority,
            odd_names: self.odd_names,
        };
        let attributes =
            AdmitAttributes { request: self, routed, head, with, answer: RefCell::new(None) };
        let operation = self.operation(head, routed, &attributes);
        let admitted = ask_policies(&*self.connection.session, &operation, self.started).await;
        admitted.map_err(|_| attributes.answer.take().unwrap_or(Err(Abort::Closed)))
    }

    /// The operation that policies see.
    fn operation<'a>(
        &'a self,
        head: &'a request::Parts,
        routed: Option<&'a RoutedRequest>,
        attributes: &'a dyn Attributes,
    ) -> Operation<'a> {
        let dialect = &*self.connection.server.dialect;
        let name = dialect.operation_name(&head.method, &head.uri);
        let resource = routed.map_or(UNROUTED, |routed| &*routed.route.name);
        operation(dialect, (name, resource), attributes)
    }

    /// The response to a request that a policy rejects.
    fn rejection(
        &self,
        head: &request::Parts,
        routed: &RoutedRequest,
        rejection: &Rejection,
    ) -> ResponseResult {
        local_reply::assign_identity(self.connection, self.attributes, &head.headers);
        match rejection.mode {
            RejectMode::Reply => {
                let answer = rejection_response(
                    &*self.connection.server.dialect,
                    routed,
                    rejection.as_ref(),
                );
                let response_values = local_reply::response_values(self.attributes, routed, head);
                let route = &routed.route;
                let cors = local_reply::cors_headers(route, &head.headers);
                let route_headers =
                    RouteHeaders { route, values: &response_values, cors: cors.as_ref() };
                Ok(local_reply::finish(
                    self.connection,
                    self.attributes,
                    answer,
                    None,
                    Some(route_headers),
                ))
            }
            RejectMode::Close | RejectMode::Reset => {
                let reset = rejection.mode == RejectMode::Reset;
                self.connection.abort(self.attributes.version, rejection.reason.close(), reset);
                Err(Abort::Closed)
            }
        }
    }

    /// Rejects a request of a connection that a policy rejected. It is settled as rejected; no
    /// policy is asked about it.
    fn reject_connection(
        &self,
        head: &request::Parts,
        routed: Result<RoutedRequest, UnroutedRequest>,
        rejection: &Rejection,
    ) -> ResponseResult {
        let (routed, reason, answer) = match routed {
            Ok(routed) => {
                let answer = self.rejection(head, &routed, rejection);
                (Some(routed), rejection.reason.into(), answer)
            }
            Err(UnroutedRequest { reason, answer }) => {
                let answer = local_reply::finish(
                    self.connection,
                    self.attributes,
                    answer,
                    Some(reason),
                    None,
                );
                (None, reason, Ok(answer))
            }
        };
        let how = Settlement {
            reason: Some(reason),
            policy: rejection.as_ref().policy.filter(|_| routed.is_some()),
            attributes: &**self.attributes,
            ..Settlement::new(Outcome::Rejected, Instant::now())
        };
        let operation = self.operation(head, routed.as_ref(), &**self.attributes);
        self.connection.session.record_rejected(&operation, self.started, &how);
        answer
    }

    /// Settles a request without route, and returns its response.
    fn unrouted_response(
        &self,
        UnroutedRequest { reason, answer }: UnroutedRequest,
        ticket: Option<Ticket>,
        size: u64,
    ) -> Response<ResponseBody> {
        if let Some(ticket) = ticket {
            let operation = ActiveOperation::new(
                ticket,
                Rc::clone(self.attributes),
                self.started,
                None,
                self.connection,
            );
            operation.request_bytes.set(size);
            let answered = reason == EndReason::Preflight;
            let outcome = if answered { Outcome::Ok } else { Outcome::Rejected };
            operation.settle(&OperationEnd::new(outcome, reason));
        }
        local_reply::finish(self.connection, self.attributes, answer, Some(reason), None)
    }
}

/// Attributes for the policies, and the response once one of them rejects: the log line has the
/// response's status.
struct AdmitAttributes<'c> {
    request: &'c IncomingRequest<'c>,
    routed: Option<&'c RoutedRequest>,
    head: &'c request::Parts,
    with: AttributesWithHeaders<'c>,
    answer: RefCell<Option<ResponseResult>>,
}

impl Attributes for AdmitAttributes<'_> {
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.with.get(front, name)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.with.peer()
    }

    fn on_traced(&self, span: OpenSpan) {
        self.with.attributes.set_span(span, self.with.policy);
    }

    fn span(&self) -> Option<(&OpenSpan, Vec<Attempt>)> {
        self.with.attributes.span()
    }

    fn on_rejected(&self, rejection: &Rejection) {
        if let Some(routed) = self.routed {
            *self.answer.borrow_mut() = Some(self.request.rejection(self.head, routed, rejection));
        }
    }
}

/// A rejection in the dialect's format.
pub(crate) fn rejection_response(
    dialect: &dyn Dialect,
    routed: &RoutedRequest,
    refusal: RejectionRef<'_>,
) -> Response<Body> {
    let status = match refusal.reason {
        RejectReason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        RejectReason::Denied => StatusCode::FORBIDDEN,
        RejectReason::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        RejectReason::Lost => StatusCode::BAD_GATEWAY,
        RejectReason::Invalid => StatusCode::BAD_REQUEST,
        RejectReason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RejectReason::Overloaded | RejectReason::NoEndpoint | RejectReason::Injected => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    dialect.reject(Some(routed), &HttpRejection { refusal, status })
}
