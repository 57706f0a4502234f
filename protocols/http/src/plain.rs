//! Plain HTTP: what a request is called, and how it is refused.

use crate::{
    body::Body,
    buffered::BufferAccount,
    cors::{Cors, ORIGIN_REFUSED, preflight_method},
    dialect::{Dialect, HttpRejection, ResponseOutcome, RoutedRequest, UnroutedRequest},
    facts::{ATTRIBUTES, LATE, LOGGED, LOGGED_WITH_VALUES, named},
    normal::path_fault,
    own::ANSWERED_HERE,
    routes::{Routes, StatusSet},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header, request,
    response,
};
use operation::{Extra, Outcome, Protocol, Reason};
use std::{sync::Arc, time::Duration};

/// What it is called, and what it counts.
pub const PROTOCOL: Protocol = Protocol {
    codes: Some(Extra {
        metric: "tollgate_http_errors_total",
        help: "Answers with a status of 400 and more.",
    }),
    attributes: ATTRIBUTES,
    late: LATE,
    logged: LOGGED,
    logged_with_values: LOGGED_WITH_VALUES,
    ..Protocol::plain("http")
};

/// What listeners of plain HTTP are set to, for all workers.
#[derive(Debug)]
pub struct PlainHttp {
    /// Where requests go.
    pub routes: Routes,
    /// Which statuses are the service's fault.
    pub failed: StatusSet,
    /// Which are the client's.
    pub rejected: StatusSet,
    /// What pages of other sites may read where no route takes their request.
    pub cors: Option<Arc<Cors>>,
    /// Whether any route says something of such pages.
    pub have_cors: bool,
}

impl PlainHttp {
    /// Answers a browser that asks first. The route of the request that it means to make says what.
    fn preflight(&self, head: &request::Parts, host: &str) -> Option<Response<Body>> {
        if !self.have_cors {
            return None;
        }
        let mut meant = head.clone();
        meant.method = preflight_method(head)?;
        let cors = match self.routes.find(&meant, host) {
            Some((route, _)) => route.cors.clone(),
            None => self.cors.clone(),
        };
        cors?.preflight(head)
    }

    /// A request that goes nowhere.
    fn nowhere(
        &self,
        head: &request::Parts,
        status: StatusCode,
        reason: &'static str,
        words: &str,
    ) -> UnroutedRequest {
        let mut answer = told(status, reason, words, None);
        if let Some(cors) = &self.cors {
            cors.grant(&head.headers).write(answer.headers_mut());
        }
        UnroutedRequest { reason, answer }
    }
}

impl Dialect for PlainHttp {
    fn protocol(&self) -> &'static Protocol {
        const { &PROTOCOL }
    }

    fn headers(&self) -> &[HeaderName] {
        self.routes.headers()
    }

    fn read(
        &self,
        head: &mut request::Parts,
        host: &str,
        _: &BufferAccount,
    ) -> Result<RoutedRequest, UnroutedRequest> {
        let ambiguous = |fault| self.nowhere(head, StatusCode::BAD_REQUEST, "path", fault);
        if let Some(fault) = path_fault(head.uri.path()) {
            return Err(ambiguous(fault));
        }
        if let Some(answer) = self.preflight(head, host) {
            let allowed = answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            let reason = if allowed { "preflight" } else { ORIGIN_REFUSED };
            return Err(UnroutedRequest { reason, answer });
        }
        let found = self.routes.find(head, host);
        let (route, captures) = found.ok_or_else(|| {
            let words = "no route takes this request";
            self.nowhere(head, StatusCode::NOT_FOUND, "no_route", words)
        })?;
        if self.routes.reads_as_another(head, host, &route) {
            return Err(ambiguous(
                "with its encoded slash or backslash as a slash, the path is another route's",
            ));
        }
        let cors = route.cors.as_ref();
        let origin_refused = cors.is_some_and(|cors| cors.refuses(&head.headers, host));
        Ok(RoutedRequest { route, captures, patience: None, translator: None, origin_refused })
    }

    fn name<'h>(&self, method: &'h Method, _: &'h Uri) -> &'h str {
        method.as_str()
    }

    fn knows(&self, name: &str) -> bool {
        const KNOWN: [&str; 9] =
            ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
        KNOWN.contains(&name)
    }

    fn refuse(&self, _: Option<&RoutedRequest>, why: &HttpRejection<'_>) -> Response<Body> {
        let HttpRejection { refusal, status } = why;
        let asked = refusal.code.and_then(|code| u16::try_from(code).ok());
        let asked = asked.and_then(|code| StatusCode::from_u16(code).ok());
        let status = asked.filter(|it| it.as_u16() >= 200).unwrap_or(*status);
        let mut answer = told(status, refusal.reason.as_str(), refusal.message, refusal.policy);
        // Whoever asks too often is always told to wait.
        let limited = (refusal.reason == Reason::RateLimited).then_some(Duration::ZERO);
        if let Some(after) = refusal.retry_after.or(limited) {
            // In whole seconds, and not too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }

    fn identify(&self, answer: &mut Response<Body>, id: &str, reason: Option<&str>) {
        // What a route's `reply` says is the operator's.
        let Body::Full(told) = answer.body() else { return };
        let Some(words) = told.strip_suffix(b"}").filter(|_| reason != Some(ANSWERED_HERE)) else {
            return;
        };
        let mut words = words.to_vec();
        let mut add = |name: &str, value: &str| {
            let value = serde_json::Value::from(value);
            words.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        };
        if let Some(reason) = reason.filter(|it| !says(told, it)) {
            add("reason", reason);
        }
        add("request_id", id);
        words.push(b'}');
        *answer.body_mut() = Body::from(Bytes::from(words));
    }

    fn judge(&self, head: &response::Parts) -> Option<ResponseOutcome> {
        let status = head.status.as_u16();
        let outcome = match () {
            () if self.failed.contains(status) => Outcome::Failed,
            () if self.rejected.contains(status) => Outcome::Rejected,
            () => Outcome::Ok,
        };
        let code = named(head.status).filter(|_| status >= 400);
        Some(ResponseOutcome { outcome, code, number: status })
    }

    fn judge_trailers(&self, _: Option<&HeaderMap>) -> ResponseOutcome {
        ResponseOutcome { outcome: Outcome::Ok, code: None, number: 200 }
    }
}

/// Whether an answer's `error` is this word.
fn says(told: &[u8], word: &str) -> bool {
    let rest = told.strip_prefix(b"{\"error\":\"").unwrap_or_default();
    rest.strip_prefix(word.as_bytes()).is_some_and(|rest| rest.starts_with(b"\""))
}

/// An answer in a few words of JSON: `{"error":…,"message":…,"policy":…}`.
fn told(status: StatusCode, error: &str, message: &str, policy: Option<&str>) -> Response<Body> {
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
