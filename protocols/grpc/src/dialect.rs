//! The dialect: which HTTP requests are calls, how calls are named, and how they end.
#![allow(clippy::result_large_err, reason = "a request that goes nowhere is rare")]

use crate::{
    bridge::BridgeTranslator,
    cors::{self, Cors, CorsHeaders},
    frame::{CallMeter, UnaryMeter},
    grpc_web::GrpcWebTranslator,
    media::{self, Media},
    message_budget::MessageBudget,
    metadata, path, rejection,
    reverse::ReverseTranslator,
    settings::{ServerStreams, Settings},
    status::{Code, Status, code_of},
    timeout,
    transcode::JsonTranscoding,
    translator_chain::TranslatorChain,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header,
    request, response,
};
use operation::{
    AttemptField, EndReason, ExtraCounter, Outcome, Protocol, RejectReason, RejectionRef,
    SpanConventions, SpanField, SpanKind,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tollgate_http::{
    AttemptFailure, BufferAccount, Dialect, HttpRejection, Meter, Pushback, ResponseOutcome,
    RoutedRequest, Routes, Translator, UnroutedRequest, path_fault,
};
use values::Diagnostic;

/// The attributes of spans (OpenTelemetry's semantic conventions for RPC).
const SPAN_FIELDS: &[(&str, SpanField)] = &[
    ("rpc.method", SpanField::Operation),
    ("rpc.response.status_code", SpanField::Code("OK")),
    ("server.address", SpanField::Text("host")),
    ("client.address", SpanField::Text("client")),
    ("network.peer", SpanField::Address("peer")),
    ("network.protocol.version", SpanField::Text("version")),
    ("user_agent.original", SpanField::Text("user_agent")),
    ("tollgate.route", SpanField::Resource),
];

/// The same for attempts.
const ATTEMPT_FIELDS: &[(&str, AttemptField)] = &[
    ("rpc.method", AttemptField::Operation),
    ("http.response.status_code", AttemptField::Status),
    ("http.request.resend_count", AttemptField::Resends),
    ("network.protocol.version", AttemptField::Version),
];

/// The gRPC dialect of one listener.
#[derive(Debug)]
pub struct Grpc {
    settings: Settings,
    cors: Option<Cors>,
    json: Option<Arc<JsonTranscoding>>,
    routes: Routes,
}

impl Grpc {
    /// Name and counters of the protocol.
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
        span: SpanConventions {
            kind: SpanKind::Server,
            no_resource: tollgate_http::UNROUTED,
            fixed: &[("rpc.system.name", "grpc")],
            fields: SPAN_FIELDS,
            attempt_fields: ATTEMPT_FIELDS,
            ..SpanConventions::PLAIN
        },
        ..Protocol::plain("grpc")
    };

    /// Builds the dialect. Reads the descriptor set if the settings name one.
    ///
    /// # Errors
    /// Every mistake in the settings.
    pub fn new(settings: Settings, routes: Routes) -> Result<Self, Vec<Diagnostic>> {
        let mut mistakes = settings.mistakes();
        let json = settings.transcode.as_ref().map(JsonTranscoding::load).transpose();
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

    /// The routes of calls.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The translator that the client needs; `None` for a native gRPC client.
    fn client_translator(
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
                check_content_encoding(head, media)?;
                return Ok(Some(Box::new(BridgeTranslator::new(
                    &head.headers,
                    self.message_budget(buffered),
                    streams,
                ))));
            }
            (Media::Grpc, None) => return Err(unsupported(GRPC_NEEDS_HTTP2)),
            (Media::Protobuf, None) => return Err(unsupported(BARE_NEEDS_BRIDGE)),
            (Media::Web | Media::WebText, _) => {}
            (Media::Json, _) if self.json.is_some() => return self.transcoder(head, buffered),
            (_, _) if self.json.is_some() => return Err(self.not_json(&head.headers)),
            (Media::Json | Media::Other, _) => return Err(unsupported(NOT_GRPC)),
        }
        match &self.cors {
            Some(cors) => Ok(Some(Box::new(GrpcWebTranslator::new(
                &head.headers,
                cors.headers_for(&head.headers),
            )))),
            None => Err(unsupported("gRPC-Web is not served here: it needs `web: true`")),
        }
    }

    /// The JSON translator of this request.
    fn transcoder(
        &self,
        head: &mut request::Parts,
        buffered: &BufferAccount,
    ) -> Result<Option<Box<dyn Translator>>, UnroutedRequest> {
        let Some(json) = &self.json else { return Ok(None) };
        check_content_encoding(head, Media::Json)?;
        let grant = self.cors_headers(&head.headers);
        json.read(head, grant, self.message_budget(buffered))
            .map(Some)
            .map_err(|answer| UnroutedRequest { reason: EndReason::NoRule, answer })
    }

    /// The rejection of a request body that is not JSON.
    fn not_json(&self, headers: &HeaderMap) -> UnroutedRequest {
        let said = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let said = said.map_or("something else", |said| media::essence(said));
        let message =
            format!("expected a JSON body, got `{said}`: send `content-type: application/json`");
        let status = Status::new(Code::InvalidArgument, message);
        let mut answer = JsonTranscoding::refusal(&status, &self.cors_headers(headers));
        *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        UnroutedRequest { reason: EndReason::Unsupported, answer }
    }

    fn message_budget(&self, buffered: &BufferAccount) -> MessageBudget {
        let (limit, bounds) = (self.settings.limit(), self.settings.bounds());
        MessageBudget { limit, bounds, buffered: buffered.clone() }
    }

    /// The CORS headers of a response.
    fn cors_headers(&self, headers: &HeaderMap) -> CorsHeaders {
        self.cors.as_ref().map(|cors| cors.headers_for(headers)).unwrap_or_default()
    }
}

const GRPC_NEEDS_HTTP2: &str = "gRPC needs HTTP/2; for HTTP/1.1 clients there is `bridge: true`";
const BARE_NEEDS_BRIDGE: &str = "bare messages are not served here: they need `bridge: true`";
const NOT_GRPC: &str = "not a gRPC request: the content-type is not `application/grpc`";

const NO_TIMEOUT: &str =
    "invalid `grpc-timeout`: expected at most eight digits and one of `H`, `M`, `S`, `m`, `u`, `n`";
const NO_ROUTE: &str = "no route matches this call";

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
            let reason = if refused { EndReason::OriginRefused } else { EndReason::Preflight };
            return Err(UnroutedRequest { reason, answer });
        }
        let origin_refused =
            self.cors.as_ref().is_some_and(|cors| cors.is_refused(&head.headers, host));
        let near = self.client_translator(head, buffered).map_err(|no| UnroutedRequest {
            answer: granted(no.answer, &self.cors_headers(&head.headers)),
            ..no
        })?;
        let reject = |reason, code, message: &str| {
            let status = Status::new(code, message);
            Err(UnroutedRequest { reason, answer: rejection(near.as_deref(), &status) })
        };
        if head.method != Method::POST {
            let mut no = unsupported("a call is a POST");
            *no.answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            no.answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(no);
        }
        if path::full_method(head.uri.path()).is_empty() {
            let message = "the path names no method: it is `/package.Service/Method`";
            return reject(EndReason::NoMethod, Code::Unimplemented, message);
        }
        let fault = path_fault(head.uri.path()).or_else(|| path::ambiguity(head.uri.path()));
        if let Some(fault) = fault {
            return reject(EndReason::AmbiguousPath, Code::InvalidArgument, fault);
        }
        if timeout::is_invalid(&head.headers) {
            return reject(RejectReason::Invalid.into(), Code::InvalidArgument, NO_TIMEOUT);
        }
        let Some((route, captures)) = self.routes.find(head, host) else {
            return reject(EndReason::NoRoute, Code::Unimplemented, NO_ROUTE);
        };
        let translator = match (near, &self.settings.reverse_bridge.0) {
            (near, None) => near,
            (near, Some(reverse)) => {
                let far: Box<dyn Translator> =
                    Box::new(ReverseTranslator::new(reverse, self.message_budget(buffered)));
                Some(match near {
                    None => far,
                    Some(near) => Box::new(TranslatorChain { near, far }),
                })
            }
        };
        metadata::mark_never_indexed(&mut head.headers);
        let client_timeout = timeout::from_headers(&head.headers);
        Ok(RoutedRequest { route, captures, client_timeout, translator, origin_refused })
    }

    fn operation_name<'h>(&self, _: &'h Method, uri: &'h Uri) -> &'h str {
        path::full_method(uri.path())
    }

    fn is_known_name(&self, name: &str) -> bool {
        self.json.as_ref().is_some_and(|json| json.has_method(name))
    }

    fn reject(
        &self,
        asked: Option<&RoutedRequest>,
        why: &HttpRejection<'_>,
    ) -> Response<tollgate_http::Body> {
        let status = rejection::status(&why.refusal);
        let mut answer = match asked {
            Some(_) => rejection::trailers_only(&status),
            None => rejection::http_error(why.status, &status),
        };
        rejection::write_pushback(&why.refusal, answer.headers_mut());
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
        Some(rejection::trailers_only(&Status::new(code, message)))
    }

    fn outcome_of_head(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        if let Some(code) = code_of(&head.headers) {
            return Some(code_outcome(code));
        }
        let grpc = Media::of(&head.headers) == Media::Grpc;
        match (&self.settings.reverse_bridge.0, grpc && head.status.is_success()) {
            (None, true) => None,
            (None, false) => Some(code_outcome(Code::of_http(head.status))),
            (Some(_), _) => Some(code_outcome(Code::of_service(head.status))),
        }
    }

    fn outcome_of_trailers(&self, trailers: Option<&HeaderMap>) -> ResponseOutcome {
        match trailers.and_then(code_of) {
            Some(code) => code_outcome(code),
            None => ResponseOutcome {
                outcome: Outcome::Failed,
                code: Some("MISSING_STATUS"),
                status: Code::Unknown.number(),
            },
        }
    }

    fn translated_outcome(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        code_of(&head.headers).map(code_outcome)
    }

    fn error_trailers(&self, reason: RejectReason, message: &str) -> Option<HeaderMap> {
        let mut trailers = HeaderMap::new();
        rejection::status(&RejectionRef::new(reason, message)).write(&mut trailers);
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
        rejection::read_pushback(told).unwrap_or_else(|| Pushback::of_http(told, SystemTime::now()))
    }

    fn meter(&self) -> Option<Box<dyn Meter>> {
        Some(match self.settings.reverse_bridge.0 {
            None => Box::new(CallMeter::default()),
            Some(_) => Box::new(UnaryMeter::default()),
        })
    }
}

fn code_outcome(code: Code) -> ResponseOutcome {
    let name = (code != Code::Ok).then(|| code.name());
    ResponseOutcome { outcome: code.outcome(), code: name, status: code.number() }
}

/// A rejection in the client's protocol.
fn rejection(
    translator: Option<&dyn Translator>,
    status: &Status,
) -> Response<tollgate_http::Body> {
    let answer = rejection::trailers_only(status);
    match translator {
        Some(translator) => translator.translate_rejection(answer),
        None => answer,
    }
}

/// Rejects a body with a `content-encoding`: no translator decodes it.
fn check_content_encoding(head: &request::Parts, media: Media) -> Result<(), UnroutedRequest> {
    let coding = head.headers.get(header::CONTENT_ENCODING);
    match coding.is_some_and(|coding| coding != "identity") && media != Media::Grpc {
        true => Err(unsupported(
            "a body with a content-encoding is not supported here: send it unencoded",
        )),
        false => Ok(()),
    }
}

fn unsupported(message: &str) -> UnroutedRequest {
    let status = Status::new(Code::Unknown, message);
    let answer = rejection::http_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, &status);
    UnroutedRequest { reason: EndReason::Unsupported, answer }
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
