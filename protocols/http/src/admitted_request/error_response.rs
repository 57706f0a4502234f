//! Error responses for requests that cannot be served.

use super::{AdmittedRequest, RequestTimeout};
use crate::{
    active_operation::OperationEnd,
    body::Body,
    dialect::{Dialect, HttpRejection, RoutedRequest},
    h1_validator::H1Error,
    incoming_request::{Abort, ResponseResult, invalid_request_response, rejection_response},
    response_body::ResponseBody,
    upstream_error::UpstreamError,
    upstream_request::AttemptError,
};
use http::{Response, StatusCode, Version};
use operation::{Close, EndReason, Outcome, RejectReason, RejectionRef, Violation};
use std::time::Duration;

const UNREADABLE: &str = "what the service answered is no HTTP of the version that it is spoken to \
                          by, or its head is by far longer than `max_head` of the cluster's `http`";

/// Why a request has no response: reason and message for the client, and how its operation ends.
type Failure = (RejectReason, String, OperationEnd);

/// The response to a request whose time is over, how its operation ends, and why an HTTP/1 connection closes after
/// it, if it does.
pub(crate) fn late_response(
    dialect: &dyn Dialect,
    routed: &RoutedRequest,
    late: RequestTimeout,
) -> (Response<Body>, OperationEnd, Option<Close>) {
    let text = |time: Duration| format!("{} ms", time.as_millis());
    let (words, policy, reason) = match late {
        RequestTimeout::Route(time) => (
            format!("the service took longer than {}", text(time)),
            None,
            RejectReason::TimedOut.into(),
        ),
        RequestTimeout::Policy(limit) => {
            (limit.message.to_string(), Some(limit.policy), RejectReason::TimedOut.into())
        }
        RequestTimeout::Client => {
            ("the client's own time is over".to_owned(), None, RejectReason::TimedOut.into())
        }
        RequestTimeout::Idle => {
            ("nothing moved for too long".to_owned(), None, EndReason::ResponseIdle)
        }
        RequestTimeout::Pause(time) => {
            return slow_request(&format!(
                "nothing of the request came for {} (message_timeout)",
                text(time)
            ));
        }
        RequestTimeout::Request(time) => {
            return slow_request(&format!(
                "the request took longer than {} (request_timeout)",
                text(time)
            ));
        }
    };
    let refusal = RejectionRef {
        policy: policy.as_deref(),
        ..RejectionRef::new(RejectReason::TimedOut, &words)
    };
    let response = rejection_response(dialect, routed, refusal);
    let end = OperationEnd { policy, ..OperationEnd::new(Outcome::Lost, reason) };
    (response, end, None)
}

/// The client was too slow with its request.
fn slow_request(words: &str) -> (Response<Body>, OperationEnd, Option<Close>) {
    let close = Close::MessageTimeout;
    let response = invalid_request_response(408, Violation(close.as_str()), words);
    (response, OperationEnd::new(close.outcome(false), close), Some(close))
}

/// The response for an attempt that failed, and how its operation ends.
pub(crate) fn failed_attempt(
    dialect: &dyn Dialect,
    routed: &RoutedRequest,
    failed: AttemptError,
) -> (Response<Body>, OperationEnd) {
    let (reason, words, end) = match failed {
        AttemptError::Unreachable(it) => {
            (it.reason, it.message, OperationEnd::new(it.close.outcome(false), it.close))
        }
        AttemptError::Upstream(UpstreamError::HeadTooLarge) => {
            return response_head_too_large(dialect, routed);
        }
        AttemptError::Upstream(lost) => lost_response(lost),
        AttemptError::EndpointClosed(close) => {
            let words = "the service was taken out of use before it answered".to_owned();
            (RejectReason::Lost, words, OperationEnd::new(close.outcome(false), close))
        }
        AttemptError::TimedOut => {
            let words = "the service took longer than an attempt may".to_owned();
            let end = OperationEnd::new(Outcome::Lost, RejectReason::TimedOut);
            (RejectReason::TimedOut, words, end)
        }
        AttemptError::TooLarge => {
            let most = routed.route.max_request_body.unwrap_or_default();
            let words =
                format!("the request's body is longer than {most} bytes (max_request_body)");
            let end = OperationEnd::new(Outcome::Rejected, RejectReason::TooLarge);
            (RejectReason::TooLarge, words, end)
        }
        AttemptError::HeadTooLarge(most) => return request_head_too_large(dialect, routed, most),
        AttemptError::ClientAborted => {
            let words = "it can't be read".to_owned();
            let end = OperationEnd::new(Outcome::Rejected, RejectReason::Invalid);
            (RejectReason::Invalid, words, end)
        }
    };
    (rejection_response(dialect, routed, RejectionRef::new(reason, &words)), end)
}

/// The response to a request whose body is invalid, and how its operation ends.
pub(crate) fn invalid_body(fault: H1Error) -> (Response<Body>, OperationEnd) {
    let response = invalid_request_response(fault.status, fault.violation, fault.message);
    (response, OperationEnd::new(Outcome::Rejected, fault.violation))
}

fn lost_response(lost: UpstreamError) -> Failure {
    let (close, words) = match lost {
        UpstreamError::InvalidResponse => (Close::UpstreamViolation, UNREADABLE),
        UpstreamError::ConflictingLength => (
            Close::UpstreamViolation,
            "the service's answer contradicts itself about its length, or has a transfer coding \
             other than chunked",
        ),
        UpstreamError::HeadTooLarge
        | UpstreamError::Refused
        | UpstreamError::ConnectionReset
        | UpstreamError::StreamReset => {
            (Close::UpstreamReset, "the service went away before it answered")
        }
    };
    (RejectReason::Lost, words.to_owned(), OperationEnd::new(Outcome::Lost, close))
}

/// The response's head exceeds the cluster's `max_head`.
fn response_head_too_large(
    dialect: &dyn Dialect,
    routed: &RoutedRequest,
) -> (Response<Body>, OperationEnd) {
    let words = "the head of the service's answer is longer than `max_head` of the cluster's \
                 `http`, or has more than 256 lines";
    too_large(dialect, routed, (StatusCode::BAD_GATEWAY, words, Outcome::Lost))
}

/// The request's head exceeds the service's limit.
fn request_head_too_large(
    dialect: &dyn Dialect,
    routed: &RoutedRequest,
    most: u32,
) -> (Response<Body>, OperationEnd) {
    let words = format!("the service takes heads of at most {most} bytes");
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    too_large(dialect, routed, (status, &words, Outcome::Rejected))
}

fn too_large(
    dialect: &dyn Dialect,
    routed: &RoutedRequest,
    (status, words, outcome): (StatusCode, &str, Outcome),
) -> (Response<Body>, OperationEnd) {
    let refusal = RejectionRef::new(RejectReason::TooLarge, words);
    let response = dialect.reject(Some(routed), &HttpRejection { refusal, status });
    (response, OperationEnd::new(outcome, RejectReason::TooLarge))
}

impl AdmittedRequest {
    pub(crate) fn timeout_response(&self, late: RequestTimeout) -> Response<ResponseBody> {
        let dialect = &*self.connection.server.dialect;
        let (response, end, close) = late_response(dialect, &self.routed, late);
        if let Some(close) = close
            && self.operation.attributes.version < Version::HTTP_2
        {
            self.connection.close_after_response.set(true);
            self.connection.close_reason.set(close);
        }
        self.local_reply(response, &end)
    }

    /// The response for an attempt that failed.
    pub(crate) fn error_response(&self, failed: AttemptError) -> ResponseResult {
        if let AttemptError::ClientAborted = failed {
            if let Some(fault) = self.connection.state.h1_error.take() {
                return Ok(self.client_error_response(fault));
            }
            if !self.routed.translator.as_ref().is_some_and(|it| it.is_request_invalid()) {
                self.operation.settle(&OperationEnd::new(Outcome::Cancelled, Close::ClientReset));
                return Err(Abort::Closed);
            }
        }
        let dialect = &*self.connection.server.dialect;
        let (response, end) = failed_attempt(dialect, &self.routed, failed);
        Ok(self.local_reply(response, &end))
    }

    /// The client sent an invalid body.
    fn client_error_response(&self, fault: H1Error) -> Response<ResponseBody> {
        self.connection.close_after_response.set(true);
        let (answer, end) = invalid_body(fault);
        self.local_reply(answer, &end)
    }

    pub(crate) fn reject(
        &self,
        why: &RejectionRef<'_>,
        end: &OperationEnd,
    ) -> Response<ResponseBody> {
        let answer = rejection_response(&*self.connection.server.dialect, &self.routed, *why);
        self.local_reply(answer, end)
    }

    /// A fault injected by a policy.
    pub(super) fn abort_injected(&self, reset: bool) -> Abort {
        self.operation.settle(&OperationEnd::new(Outcome::Lost, Close::Injected));
        self.connection.abort(self.operation.attributes.version, Close::Injected, reset);
        Abort::Closed
    }
}
