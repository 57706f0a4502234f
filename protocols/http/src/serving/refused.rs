//! Answers that are the proxy's own, for requests that can't be served.

use super::{AdmittedRequest, RequestTimeout};
use crate::{
    attempt::{AttemptError, UpstreamError},
    dialect::HttpRejection,
    download::ResponseBody,
    exchange::{Abort, ResponseResult, flawed, refusal},
    record::OperationEnd,
};
use http::{Response, StatusCode, Version};
use operation::{Close, Outcome, Reason, Refusal, Violation};
use std::time::Duration;

const UNREADABLE: &str = "what the service answered is no HTTP of the version that it is spoken to \
                          by, or its head is by far longer than `max_head` of the cluster's `http`";

impl AdmittedRequest {
    pub(crate) fn refuse_late(&self, late: RequestTimeout) -> Response<ResponseBody> {
        let text = |time: Duration| format!("{} ms", time.as_millis());
        let (words, policy, reason) = match late {
            RequestTimeout::Route(time) => {
                (format!("the service took longer than {}", text(time)), None, "timed_out")
            }
            RequestTimeout::Policy(limit) => {
                (limit.message.to_string(), Some(limit.policy), "timed_out")
            }
            RequestTimeout::Client => {
                ("the client's own time is over".to_owned(), None, "timed_out")
            }
            RequestTimeout::Idle => ("nothing moved for too long".to_owned(), None, "idle_timeout"),
            RequestTimeout::Pause(time) => {
                return self.waited_in_vain(&format!(
                    "nothing of the request came for {} (message_timeout)",
                    text(time)
                ));
            }
            RequestTimeout::Request(time) => {
                return self.waited_in_vain(&format!(
                    "the request took longer than {} (request_timeout)",
                    text(time)
                ));
            }
        };
        let refusal =
            Refusal { policy: policy.as_deref(), ..Refusal::new(Reason::TimedOut, &words) };
        let end =
            OperationEnd { policy: policy.clone(), ..OperationEnd::of(Outcome::Lost, reason) };
        self.refuse(&refusal, &end)
    }

    /// The client took too long for its request. A connection of HTTP/1 ends with it.
    fn waited_in_vain(&self, words: &str) -> Response<ResponseBody> {
        let close = Close::MessageTimeout;
        if self.record.facts.version < Version::HTTP_2 {
            self.visit.last.set(true);
            self.visit.close.set(close);
        }
        let answer = flawed(&self.visit, 408, Violation(close.as_str()), words);
        self.own(answer, &OperationEnd::of(close.outcome(false), close.as_str()))
    }

    /// There is no answer.
    pub(crate) fn fail(&self, failed: AttemptError) -> ResponseResult {
        let (reason, words, end) = match failed {
            AttemptError::Unreachable(it) => (
                it.reason,
                it.message,
                OperationEnd::of(it.close.outcome(false), it.close.as_str()),
            ),
            AttemptError::Lost(lost) => {
                let (close, words) = match lost {
                    UpstreamError::HeadTooLarge => return Ok(self.answer_is_too_large()),
                    UpstreamError::Unreadable => (Close::UpstreamViolation, UNREADABLE),
                    UpstreamError::Contradicts => (
                        Close::UpstreamViolation,
                        "the service's answer contradicts itself about its length, or has a \
                         transfer coding other than chunked",
                    ),
                    UpstreamError::Refused | UpstreamError::Reset | UpstreamError::Stream => {
                        (Close::UpstreamReset, "the service went away before it answered")
                    }
                };
                (Reason::Lost, words.to_owned(), OperationEnd::of(Outcome::Lost, close.as_str()))
            }
            AttemptError::Taken(close) => {
                let words = "the service was taken out of use before it answered".to_owned();
                (Reason::Lost, words, OperationEnd::of(close.outcome(false), close.as_str()))
            }
            AttemptError::TimedOut => {
                let words = "the service took longer than an attempt may".to_owned();
                (Reason::TimedOut, words, OperationEnd::of(Outcome::Lost, "timed_out"))
            }
            AttemptError::TooLarge => {
                let most = self.asked.route.max_request_body.unwrap_or_default();
                let words =
                    format!("the request's body is longer than {most} bytes (max_request_body)");
                (Reason::TooLarge, words, OperationEnd::of(Outcome::Rejected, "too_large"))
            }
            AttemptError::HeadTooLarge(most) => return Ok(self.head_is_too_large(most)),
            AttemptError::Client => return self.client_failed(),
        };
        Ok(self.refuse(&Refusal::new(reason, &words), &end))
    }

    /// The head of the answer is longer than the cluster's may be.
    fn answer_is_too_large(&self) -> Response<ResponseBody> {
        let words = "the head of the service's answer is longer than `max_head` of the cluster's \
                     `http`, or has more than 256 lines";
        self.too_large(StatusCode::BAD_GATEWAY, words, Outcome::Lost)
    }

    /// The service takes no head of the request's length.
    fn head_is_too_large(&self, most: u32) -> Response<ResponseBody> {
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
        let refusal = Refusal::new(Reason::TooLarge, words);
        let answer =
            self.visit.server.dialect.refuse(Some(&self.asked), &HttpRejection { refusal, status });
        self.own(answer, &OperationEnd::of(outcome, Reason::TooLarge.as_str()))
    }

    /// The client broke off, or sent a body that can't be read.
    fn client_failed(&self) -> ResponseResult {
        let Some(fault) = self.visit.notes.fault.take() else {
            if self.asked.translator.as_ref().is_some_and(|it| it.is_spoilt()) {
                let reason = Reason::Invalid;
                let end = OperationEnd::of(Outcome::Rejected, reason.as_str());
                return Ok(self.refuse(&Refusal::new(reason, "it can't be read"), &end));
            }
            self.record.settle(&OperationEnd::of(Outcome::Cancelled, Close::ClientReset.as_str()));
            return Err(Abort::Closed);
        };
        self.visit.last.set(true);
        let answer = flawed(&self.visit, fault.status, fault.violation, fault.message);
        Ok(self.own(answer, &OperationEnd::of(Outcome::Rejected, fault.violation.0)))
    }

    pub(crate) fn refuse(&self, why: &Refusal<'_>, end: &OperationEnd) -> Response<ResponseBody> {
        let answer = refusal(&*self.visit.server.dialect, &self.asked, *why);
        self.own(answer, end)
    }

    /// A fault that somebody asked for.
    pub(super) fn cut(&self, reset: bool) -> Abort {
        self.record.settle(&OperationEnd::of(Outcome::Lost, Close::Injected.as_str()));
        self.visit.cut(self.record.facts.version, Close::Injected, reset);
        Abort::Closed
    }
}
