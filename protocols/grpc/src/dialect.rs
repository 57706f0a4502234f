//! The dialect: what of HTTP is a call, what it is called, and how it ends.
#![allow(clippy::result_large_err, reason = "a request that goes nowhere is rare")]

use crate::{
    bridge::Bridge,
    browser::Browser,
    chain::Chain,
    cors::{self, Cors, CorsHeaders},
    frame::{Messages, Unary},
    media::{self, Media},
    metadata, path, refusal,
    reverse::Reverse,
    room::Room,
    settings::{ServerStreams, Settings},
    status::{Code, Status, code_of},
    timeout,
    transcode::Json,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header,
    request, response,
};
use operation::{ExtraCounter, Outcome, Protocol, RejectReason, RejectionRef};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tollgate_http::{
    AttemptFailure, BufferAccount, Dialect, HttpRejection, Meter, Pushback, ResponseOutcome,
    RoutedRequest, Routes, Translator, UnroutedRequest, path_fault,
};
use values::Mistake;

/// gRPC, as one listener's settings have it.
#[derive(Debug)]
pub struct Grpc {
    settings: Settings,
    cors: Option<Cors>,
    json: Option<Arc<Json>>,
    routes: Routes,
}

impl Grpc {
    /// What gRPC is called, and what it counts.
    pub const PROTOCOL: Protocol = Protocol {
        items: Some(ExtraCounter {
            metric: "tollgate_grpc_messages_total",
            help: "Messages in requests and replies.",
        }),
        codes: Some(ExtraCounter {
            metric: "tollgate_grpc_statuses_total",
            help: "Calls that did not end with OK, by the name of their status.",
        }),
        item_name: "messages",
        attributes: tollgate_http::ATTRIBUTES,
        log_only: tollgate_http::LATE,
        logged: tollgate_http::LOGGED,
        ..Protocol::plain("grpc")
    };

    /// With these settings. Reads the descriptor set, if they name one.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(settings: Settings, routes: Routes) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = settings.mistakes();
        let json = settings.transcode.as_ref().map(Json::load).transpose();
        let json = json.unwrap_or_else(|more| {
            mistakes.extend(more);
            None
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let cors = settings.web.0.as_ref().map(cors::cors);
        Ok(Self { settings, cors, json: json.map(Arc::new), routes })
    }

    /// Where calls go.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Who translates for the client; `None` for one that speaks gRPC itself.
    fn near(
        &self,
        head: &mut request::Parts,
        buffered: &BufferAccount,
    ) -> Result<Option<Box<dyn Translator>>, UnroutedRequest> {
        let old = head.version < Version::HTTP_2;
        let media = Media::of(&head.headers);
        match (media, &self.settings.bridge.0) {
            (Media::Grpc, _) if !old => return Ok(None),
            (Media::Grpc | Media::Protobuf, Some(bridge)) => {
                let streams: ServerStreams = bridge.server_streams;
                plain_coding(head, media)?;
                return Ok(Some(Box::new(Bridge::new(
                    &head.headers,
                    self.room(buffered),
                    streams,
                ))));
            }
            (Media::Grpc, None) => return Err(unsupported(GRPC_NEEDS_HTTP2)),
            (Media::Protobuf, None) => return Err(unsupported(BARE_NEEDS_BRIDGE)),
            (Media::Web | Media::WebText, _) => {}
            (Media::Json, _) if self.json.is_some() => return self.transcoder(head, buffered),
            (_, _) if self.json.is_some() => return Err(self.no_json(&head.headers)),
            (Media::Json | Media::Other, _) => return Err(unsupported(NOT_GRPC)),
        }
        match &self.cors {
            Some(cors) => {
                Ok(Some(Box::new(Browser::new(&head.headers, cors.headers_for(&head.headers)))))
            }
            None => Err(unsupported("gRPC-Web is not served here: it needs `web: true`")),
        }
    }

    /// Who translates JSON.
    fn transcoder(
        &self,
        head: &mut request::Parts,
        buffered: &BufferAccount,
    ) -> Result<Option<Box<dyn Translator>>, UnroutedRequest> {
        let Some(json) = &self.json else { return Ok(None) };
        plain_coding(head, Media::Json)?;
        let grant = self.grant(&head.headers);
        json.read(head, grant, self.room(buffered))
            .map(Some)
            .map_err(|answer| UnroutedRequest { reason: "no_rule", answer })
    }

    /// The answer to a client that posts something else than JSON.
    fn no_json(&self, headers: &HeaderMap) -> UnroutedRequest {
        let said = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let said = said.map_or("something else", |said| media::essence(said));
        let message = format!(
            "a body is JSON here, and this is `{said}`: send `content-type: application/json`"
        );
        let status = Status::new(Code::InvalidArgument, message);
        let mut answer = Json::refusal(&status, &self.grant(headers));
        *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        UnroutedRequest { reason: "unsupported", answer }
    }

    fn room(&self, buffered: &BufferAccount) -> Room {
        let (limit, bounds) = (self.settings.limit(), self.settings.bounds());
        Room { limit, bounds, buffered: buffered.clone() }
    }

    /// What pages of other sites may read of an answer.
    fn grant(&self, headers: &HeaderMap) -> CorsHeaders {
        self.cors.as_ref().map(|cors| cors.headers_for(headers)).unwrap_or_default()
    }
}

const GRPC_NEEDS_HTTP2: &str = "gRPC needs HTTP/2; for HTTP/1.1 clients there is `bridge: true`";
const BARE_NEEDS_BRIDGE: &str = "bare messages are not served here: they need `bridge: true`";
const NOT_GRPC: &str = "this is no gRPC: its content-type is not `application/grpc`";

const NO_TIMEOUT: &str =
    "`grpc-timeout` is none: it is at most eight digits and one of `H`, `M`, `S`, `m`, `u`, `n`";
const NO_ROUTE: &str = "no route takes this call";

impl Dialect for Grpc {
    fn protocol(&self) -> &'static Protocol {
        const { &Grpc::PROTOCOL }
    }

    fn matched_headers(&self) -> &[HeaderName] {
        self.routes.headers()
    }

    fn route(
        &self,
        head: &mut request::Parts,
        host: &str,
        buffered: &BufferAccount,
    ) -> Result<RoutedRequest, UnroutedRequest> {
        if let Some(cors) = &self.cors
            && let Some(answer) = cors.preflight(head)
        {
            let refused = !answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            let reason = if refused { "origin_refused" } else { "preflight" };
            return Err(UnroutedRequest { reason, answer });
        }
        let origin_refused =
            self.cors.as_ref().is_some_and(|cors| cors.is_refused(&head.headers, host));
        let near = self.near(head, buffered).map_err(|no| UnroutedRequest {
            answer: granted(no.answer, &self.grant(&head.headers)),
            ..no
        })?;
        let misdirected = |reason, status: &Status| UnroutedRequest {
            reason,
            answer: said(near.as_deref(), status),
        };
        if head.method != Method::POST {
            let mut no = unsupported("a call is a POST");
            *no.answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            no.answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(no);
        }
        if path::call(head.uri.path()).is_empty() {
            let message = "the path names no method: it is `/package.Service/Method`";
            return Err(misdirected("no_method", &Status::new(Code::Unimplemented, message)));
        }
        let fault = path_fault(head.uri.path()).or_else(|| path::fault(head.uri.path()));
        if let Some(fault) = fault {
            return Err(misdirected("path", &Status::new(Code::InvalidArgument, fault)));
        }
        if timeout::is_faulty(&head.headers) {
            return Err(misdirected("invalid", &Status::new(Code::InvalidArgument, NO_TIMEOUT)));
        }
        let Some((route, captures)) = self.routes.find(head, host) else {
            return Err(misdirected("no_route", &Status::new(Code::Unimplemented, NO_ROUTE)));
        };
        let translator = match (near, &self.settings.reverse_bridge.0) {
            (near, None) => near,
            (near, Some(reverse)) => {
                let far: Box<dyn Translator> = Box::new(Reverse::new(reverse, self.room(buffered)));
                Some(match near {
                    None => far,
                    Some(near) => Box::new(Chain { near, far }),
                })
            }
        };
        metadata::isolate(&mut head.headers);
        let patience = timeout::of(&head.headers);
        Ok(RoutedRequest { route, captures, client_timeout: patience, translator, origin_refused })
    }

    fn operation_name<'h>(&self, _: &'h Method, uri: &'h Uri) -> &'h str {
        path::call(uri.path())
    }

    fn is_known_name(&self, name: &str) -> bool {
        self.json.as_ref().is_some_and(|json| json.knows(name))
    }

    fn reject(
        &self,
        asked: Option<&RoutedRequest>,
        why: &HttpRejection<'_>,
    ) -> Response<tollgate_http::Body> {
        let status = refusal::status(&why.refusal);
        let mut answer = match asked {
            Some(_) => refusal::trailers_only(&status),
            None => refusal::words(why.status, &status),
        };
        refusal::push_back(&why.refusal, answer.headers_mut());
        match asked.and_then(|asked| asked.translator.as_ref()) {
            Some(translator) => translator.translate_rejection(answer),
            None => answer,
        }
    }

    fn reject_head(
        &self,
        head: &request::Parts,
        status: u16,
        message: &str,
    ) -> Option<Response<tollgate_http::Body>> {
        if head.version < Version::HTTP_2 || Media::of(&head.headers) != Media::Grpc {
            return None;
        }
        let code = match status {
            413 | 414 | 431 => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        };
        Some(refusal::trailers_only(&Status::new(code, message)))
    }

    fn outcome_of_head(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        if let Some(code) = code_of(&head.headers) {
            return Some(judged(code));
        }
        let grpc = Media::of(&head.headers) == Media::Grpc;
        match (&self.settings.reverse_bridge.0, grpc && head.status.is_success()) {
            (None, true) => None,
            (None, false) => Some(judged(Code::of_http(head.status))),
            (Some(_), _) => Some(judged(Code::of_service(head.status))),
        }
    }

    fn outcome_of_trailers(&self, trailers: Option<&HeaderMap>) -> ResponseOutcome {
        match trailers.and_then(code_of) {
            Some(code) => judged(code),
            None => ResponseOutcome {
                outcome: Outcome::Failed,
                code: Some("MISSING_STATUS"),
                status: Code::Unknown.number(),
            },
        }
    }

    fn translated_outcome(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        code_of(&head.headers).map(judged)
    }

    fn error_trailers(&self, reason: RejectReason, message: &str) -> Option<HeaderMap> {
        let mut trailers = HeaderMap::new();
        refusal::status(&RejectionRef::new(reason, message)).write(&mut trailers);
        Some(trailers)
    }

    fn set_time_left(&self, head: &mut request::Parts, left: Duration) {
        timeout::shorten(&mut head.headers, left);
    }

    fn failure(&self, number: u16) -> AttemptFailure {
        AttemptFailure::Code(number)
    }

    fn allows_endless_requests(&self) -> bool {
        true
    }

    fn pushback(&self, told: &HeaderMap) -> Pushback {
        refusal::pushback_of(told).unwrap_or_else(|| Pushback::of_http(told, SystemTime::now()))
    }

    fn meter(&self) -> Option<Box<dyn Meter>> {
        Some(match self.settings.reverse_bridge.0 {
            None => Box::new(Messages::default()),
            Some(_) => Box::new(Unary::default()),
        })
    }
}

fn judged(code: Code) -> ResponseOutcome {
    let name = (code != Code::Ok).then(|| code.name());
    ResponseOutcome { outcome: code.outcome(), code: name, status: code.number() }
}

/// Says a status to whoever asked, in its own words.
fn said(translator: Option<&dyn Translator>, status: &Status) -> Response<tollgate_http::Body> {
    let answer = refusal::trailers_only(status);
    match translator {
        Some(translator) => translator.translate_rejection(answer),
        None => answer,
    }
}

/// Bodies that somebody compressed as a whole are read by no translator.
fn plain_coding(head: &request::Parts, media: Media) -> Result<(), UnroutedRequest> {
    let coding = head.headers.get(header::CONTENT_ENCODING);
    match coding.is_some_and(|coding| coding != "identity") && media != Media::Grpc {
        true => Err(unsupported("a body with a content-encoding is not read here; send it plain")),
        false => Ok(()),
    }
}

fn unsupported(message: &str) -> UnroutedRequest {
    let status = Status::new(Code::Unknown, message);
    let answer = refusal::words(StatusCode::UNSUPPORTED_MEDIA_TYPE, &status);
    UnroutedRequest { reason: "unsupported", answer }
}

fn granted(
    mut answer: Response<tollgate_http::Body>,
    grant: &CorsHeaders,
) -> Response<tollgate_http::Body> {
    grant.add_to(answer.headers_mut());
    answer
}

#[cfg(test)]
mod tests;
