//! A request's way in: its head is checked and read, every policy is asked, and then it is served.

use crate::{
    body::Body,
    cors::{self, ORIGIN_REFUSED},
    dialect::{Dialect, HttpRejection, RoutedRequest, UnroutedRequest},
    download::ResponseBody,
    facts::{self, AttributesWithHeaders, RequestAttributes, RequestFlags},
    hygiene::{self, Authority, HeadError},
    line::is_faulty,
    own::{self, RouteHeaders},
    record::{ActiveOperation, OperationEnd},
    serving::AdmittedRequest,
    visit::ClientConnection,
};
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use hyper::body::Incoming;
use operation::{
    Attributes, Fact, Manner, Operation, Outcome, Reason, Refusal, Settlement, Ticket, Verdict,
    Violation,
};
use std::{cell::RefCell, error::Error, fmt, net::IpAddr, rc::Rc, time::Instant};

/// What requests that no route takes are about.
const UNROUTED: &str = "unrouted";

/// A path that means two things was asked for.
const AMBIGUOUS_PATH: Violation = Violation("ambiguous_path");

/// Nothing is answered: the connection ends, or of several streams this one.
#[derive(Debug)]
pub(crate) enum Abort {
    /// On purpose.
    Closed,
    /// The client asks for too much. A stream of HTTP/2 ends with this error.
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

/// Serves one request.
pub(crate) async fn exchange(
    visit: Rc<ClientConnection>,
    request: Request<Incoming>,
) -> ResponseResult {
    let began = Instant::now();
    visit.served.set(visit.served.get() + 1);
    let (mut head, body) = request.into_parts();
    let size = facts::size(head.method.as_str().len() + head.uri.path().len() + 12, &head.headers);
    if visit.notes.faulty.get()
        && is_faulty(head.uri.path())
        && let Some(fault) = visit.notes.fault.take()
    {
        visit.last.set(true);
        return Ok(plain(flawed(&visit, fault.status, fault.violation, fault.message)));
    }
    if !visit.affords(&head.headers, size) {
        return Err(Abort::Flood(h2::Reason::ENHANCE_YOUR_CALM.into()));
    }
    if head.version >= Version::HTTP_2
        && let Some(fault) = visit.server.plan.limits().fault(&head)
    {
        visit.door.violation(fault.violation);
        return Ok(plain(unread(&visit, &head, fault.status, fault.violation, fault.message)));
    }
    let authority = match hygiene::check(&head) {
        Ok(authority) => authority,
        Err(HeadError { violation, status, message }) => {
            visit.door.violation(violation);
            return Ok(plain(unread(&visit, &head, status, violation, message)));
        }
    };
    let odd_names = visit.take_away_folded(&mut head.headers);
    let (link, peer) = (visit.door.link(), Rc::clone(&visit.address));
    let facts = Rc::new(RequestAttributes::new(link, peer, &head, authority.host()));
    let call =
        IncomingRequest { visit: &visit, facts: &facts, authority: &authority, odd_names, began };
    let asked = call.read(&mut head);
    if let Some(no) = &visit.turned_away {
        return call.turned_away(&head, asked, no);
    }
    let ticket = call.admit(&head, asked.as_ref().ok()).await;
    let (asked, ticket) = match (asked, ticket) {
        (Ok(asked), Ok(ticket)) => (asked, ticket),
        (Ok(_), Err(answer)) => return answer,
        (Err(misdirected), ticket) => return Ok(call.misdirected(misdirected, ticket.ok(), size)),
    };
    let terms = ticket.terms().cloned();
    let record = ActiveOperation::new(ticket, facts, began, visit.server.dialect.meter(), &visit);
    record.request_bytes.set(size);
    let terms = terms.unwrap_or_default();
    let rendered = std::cell::OnceCell::new();
    let grant = own::grant(&asked.route, &head.headers);
    let serving = AdmittedRequest { visit, record, head, asked, terms, authority, rendered, grant };
    let serving = Box::new(serving);
    serving.serve(Body::Incoming(body)).await
}

/// An answer to a request whose head is here and can't be taken, in its protocol's words if it has
/// some for that.
fn unread(
    visit: &ClientConnection,
    head: &request::Parts,
    status: u16,
    violation: Violation,
    message: &str,
) -> Response<Body> {
    let answer = visit.server.dialect.unread(head, status, message);
    answer.unwrap_or_else(|| flawed(visit, status, violation, message))
}

/// An answer to a request that can't be read.
pub(crate) fn flawed(
    visit: &ClientConnection,
    status: u16,
    violation: Violation,
    message: &str,
) -> Response<Body> {
    tracing::debug!(peer = %visit.door.link().peer, violation = violation.0, "refused: {message}");
    let body = serde_json::json!({ "error": violation.0, "message": message }).to_string();
    let mut answer = Response::new(Body::from(bytes::Bytes::from(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    if visit.last.get() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// An answer to no operation.
fn plain(answer: Response<Body>) -> Response<ResponseBody> {
    answer.map(ResponseBody::plain)
}

/// A request that is to be admitted.
struct IncomingRequest<'v> {
    visit: &'v Rc<ClientConnection>,
    facts: &'v Rc<RequestAttributes>,
    authority: &'v Authority,
    /// Whether some header has a name that is not of letters, digits and `-` alone.
    odd_names: bool,
    began: Instant,
}

impl IncomingRequest<'_> {
    /// Where it goes.
    #[expect(clippy::result_large_err, reason = "a request that goes nowhere is rare")]
    fn read(&self, head: &mut request::Parts) -> Result<RoutedRequest, UnroutedRequest> {
        let asked = self.visit.server.dialect.read(head, &self.facts.host, &self.visit.buffered);
        match &asked {
            Ok(asked) if asked.origin_refused => {
                self.facts.flag(RequestFlags::ORIGIN_REFUSED);
                self.visit.door.violation(cors::REFUSED);
            }
            Ok(_) => {}
            Err(UnroutedRequest { answer, reason }) => {
                self.facts.status.set(Some(answer.status()));
                own::trace(self.visit, self.facts, &head.headers);
                match *reason {
                    "path" => self.visit.door.violation(AMBIGUOUS_PATH),
                    ORIGIN_REFUSED => self.visit.door.violation(cors::REFUSED),
                    _ => {}
                }
            }
        }
        asked
    }

    /// Asks every policy. What a policy refuses has its answer.
    async fn admit(
        &self,
        head: &request::Parts,
        asked: Option<&RoutedRequest>,
    ) -> Result<Ticket, ResponseResult> {
        let with = AttributesWithHeaders {
            facts: self.facts,
            headers: &head.headers,
            hygiene: &self.visit.server.plan.hygiene,
            from: &self.visit.peer,
            authority: self.authority,
            odd_names: self.odd_names,
        };
        let attributes =
            AdmitAttributes { call: self, asked, head, with, answer: RefCell::new(None) };
        let operation = self.operation(head, asked, &attributes);
        let door = &self.visit.door;
        let mut verdict = door.admit(&operation, self.began);
        loop {
            verdict = match verdict {
                Verdict::Go(ticket) => return Ok(ticket),
                Verdict::Refuse(_) => {
                    return Err(attributes.answer.take().unwrap_or(Err(Abort::Closed)));
                }
                // Only of a request that is partial, and a head never is.
                Verdict::More => return Err(Err(Abort::Closed)),
                Verdict::Ask(question) => {
                    let answer = question.answer.await;
                    door.resume(question.ticket, answer, &operation, Instant::now())
                }
            };
        }
    }

    /// The request, as policies see it.
    fn operation<'a>(
        &'a self,
        head: &'a request::Parts,
        asked: Option<&'a RoutedRequest>,
        attributes: &'a dyn Attributes,
    ) -> Operation<'a> {
        let dialect = &self.visit.server.dialect;
        let name = dialect.name(&head.method, &head.uri);
        Operation {
            protocol: dialect.protocol(),
            name,
            resource: asked.map_or(UNROUTED, |asked| &asked.route.name),
            front: &[],
            attributes,
            awaits: false,
            light: false,
            callsite: false,
            known: dialect.knows(name),
            partial: false,
            others: false,
        }
    }

    /// A policy says no.
    fn refused(
        &self,
        head: &request::Parts,
        asked: &RoutedRequest,
        no: &operation::No,
    ) -> ResponseResult {
        own::trace(self.visit, self.facts, &head.headers);
        match no.manner {
            Manner::Words => {
                let answer = refusal(&*self.visit.server.dialect, asked, no.told());
                let rendered = own::rendered(self.facts, asked, head);
                let route = &asked.route;
                let grant = own::grant(route, &head.headers);
                let dress = RouteHeaders { route, rendered: &rendered, grant: grant.as_ref() };
                Ok(own::answer(self.visit, self.facts, answer, None, Some(dress)))
            }
            Manner::Close | Manner::Reset => {
                let reset = no.manner == Manner::Reset;
                self.visit.cut(self.facts.version, no.reason.close(), reset);
                Err(Abort::Closed)
            }
        }
    }

    /// The whole connection may not be. Its request is accounted for as one that was refused, and no
    /// policy is asked about it.
    fn turned_away(
        &self,
        head: &request::Parts,
        asked: Result<RoutedRequest, UnroutedRequest>,
        no: &operation::No,
    ) -> ResponseResult {
        let (asked, reason, answer) = match asked {
            Ok(asked) => {
                let answer = self.refused(head, &asked, no);
                (Some(asked), no.reason.as_str(), answer)
            }
            Err(UnroutedRequest { reason, answer }) => {
                let answer = own::answer(self.visit, self.facts, answer, Some(reason), None);
                (None, reason, Ok(answer))
            }
        };
        let how = Settlement {
            reason: Some(reason),
            policy: no.told().policy.filter(|_| asked.is_some()),
            attributes: &**self.facts,
            ..Settlement::bare(Outcome::Rejected, Instant::now())
        };
        let operation = self.operation(head, asked.as_ref(), &**self.facts);
        self.visit.door.turned_away(&operation, self.began, &how);
        answer
    }

    /// The request goes nowhere.
    fn misdirected(
        &self,
        UnroutedRequest { reason, answer }: UnroutedRequest,
        ticket: Option<Ticket>,
        size: u64,
    ) -> Response<ResponseBody> {
        if let Some(ticket) = ticket {
            let record =
                ActiveOperation::new(ticket, Rc::clone(self.facts), self.began, None, self.visit);
            record.request_bytes.set(size);
            let answered = matches!(reason, "preflight");
            let outcome = if answered { Outcome::Ok } else { Outcome::Rejected };
            record.settle(&OperationEnd::of(outcome, reason));
        }
        own::answer(self.visit, self.facts, answer, Some(reason), None)
    }
}

/// What is known of a request, and its answer once a policy refuses it: that is logged with it.
struct AdmitAttributes<'c> {
    call: &'c IncomingRequest<'c>,
    asked: Option<&'c RoutedRequest>,
    head: &'c request::Parts,
    with: AttributesWithHeaders<'c>,
    answer: RefCell<Option<ResponseResult>>,
}

impl Attributes for AdmitAttributes<'_> {
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> Fact<'a> {
        self.with.get(front, name)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.with.peer()
    }

    fn refused(&self, no: &operation::No) {
        if let Some(asked) = self.asked {
            *self.answer.borrow_mut() = Some(self.call.refused(self.head, asked, no));
        }
    }
}

/// A no in the protocol's words.
pub(crate) fn refusal(
    dialect: &dyn Dialect,
    asked: &RoutedRequest,
    refusal: Refusal<'_>,
) -> Response<Body> {
    let status = match refusal.reason {
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::Denied => StatusCode::FORBIDDEN,
        Reason::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        Reason::Lost => StatusCode::BAD_GATEWAY,
        Reason::Invalid => StatusCode::BAD_REQUEST,
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::Overloaded | Reason::NoEndpoint | Reason::Injected => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    dialect.refuse(Some(asked), &HttpRejection { refusal, status })
}
