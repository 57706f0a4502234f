//! Error responses for requests that cannot be served.

use super::{AdmittedRequest, RequestTimeout};
use crate::{
    active_operation::OperationEnd,
    dialect::HttpRejection,
    incoming_request::{Abort, ResponseResult, invalid_request_response, rejection_response},
    response_body::ResponseBody,
    upstream_request::{AttemptError, UpstreamError},
};
use http::{Response, StatusCode, Version};
use operation::{Close, EndReason, Outcome, RejectReason, RejectionRef, Violation};
use std::time::Duration;

const UNREADABLE: &str = "what the service answered is no HTTP of the version that it is spoken to \
                          by, or its head is by far longer than `max_head` of the cluster's `http`";

impl AdmittedRequest {
    pub(crate) fn timeout_response(&self, late: RequestTimeout) -> Response<ResponseBody> {
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
                return self.request_timeout_response(&format!(
                    "nothing of the request came for {} (message_timeout)",
                    text(time)
                ));
            }
            RequestTimeout::Request(time) => {
                return self.request_timeout_response(&format!(
                    "the request took longer than {} (request_timeout)",
                    text(time)
                ));
            }
        };
        let refusal = RejectionRef {
            policy: policy.as_deref(),
            ..RejectionRef::new(RejectReason::TimedOut, &words)
        };
        let end =
            OperationEnd { policy: policy.clone(), ..OperationEnd::new(Outcome::Lost, reason) };
        self.reject(&refusal, &end)
    }

    /// The client was too slow with its request. An HTTP/1 connection is closed.
    fn request_timeout_response(&self, words: &str) -> Response<ResponseBody> {
        let close = Close::MessageTimeout;
        if self.operation.attributes.version < Version::HTTP_2 {
            self.connection.close_after_response.set(true);
            self.connection.close_reason.set(close);
        }
        let answer =
            invalid_request_response(&self.connection, 408, Violation(close.as_str()), words);
        self.local_reply(answer, &OperationEnd::new(close.outcome(false), close))
    }

    /// The response for an attempt that failed.
    pub(crate) fn error_response(&self, failed: AttemptError) -> ResponseResult {
        let (reason, words, end) = match failed {
            AttemptError::Unreachable(it) => {
                (it.reason, it.message, OperationEnd::new(it.close.outcome(false), it.close))
            }
            AttemptError::Upstream(lost) => {
                let (close, words) = match lost {
                    UpstreamError::HeadTooLarge => return Ok(self.response_head_too_large()),
                    UpstreamError::InvalidResponse => (Close::UpstreamViolation, UNREADABLE),
                    UpstreamError::ConflictingLength => (
                        Close::UpstreamViolation,
                        "the service's answer contradicts itself about its length, or has a \
                         transfer coding other than chunked",
                    ),
                    UpstreamError::Refused
                    | UpstreamError::ConnectionReset
                    | UpstreamError::StreamReset => {
                        (Close::UpstreamReset, "the service went away before it answered")
                    }
                };
                (RejectReason::Lost, words.to_owned(), OperationEnd::new(Outcome::Lost, close))
            }
            AttemptError::EndpointClosed(close) => {
                let words = "the service was taken out of use before it answered".to_owned();
                (RejectReason::Lost, words, OperationEnd::new(close.outcome(false), close))
            }
            AttemptError::TimedOut => {
                let words = "the service took longer than an attempt may".to_owned();
                (
                    RejectReason::TimedOut,
                    words,
                    OperationEnd::new(Outcome::Lost, RejectReason::TimedOut),
                )
            }
            AttemptError::TooLarge => {
                let most = self.routed.route.max_request_body.unwrap_or_default();
                let words =
                    format!("the request's body is longer than {most} bytes (max_request_body)");
                (
                    RejectReason::TooLarge,
                    words,
                    OperationEnd::new(Outcome::Rejected, RejectReason::TooLarge),
                )
            }
            AttemptError::HeadTooLarge(most) => return Ok(self.request_head_too_large(most)),
            AttemptError::ClientAborted => return self.client_error_response(),
        };
        Ok(self.reject(&RejectionRef::new(reason, &words), &end))
    }

    /// The response's head exceeds the cluster's `max_head`.
    fn response_head_too_large(&self) -> Response<ResponseBody> {
        let words = "the head of the service's answer is longer than `max_head` of the cluster's \
                     `http`, or has more than 256 lines";
        self.too_large(StatusCode::BAD_GATEWAY, words, Outcome::Lost)
    }

    /// The request's head exceeds the service's limit.
    fn request_head_too_large(&self, most: u32) -> Response<ResponseBody> {
        let words = format!("the service takes heads of at most {most} bytes");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        self.too_large(status, &words, Outcome::Rejected)
    }

    fn too_large(
        &self,
        status: StatusCode,
        words: &str,
        outcome: Outcome,
    ) -> Response<ResponseBody> {
        let refusal = RejectionRef::new(RejectReason::TooLarge, words);
        let answer = self
            .connection
            .server
            .dialect
            .reject(Some(&self.routed), &HttpRejection { refusal, status });
        self.local_reply(answer, &OperationEnd::new(outcome, RejectReason::TooLarge))
    }

    /// The client aborted, or sent an invalid body.
    fn client_error_response(&self) -> ResponseResult {
        let Some(fault) = self.connection.state.h1_error.take() else {
            if self.routed.translator.as_ref().is_some_and(|it| it.is_request_invalid()) {
                let reason = RejectReason::Invalid;
                let end = OperationEnd::new(Outcome::Rejected, reason);
                return Ok(self.reject(&RejectionRef::new(reason, "it can't be read"), &end));
            }
            self.operation.settle(&OperationEnd::new(Outcome::Cancelled, Close::ClientReset));
            return Err(Abort::Closed);
        };
        self.connection.close_after_response.set(true);
        let answer = invalid_request_response(
            &self.connection,
            fault.status,
            fault.violation,
            fault.message,
        );
        Ok(self.local_reply(answer, &OperationEnd::new(Outcome::Rejected, fault.violation)))
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
