//! What protocols that travel by HTTP do differently: what a request is called, how a *no* is said,
//! and what an answer tells of the end.

use crate::{
    body::Body,
    buffered::BufferAccount,
    retry::{AttemptFailure, Pushback},
    routes::{Captures, Route},
};
use http::{HeaderMap, HeaderName, Method, Response, Uri, request, response};
use operation::{Outcome, Protocol, Reason, Refusal};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A protocol that travels by HTTP.
pub trait Dialect: 'static {
    /// What it is called, and what it counts.
    fn protocol(&self) -> &'static Protocol;

    /// The headers of requests that routes look at or edit: a client may send none that a service
    /// reads as one of these.
    fn headers(&self) -> &[HeaderName] {
        &[]
    }

    /// Reads a request's head: where it goes, and who translates it. `host` is the authority that
    /// it is for, without the port and in normal form; what has to be held of bodies is counted in
    /// `buffered`.
    ///
    /// # Errors
    /// The answer to a request that goes nowhere. It is counted as a request that was rejected.
    #[expect(clippy::result_large_err, reason = "a request that goes nowhere is rare")]
    fn read(
        &self,
        head: &mut request::Parts,
        host: &str,
        buffered: &BufferAccount,
    ) -> Result<RoutedRequest, UnroutedRequest>;

    /// What the operation is called.
    fn name<'h>(&self, method: &'h Method, uri: &'h Uri) -> &'h str;

    /// Whether names are of a list that the proxy knows, so that no client makes them up.
    fn knows(&self, name: &str) -> bool;

    /// Says no in the protocol's words, and in the client's if somebody translates. `asked` is `None` where not even the head could be read as
    /// this protocol's.
    fn refuse(&self, asked: Option<&RoutedRequest>, why: &HttpRejection<'_>) -> Response<Body>;

    /// Writes into an answer of the proxy's own which request it is to, and the log's word for why,
    /// where its body has a place for that.
    fn identify(&self, _answer: &mut Response<Body>, _id: &str, _reason: Option<&str>) {}

    /// Says that a request's head can't be taken, for which HTTP has this status; `None` where HTTP's
    /// own words do.
    fn unread(
        &self,
        _head: &request::Parts,
        _status: u16,
        _message: &str,
    ) -> Option<Response<Body>> {
        None
    }

    /// What the head of an answer tells of the end; `None` if that is still to come, in trailers.
    fn judge(&self, head: &response::Parts) -> Option<ResponseOutcome>;

    /// What an answer's trailers, or their absence, tell of the end.
    fn judge_trailers(&self, trailers: Option<&HeaderMap>) -> ResponseOutcome;

    /// What the head of an answer that was made for a client tells of the end.
    fn retold(&self, _head: &response::Parts) -> Option<ResponseOutcome> {
        None
    }

    /// The trailers that end an answer which broke off after its head, where the protocol has
    /// words for that. Elsewhere the client is left with an answer that is cut short.
    fn last_words(&self, _reason: Reason, _message: &str) -> Option<HeaderMap> {
        None
    }

    /// Tells the service how long its client still waits.
    fn shorten(&self, _head: &mut request::Parts, _left: Duration) {}

    /// What routes call a failure whose [`Judged::number`] this is.
    fn failure(&self, number: u16) -> AttemptFailure {
        AttemptFailure::Status(number)
    }

    /// Whether a request over HTTP/2 may go on for as long as its client likes. Elsewhere it has as
    /// long as any message to the listener.
    fn streams(&self) -> bool {
        false
    }

    /// When the service wants to be asked again, as an answer's head or its trailers tell it.
    fn pushback(&self, told: &HeaderMap) -> Pushback {
        Pushback::of_http(told, SystemTime::now())
    }

    /// Follows the bytes of one operation, to count what they carry.
    fn meter(&self) -> Option<Box<dyn Meter>> {
        None
    }
}

/// A request that goes somewhere.
pub struct RoutedRequest {
    /// Where.
    pub route: Arc<Route>,
    /// What the route's template found in the path.
    pub captures: Captures,
    /// How long the client itself waits at most.
    pub patience: Option<Duration>,
    /// Who makes of the client's words the service's, and back.
    pub translator: Option<Box<dyn Translator>>,
    /// A page of another site asks, and may not read the answer (CORS).
    pub origin_refused: bool,
}

/// A request that goes nowhere.
pub struct UnroutedRequest {
    /// Why, as logs and metrics tell it: `no_route`.
    pub reason: &'static str,
    /// What the client is told.
    pub answer: Response<Body>,
}

/// A *no*, and the HTTP status that it has in plain HTTP.
pub struct HttpRejection<'a> {
    /// Why.
    pub refusal: Refusal<'a>,
    /// The status that plain HTTP says it by, 400 to 599.
    pub status: http::StatusCode,
}

/// How an operation ended, as its answer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOutcome {
    /// Whose fault it was.
    pub outcome: Outcome,
    /// The error's name, from a fixed list: `UNAVAILABLE`.
    pub code: Option<&'static str>,
    /// The protocol's own number for it: an HTTP status, a gRPC status.
    pub number: u16,
}

/// Makes one protocol's words of another's, for one operation.
pub trait Translator {
    /// Makes what the service is asked of what the client asks. The head was read already.
    fn ask(&mut self, head: &mut request::Parts, body: Body) -> Body;

    /// Whether what the service is asked comes in one piece, once all of it is there. A service of
    /// HTTP/1.1 is then told its length, and asked for nothing before.
    fn asks_at_once(&self) -> bool {
        false
    }

    /// Makes what the client is answered of what the service answers. What has to be read in full
    /// first is bounded by the translator.
    fn answer(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>>;

    /// Whether the client's body broke off for the translator's sake: it said what nobody can be
    /// asked. A refusal then tells what, whatever else it would have said.
    fn is_spoilt(&self) -> bool {
        false
    }

    /// Puts a refusal, said in the service's protocol, into the client's words.
    fn refuse(&self, no: Response<Body>) -> Response<Body> {
        no
    }
}

/// Counts what the bytes of one operation carry.
pub trait Meter {
    /// More of the request's body.
    fn asked(&mut self, bytes: &[u8]);

    /// More of the answer's body.
    fn answered(&mut self, bytes: &[u8]);

    /// How many messages the request and the answer have carried.
    fn items(&self) -> (u64, u64);
}

/// One that all workers share.
impl<D: Dialect> Dialect for Arc<D> {
    fn protocol(&self) -> &'static Protocol {
        (**self).protocol()
    }

    fn headers(&self) -> &[HeaderName] {
        (**self).headers()
    }

    fn read(
        &self,
        head: &mut request::Parts,
        host: &str,
        buffered: &BufferAccount,
    ) -> Result<RoutedRequest, UnroutedRequest> {
        (**self).read(head, host, buffered)
    }

    fn name<'h>(&self, method: &'h Method, uri: &'h Uri) -> &'h str {
        (**self).name(method, uri)
    }

    fn knows(&self, name: &str) -> bool {
        (**self).knows(name)
    }

    fn refuse(&self, asked: Option<&RoutedRequest>, why: &HttpRejection<'_>) -> Response<Body> {
        (**self).refuse(asked, why)
    }

    fn identify(&self, answer: &mut Response<Body>, id: &str, reason: Option<&str>) {
        (**self).identify(answer, id, reason);
    }

    fn unread(&self, head: &request::Parts, status: u16, message: &str) -> Option<Response<Body>> {
        (**self).unread(head, status, message)
    }

    fn judge(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        (**self).judge(head)
    }

    fn judge_trailers(&self, trailers: Option<&HeaderMap>) -> ResponseOutcome {
        (**self).judge_trailers(trailers)
    }

    fn retold(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        (**self).retold(head)
    }

    fn last_words(&self, reason: Reason, message: &str) -> Option<HeaderMap> {
        (**self).last_words(reason, message)
    }

    fn shorten(&self, head: &mut request::Parts, left: Duration) {
        (**self).shorten(head, left);
    }

    fn failure(&self, number: u16) -> AttemptFailure {
        (**self).failure(number)
    }

    fn streams(&self) -> bool {
        (**self).streams()
    }

    fn pushback(&self, told: &HeaderMap) -> Pushback {
        (**self).pushback(told)
    }

    fn meter(&self) -> Option<Box<dyn Meter>> {
        (**self).meter()
    }
}
