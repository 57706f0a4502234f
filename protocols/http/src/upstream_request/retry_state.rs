//! Whether a failed request is sent again, and when.

use crate::{
    request_attributes::RequestFlags,
    retry::{AttemptFailure, RequestInFlight},
    routes::RetryPolicy,
};
use http::Method;
use std::time::Duration;

/// gRPC statuses of an attempt without response, and of one that timed out.
const UNAVAILABLE: u32 = 14;
const DEADLINE_EXCEEDED: u32 = 4;

/// The retries of one request.
pub(crate) struct RetryState<'r> {
    policy: &'r RetryPolicy,
    in_flight: Option<RequestInFlight>,
    /// Retries so far.
    retries: u32,
}

/// The request is not sent again: what the log says about that, if the policy covers the failure.
pub(crate) struct NoRetry(pub(crate) Option<RequestFlags>);

impl<'r> RetryState<'r> {
    /// `in_flight` counts the request for the route's retry budget.
    pub(crate) fn new(policy: &'r RetryPolicy, in_flight: Option<RequestInFlight>) -> Self {
        Self { policy, in_flight, retries: 0 }
    }

    /// How long to wait before the next attempt, after a failure and the pause that the service wants (`None`: it is
    /// too long).
    ///
    /// # Errors
    /// There is no further attempt.
    pub(crate) fn next_wait(
        &mut self,
        (failure, pushback): (AttemptFailure, Option<Duration>),
        method: &Method,
        is_replayable: bool,
    ) -> Result<Duration, NoRetry> {
        let policy = self.policy;
        if !is_retriable(policy, failure, method) || self.retries >= policy.attempts {
            return Err(NoRetry(None));
        }
        let pause = pushback.ok_or(NoRetry(Some(RequestFlags::PUSHED_BACK)))?;
        if !is_replayable {
            return Err(NoRetry(Some(RequestFlags::TOO_LARGE_TO_RETRY)));
        }
        if self.in_flight.as_mut().is_some_and(|it| !it.may_retry(&policy.budget)) {
            return Err(NoRetry(Some(RequestFlags::RETRY_BUDGET)));
        }
        self.retries += 1;
        Ok(pause + policy.backoff.wait(self.retries, fastrand::f64()))
    }
}

/// Whether the route's retry policy covers this failure.
fn is_retriable(retry: &RetryPolicy, failure: AttemptFailure, method: &Method) -> bool {
    let on = &retry.on;
    match failure {
        // Nothing was processed, so nothing is repeated. A gRPC client would get UNAVAILABLE here,
        // and DEADLINE_EXCEEDED for an attempt that timed out.
        AttemptFailure::Connect => on.connect_failure || on.grpc(UNAVAILABLE),
        AttemptFailure::Refused => on.refused_stream || on.reset || on.grpc(UNAVAILABLE),
        AttemptFailure::Reset => (on.reset || on.grpc(UNAVAILABLE)) && retry.retries_method(method),
        AttemptFailure::PerTryTimeout => {
            (on.statuses.contains(504) || on.grpc(DEADLINE_EXCEEDED))
                && retry.retries_method(method)
        }
        AttemptFailure::Status(status) => {
            on.statuses.contains(status) && retry.retries_method(method)
        }
        AttemptFailure::Code(code) => on.grpc(code.into()) && retry.retries_method(method),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{routes::Routes, settings::Settings};
    use serde_json::json;

    /// The retry policy of a route with these keys of `retry`.
    fn retry(keys: serde_json::Value) -> RetryPolicy {
        let routes = json!({ "routes": [{ "name": "all", "cluster": "shop", "retry": keys }] });
        let settings: Settings = serde_json::from_value(routes).unwrap();
        let routes = Routes::new(&settings.routes, settings.defaults()).unwrap();
        let head = http::Request::get("/").body(()).unwrap().into_parts().0;
        let (route, _) = routes.find(&head, "shop.example").unwrap();
        route.retry.clone().unwrap()
    }

    const FAILURES: [AttemptFailure; 8] = [
        AttemptFailure::Connect,
        AttemptFailure::Refused,
        AttemptFailure::Reset,
        AttemptFailure::PerTryTimeout,
        AttemptFailure::Status(409),
        AttemptFailure::Status(500),
        AttemptFailure::Status(503),
        AttemptFailure::Code(14),
    ];

    #[test]
    fn each_retry_condition_covers_its_failures_only() {
        let [connect, refused, reset, late, conflict, wrong, away, code] = FAILURES;
        let cases: [(&str, &[AttemptFailure]); 9] = [
            ("connect_failure", &[connect]),
            ("refused_stream", &[refused]),
            ("reset", &[refused, reset]),
            ("retriable_4xx", &[conflict]),
            ("500", &[wrong]),
            ("gateway_error", &[connect, refused, reset, late, away]),
            ("5xx", &[connect, refused, reset, late, wrong, away]),
            ("unavailable", &[connect, refused, reset, code]),
            ("deadline_exceeded", &[late]),
        ];
        for (word, covered) in cases {
            let retry = retry(json!({ "on": [word] }));
            let found: Vec<_> = FAILURES
                .into_iter()
                .filter(|it| is_retriable(&retry, *it, &Method::POST))
                .collect();
            assert_eq!(found, covered, "{word}");
        }
    }

    #[test]
    fn unlisted_methods_are_retried_only_if_unprocessed() {
        let retry = retry(json!({ "on": ["5xx", "409", "unavailable"], "methods": ["GET"] }));
        for failure in FAILURES {
            assert!(is_retriable(&retry, failure, &Method::GET), "{failure:?}");
            let unread = matches!(failure, AttemptFailure::Connect | AttemptFailure::Refused);
            assert_eq!(is_retriable(&retry, failure, &Method::POST), unread, "{failure:?}");
        }
    }

    #[test]
    fn retries_end_with_the_policy_and_say_why() {
        let policy = retry(json!({ "on": ["503"], "attempts": "2", "backoff": { "base": "1ms" } }));
        let mut retries = RetryState::new(&policy, None);
        let away = (AttemptFailure::Status(503), Some(Duration::from_secs(1)));
        let mut next = |failure, replayable| retries.next_wait(failure, &Method::GET, replayable);
        let flag = |result: Result<Duration, NoRetry>| result.err().and_then(|NoRetry(flag)| flag);
        assert_eq!(flag(next((away.0, None), true)), Some(RequestFlags::PUSHED_BACK));
        assert_eq!(flag(next(away, false)), Some(RequestFlags::TOO_LARGE_TO_RETRY));
        for _ in 0..2 {
            assert!(next(away, true).is_ok_and(|wait| wait >= Duration::from_secs(1)));
        }
        assert!(next(away, true).is_err_and(|NoRetry(flag)| flag.is_none()));
    }
}
