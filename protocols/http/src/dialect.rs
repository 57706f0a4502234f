//! What protocols over HTTP (plain HTTP, gRPC) do differently: routing, operation names, error
//! responses, and the outcome of a response.

use crate::{
    body::Body,
    buffer_account::BufferAccount,
    retry::{AttemptFailure, Pushback},
    routes::{Captures, Route, Routes},
};
use http::{HeaderMap, HeaderName, Method, Response, Uri, request, response};
use operation::{EndReason, Outcome, Protocol, RejectReason, RejectionRef};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A protocol over HTTP. All workers share it.
pub trait Dialect: Send + Sync + 'static {
    /// Name and metrics of the protocol.
    fn protocol(&self) -> &'static Protocol;

    /// Request headers that routes match or edit. Client headers that a service may read as one of
    /// these are removed.
    fn matched_headers(&self) -> &[HeaderName] {
        &[]
    }

    /// Routes a request by its head. `host` is the authority without port, in normal form; memory
    /// held for bodies is counted in `buffered`.
    ///
    /// # Errors
    /// The response to a request without route, which counts as rejected.
    #[expect(clippy::result_large_err, reason = "a request that goes nowhere is rare")]
    fn route(
        &self,
        head: &mut request::Parts,
        host: &str,
        buffered: &BufferAccount,
    ) -> Result<RoutedRequest, UnroutedRequest>;

    /// The operation's name.
    fn operation_name<'h>(&self, method: &'h Method, uri: &'h Uri) -> &'h str;

    /// Whether the name is from a fixed list, so that clients cannot create arbitrary metric
    /// labels.
    fn is_known_name(&self, name: &str) -> bool;

    /// Makes an error response in the client's protocol. `routed` is `None` if the head is not valid
    /// in this protocol.
    fn reject(&self, routed: Option<&RoutedRequest>, why: &HttpRejection<'_>) -> Response<Body>;

    /// Adds the request id and the log reason to the body of a local reply, if its format has
    /// fields for them.
    fn add_request_id(&self, _answer: &mut Response<Body>, _id: &str, _reason: Option<EndReason>) {}

    /// Makes the error response to an invalid request head with this HTTP status; `None` if plain
    /// HTTP's format is used.
    fn reject_head(
        &self,
        _head: &request::Parts,
        _status: u16,
        _message: &str,
    ) -> Option<Response<Body>> {
        None
    }

    /// The outcome as far as the response's head shows it; `None` if it is in the trailers.
    fn outcome_of_head(&self, head: &response::Parts) -> Option<ResponseOutcome>;

    /// The outcome of a response with these trailers, or without trailers.
    fn outcome_of_trailers(&self, trailers: Option<&HeaderMap>) -> ResponseOutcome;

    /// The outcome that the head of a translated response shows.
    fn translated_outcome(&self, _head: &response::Parts) -> Option<ResponseOutcome> {
        None
    }

    /// Trailers that end a response which failed after its head, if the protocol has an error
    /// status there. Otherwise the response is truncated.
    fn error_trailers(&self, _reason: RejectReason, _message: &str) -> Option<HeaderMap> {
        None
    }

    /// Writes the client's remaining time into the request, if the protocol has a header for it.
    fn set_time_left(&self, _head: &mut request::Parts, _left: Duration) {}

    /// The failure that a route's retry policy sees for a [`ResponseOutcome::status`].
    fn failure(&self, number: u16) -> AttemptFailure {
        AttemptFailure::Status(number)
    }

    /// Whether an HTTP/2 request body may last as long as the client wants. Otherwise the
    /// listener's `message_timeout` applies.
    fn allows_endless_requests(&self) -> bool {
        false
    }

    /// When the service wants a retry, from the response's head or trailers.
    fn pushback(&self, headers: &HeaderMap) -> Pushback {
        Pushback::of_http(headers, SystemTime::now())
    }

    /// The routes, if requests other than preflights need nothing of the dialect until their responses.
    fn direct_routes(&self) -> Option<&Routes> {
        None
    }

    /// Counts the messages of one operation.
    fn meter(&self) -> Option<Box<dyn Meter>> {
        None
    }
}

/// A request that has a route.
pub struct RoutedRequest {
    /// The route.
    pub route: Arc<Route>,
    /// Path parameters that the route's template captured.
    pub captures: Captures,
    /// The client's own timeout, such as `grpc-timeout`.
    pub client_timeout: Option<Duration>,
    /// Translates between the client's protocol and the service's.
    pub translator: Option<Box<dyn Translator>>,
    /// The origin of the calling page is not allowed (CORS).
    pub origin_refused: bool,
}

/// A request without route, and its response.
pub struct UnroutedRequest {
    /// Reason for logs and metrics: `no_route`.
    pub reason: EndReason,
    /// The response to the client.
    pub answer: Response<Body>,
}

/// A rejection with its status in plain HTTP.
pub struct HttpRejection<'a> {
    /// Reason and message.
    pub refusal: RejectionRef<'a>,
    /// HTTP status, 400 to 599.
    pub status: http::StatusCode,
}

/// The outcome of an operation, from its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOutcome {
    /// Success, or whose fault the failure is.
    pub outcome: Outcome,
    /// The error's name from a fixed list: `UNAVAILABLE`.
    pub code: Option<&'static str>,
    /// The protocol's status code: of HTTP or of gRPC.
    pub status: u16,
}

/// Translates one operation between two protocols.
pub trait Translator {
    /// Translates the request. `head` was routed already.
    fn translate_request(&mut self, head: &mut request::Parts, body: Body) -> Body;

    /// Whether the translated request is one buffer that is available only after the whole client
    /// body. Its length is then known to an HTTP/1.1 service, and `100-continue` is not sent.
    fn buffers_request(&self) -> bool {
        false
    }

    /// Translates the response. The translator bounds what it must buffer.
    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>>;

    /// Whether the client's body ended because the translator found it invalid. The rejection then
    /// says what is wrong.
    fn is_request_invalid(&self) -> bool {
        false
    }

    /// Translates a rejection from the service's protocol into the client's.
    fn translate_rejection(&self, rejection: Response<Body>) -> Response<Body> {
        rejection
    }
}

/// Counts the messages in the bytes of one operation.
pub trait Meter {
    /// Counts request body bytes.
    fn on_request(&mut self, bytes: &[u8]);

    /// Counts response body bytes.
    fn on_response(&mut self, bytes: &[u8]);

    /// Numbers of messages in the request and in the response.
    fn message_counts(&self) -> (u64, u64);
}
