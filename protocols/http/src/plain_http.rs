//! Plain HTTP: operation names, routing and error responses.

use crate::{
    body::Body,
    buffer_account::BufferAccount,
    cors::{Cors, preflight_method},
    dialect::{Dialect, HttpRejection, ResponseOutcome, RoutedRequest, UnroutedRequest},
    incoming_request::UNROUTED,
    normalize::path_fault,
    request_attributes::{ATTRIBUTES, LATE, LOGGED, LOGGED_WITH_VALUES, status_name},
    routes::{Routes, StatusSet, WithMethod},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header, request,
    response,
};
use operation::{
    AttemptField, EndReason, ExtraCounter, Outcome, Protocol, RejectReason, SpanConventions,
    SpanField, SpanKind, SpanName,
};
use std::{sync::Arc, time::Duration};

/// Name and metrics of the protocol.
pub const PROTOCOL: Protocol = Protocol {
    codes: Some(ExtraCounter {
        metric: "tollgate_http_errors_total",
        help: "Answers with a status of 400 and more.",
    }),
    attributes: ATTRIBUTES,
    log_only: LATE,
    logged: LOGGED,
    logged_with_values: LOGGED_WITH_VALUES,
    span: SpanConventions {
        kind: SpanKind::Server,
        name: SpanName::WithResource,
        no_resource: UNROUTED,
        fixed: &[("network.protocol.name", "http")],
        fields: SPAN_FIELDS,
        attempt_fields: ATTEMPT_FIELDS,
        ..SpanConventions::PLAIN
    },
    ..Protocol::plain("http")
};

/// The attributes of spans (OpenTelemetry's semantic conventions for HTTP). A query may hold values,
/// and is left out.
const SPAN_FIELDS: &[(&str, SpanField)] = &[
    ("http.request.method", SpanField::Operation),
    ("http.route", SpanField::Resource),
    ("http.response.status_code", SpanField::Number("status")),
    ("url.path", SpanField::Text("path")),
    ("url.scheme", SpanField::Text("scheme")),
    ("server.address", SpanField::Text("host")),
    ("client.address", SpanField::Text("client")),
    ("network.peer", SpanField::Address("peer")),
    ("network.protocol.version", SpanField::Text("version")),
    ("user_agent.original", SpanField::Text("user_agent")),
];

/// The same for attempts.
const ATTEMPT_FIELDS: &[(&str, AttemptField)] = &[
    ("http.request.method", AttemptField::Operation),
    ("http.response.status_code", AttemptField::Status),
    ("http.request.resend_count", AttemptField::Resends),
    ("network.protocol.version", AttemptField::Version),
];

/// Routing settings of a plain HTTP listener, shared by all workers.
#[derive(Debug)]
pub struct PlainHttp {
    /// The routes.
    pub routes: Routes,
    /// Statuses that count as failures of the service.
    pub failed: StatusSet,
    /// Statuses that count as rejections of the client.
    pub rejected: StatusSet,
    /// CORS of requests without route.
    pub cors: Option<Arc<Cors>>,
    /// Whether any route has CORS.
    pub has_cors: bool,
}

impl PlainHttp {
    /// The response to a preflight request, by the route of the announced request.
    fn preflight(&self, head: &request::Parts, host: &str) -> Option<Response<Body>> {
        if !self.has_cors {
            return None;
        }
        let method = preflight_method(head)?;
        let announced = WithMethod { head, method: method.as_str() };
        let cors = match self.routes.find(&announced, host) {
            Some((route, _)) => route.cors.clone(),
            None => self.cors.clone(),
        };
        cors?.preflight(head)
    }

    /// A request without route, and its response.
    fn unrouted(
        &self,
        head: &request::Parts,
        status: StatusCode,
        reason: EndReason,
        words: &str,
    ) -> UnroutedRequest {
        let mut answer = json_response(status, reason.as_str(), words, None);
        if let Some(cors) = &self.cors {
            cors.headers_for(&head.headers).add_to(answer.headers_mut());
        }
        UnroutedRequest { reason, answer }
    }
}

impl Dialect for PlainHttp {
    fn protocol(&self) -> &'static Protocol {
        const { &PROTOCOL }
    }

    fn matched_headers(&self) -> &[HeaderName] {
        self.routes.headers()
    }

    fn route(
        &self,
        head: &mut request::Parts,
        host: &str,
        _: &BufferAccount,
    ) -> Result<RoutedRequest, UnroutedRequest> {
        let ambiguous =
            |fault| self.unrouted(head, StatusCode::BAD_REQUEST, EndReason::AmbiguousPath, fault);
        if let Some(fault) = path_fault(head.uri.path()) {
            return Err(ambiguous(fault));
        }
        if let Some(answer) = self.preflight(head, host) {
            let allowed = answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            let reason = if allowed { EndReason::Preflight } else { EndReason::OriginRefused };
            return Err(UnroutedRequest { reason, answer });
        }
        let found = self.routes.find(head, host);
        let (route, captures) = found.ok_or_else(|| {
            let words = "no route takes this request";
            self.unrouted(head, StatusCode::NOT_FOUND, EndReason::NoRoute, words)
        })?;
        if self.routes.has_other_reading(head, host, &route) {
            return Err(ambiguous(
                "with its encoded slash or backslash as a slash, the path is another route's",
            ));
        }
        let cors = route.cors.as_ref();
        let origin_refused = cors.is_some_and(|cors| cors.is_refused(&head.headers, host));
        Ok(RoutedRequest {
            route,
            captures,
            client_timeout: None,
            translator: None,
            origin_refused,
        })
    }

    fn operation_name<'h>(&self, method: &'h Method, _: &'h Uri) -> &'h str {
        method.as_str()
    }

    fn is_known_name(&self, name: &str) -> bool {
        const KNOWN: [&str; 9] =
            ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
        KNOWN.contains(&name)
    }

    fn reject(&self, _: Option<&RoutedRequest>, why: &HttpRejection<'_>) -> Response<Body> {
        let HttpRejection { refusal, status } = why;
        let routed = refusal.code.and_then(|code| u16::try_from(code).ok());
        let routed = routed.and_then(|code| StatusCode::from_u16(code).ok());
        let status = routed.filter(|it| it.as_u16() >= 200).unwrap_or(*status);
        let mut answer =
            json_response(status, refusal.reason.as_str(), refusal.message, refusal.policy);
        // Rate-limited clients always get `retry-after`.
        let limited = (refusal.reason == RejectReason::RateLimited).then_some(Duration::ZERO);
        if let Some(after) = refusal.retry_after.or(limited) {
            // In whole seconds, rounded up.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }

    fn add_request_id(&self, answer: &mut Response<Body>, id: &str, reason: Option<EndReason>) {
        // The body of a route's `reply` is the operator's.
        let Body::Full(told) = answer.body() else { return };
        let Some(words) = told.strip_suffix(b"}").filter(|_| reason != Some(EndReason::LocalReply))
        else {
            return;
        };
        let mut words = words.to_vec();
        let mut add = |name: &str, value: &str| {
            let value = serde_json::Value::from(value);
            words.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        };
        if let Some(reason) = reason.map(EndReason::as_str).filter(|it| !has_error(told, it)) {
            add("reason", reason);
        }
        add("request_id", id);
        words.push(b'}');
        *answer.body_mut() = Body::from(Bytes::from(words));
    }

    fn outcome_of_head(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        let status = head.status.as_u16();
        let outcome = if self.failed.contains(status) {
            Outcome::Failed
        } else if self.rejected.contains(status) {
            Outcome::Rejected
        } else {
            Outcome::Ok
        };
        let code = status_name(head.status).filter(|_| status >= 400);
        Some(ResponseOutcome { outcome, code, status })
    }

    fn direct_routes(&self) -> Option<&Routes> {
        Some(&self.routes)
    }

    fn outcome_of_trailers(&self, _: Option<&HeaderMap>) -> ResponseOutcome {
        ResponseOutcome { outcome: Outcome::Ok, code: None, status: 200 }
    }
}

/// Whether the response's `error` is this word.
fn has_error(told: &[u8], word: &str) -> bool {
    let rest = told.strip_prefix(b"{\"error\":\"").unwrap_or_default();
    rest.strip_prefix(word.as_bytes()).is_some_and(|rest| rest.starts_with(b"\""))
}

/// A short JSON response: `{"error":…,"message":…,"policy":…}`.
fn json_response(
    status: StatusCode,
    error: &str,
    message: &str,
    policy: Option<&str>,
) -> Response<Body> {
    let mut words = serde_json::json!({ "error": error, "message": message });
    if let (Some(policy), Some(words)) = (policy, words.as_object_mut()) {
        words.insert("policy".to_owned(), policy.into());
    }
    let mut answer = Response::new(Body::from(Bytes::from(words.to_string())));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
