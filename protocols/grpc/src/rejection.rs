//! A *no* in gRPC's words: an answer of trailers only.

use crate::{
    media,
    status::{Code, Status},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use operation::{RejectReason, RejectionRef};
use std::time::Duration;
use tollgate_http::{Body, Pushback};

/// The trailer that says when to try again, in milliseconds; negative for never (gRFC A6).
pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// An answer that is its status and nothing else.
pub(crate) fn trailers_only(status: &Status) -> Response<Body> {
    let mut answer = Response::new(Body::Empty);
    answer.headers_mut().insert(header::CONTENT_TYPE, media::GRPC);
    status.write(answer.headers_mut());
    answer
}

/// A plain HTTP answer for who speaks none of what is understood here.
pub(crate) fn http_error(http: StatusCode, status: &Status) -> Response<Body> {
    let text = format!("{}\n", status.message);
    let mut answer = Response::new(Body::Full(text.into()));
    *answer.status_mut() = http;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    status.write(answer.headers_mut());
    answer
}

/// The status that says this no. A fault's code is gRPC's own number.
pub(crate) fn status(why: &RejectionRef<'_>) -> Status {
    let code = why.code.map_or_else(|| Code::of_reason(why.reason), Code::of_number);
    let message = match why.policy {
        Some(policy) => format!("{} ({} by {policy})", why.message, why.reason),
        None => format!("{} ({})", why.message, why.reason),
    };
    Status::new(code, message)
}

/// Writes `grpc-retry-pushback-ms`: when to retry, or that a retry is pointless.
pub(crate) fn write_pushback(why: &RejectionRef<'_>, headers: &mut HeaderMap) {
    let wait = match (why.reason, why.retry_after) {
        (RejectReason::Denied, _) => HeaderValue::from_static("-1"),
        (_, Some(wait)) => HeaderValue::from(millis(wait)),
        (_, None) => return,
    };
    headers.insert(PUSHBACK, wait);
}

/// When a service wants to be called again, if it says that. What can't be read is a no, as gRFC
/// A6 has it.
pub(crate) fn read_pushback(told: &HeaderMap) -> Option<Pushback> {
    let millis = told.get(PUSHBACK)?.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    Some(millis.map_or(Pushback::Never, |it| Pushback::After(Duration::from_millis(it.into()))))
}

/// Whole milliseconds, rounded up, as many as clients take for a number of 32 bits.
fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// What HTTP clients understand of when to try again: `retry-after`, in whole seconds, rounded up.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<HeaderValue> {
    let wait: u32 = headers.get(PUSHBACK)?.to_str().ok()?.parse().ok()?;
    Some(HeaderValue::from(wait.div_ceil(1000).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: RejectReason) -> RejectionRef<'static> {
        RejectionRef {
            policy: Some("protect"),
            ..RejectionRef::new(reason, "100 % of the rate is used")
        }
    }

    #[test]
    fn a_no_names_its_reason_and_its_policy() {
        let status = status(&refusal(RejectReason::RateLimited));
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "100 % of the rate is used (rate_limited by protect)");
        let answer = trailers_only(&status);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/grpc");
        assert_eq!(answer.headers()["grpc-status"], "8");
        let words = "100 %25 of the rate is used (rate_limited by protect)";
        assert_eq!(answer.headers()["grpc-message"], words);
        let bare = super::status(&RejectionRef::new(RejectReason::NoEndpoint, "no endpoint"));
        assert_eq!(bare, Status::new(Code::Unavailable, "no endpoint (no_endpoint)"));
    }

    #[test]
    fn a_fault_has_the_code_that_was_asked_for() {
        let fault = |code| RejectionRef { code: Some(code), ..refusal(RejectReason::Injected) };
        assert_eq!(status(&fault(5)).code, Code::NotFound);
        assert_eq!(status(&fault(99)).code, Code::Unknown);
        assert_eq!(status(&refusal(RejectReason::Injected)).code, Code::Unavailable);
    }

    #[test]
    fn rejections_say_when_to_retry() {
        let told = |reason, retry_after| {
            let mut headers = HeaderMap::new();
            write_pushback(&RejectionRef { retry_after, ..refusal(reason) }, &mut headers);
            let after = super::retry_after(&headers).map(|it| it.to_str().unwrap().to_owned());
            (headers.get(PUSHBACK).map(|it| it.to_str().unwrap().to_owned()), after)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(RejectReason::Denied, None), (some("-1"), None));
        let wait = Some(Duration::from_micros(1500));
        assert_eq!(told(RejectReason::Denied, wait), (some("-1"), None));
        assert_eq!(told(RejectReason::RateLimited, wait), (some("2"), some("1")));
        assert_eq!(told(RejectReason::Overloaded, Some(Duration::MAX)).0, some("2147483647"));
        let seconds = Some(Duration::from_millis(1001));
        assert_eq!(told(RejectReason::RateLimited, seconds), (some("1001"), some("2")));
        assert_eq!(told(RejectReason::NoEndpoint, None), (None, None));
    }

    #[test]
    fn an_unreadable_pushback_forbids_retries() {
        let told = |text: &'static str| {
            read_pushback(&[(PUSHBACK, HeaderValue::from_static(text))].into_iter().collect())
        };
        assert_eq!(told("150"), Some(Pushback::After(Duration::from_millis(150))));
        assert_eq!(told("0"), Some(Pushback::default()));
        for text in ["-1", "", "soon", "1.5", "99999999999"] {
            assert_eq!(told(text), Some(Pushback::Never), "{text}");
        }
        assert_eq!(read_pushback(&HeaderMap::new()), None);
    }
}
