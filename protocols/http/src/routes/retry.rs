//! Retry policies of routes.

use super::statuses::StatusSet;
use crate::retry::{Backoff, RetryBudget};
use crate::settings::{RetryCondition, RetrySettings, StatusRange};
use http::Method;
use std::time::Duration;
use values::{Size, Text};

/// A retry policy.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Which failures are retried.
    pub on: RetryOn,
    /// Most retries after the first attempt.
    pub attempts: u32,
    /// Timeout of one attempt, up to the response's head.
    pub per_try_timeout: Option<Duration>,
    /// Waits before retries.
    pub backoff: Backoff,
    /// Limit of concurrent retries.
    pub budget: RetryBudget,
    /// Most bytes of a request's body that are kept for retries.
    pub max_body: u64,
    methods: Option<Box<[Method]>>,
}

/// The failures that are retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The endpoint refused the stream without processing it.
    pub refused_stream: bool,
    /// The connection or stream ended before the response started.
    pub reset: bool,
    /// A response with one of these; 504 includes attempts that timed out.
    pub statuses: StatusSet,
    grpc: u32,
}

impl RetryOn {
    fn add(&mut self, condition: RetryCondition) {
        match condition {
            RetryCondition::ConnectFailure => self.connect_failure = true,
            RetryCondition::RefusedStream => self.refused_stream = true,
            RetryCondition::Reset => self.reset = true,
            RetryCondition::Retriable4xx => self.statuses.insert(409),
            RetryCondition::GatewayError => {
                (502..=504).for_each(|status| self.statuses.insert(status));
                self.add_connection_failures();
            }
            RetryCondition::Status(range @ StatusRange { from, to }) => {
                (from..=to).for_each(|status| self.statuses.insert(status));
                if range == (StatusRange { from: 500, to: 599 }) {
                    self.add_connection_failures();
                }
            }
            RetryCondition::Grpc(code) => self.grpc |= 1_u32.checked_shl(code.into()).unwrap_or(0),
        }
    }

    /// Without a response the client would get 502 or 503.
    fn add_connection_failures(&mut self) {
        self.connect_failure = true;
        self.refused_stream = true;
        self.reset = true;
    }

    /// Whether it has gRPC statuses, which may follow the head in trailers.
    pub(crate) fn has_grpc_status(&self) -> bool {
        self.grpc != 0
    }

    /// Whether calls with this gRPC status are retried.
    pub fn grpc(&self, status: u32) -> bool {
        self.grpc.checked_shr(status).is_some_and(|rest| rest & 1 == 1)
    }
}

impl RetryPolicy {
    pub(super) fn new(settings: &RetrySettings) -> Self {
        let mut on = RetryOn::default();
        settings.on.0.iter().for_each(|condition| on.add(condition.0));
        let backoff = settings.backoff.clone().unwrap_or_default();
        let base = backoff.base.map_or(Duration::from_millis(25), |base| base.0);
        let budget = settings.budget.clone().unwrap_or_default();
        let methods = settings.methods.as_ref().map(|list| &list.0);
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            on,
            attempts: settings.attempts.map_or(1, |it| small(it.get())),
            per_try_timeout: settings.per_try_timeout.map(|it| it.0),
            backoff: Backoff { base, max: backoff.max.map_or(base * 10, |max| max.0) },
            budget: RetryBudget {
                percent: budget.percent.map_or(20, |it| small(it.get())),
                min: budget.min.map_or(3, |it| it.get()),
            },
            max_body: settings.max_body.map_or(64 << 10, |Text(Size(bytes))| bytes),
            methods: methods.map(|list| list.iter().filter_map(|name| name.parse().ok()).collect()),
        }
    }

    /// Whether requests of this method are retried although the service may have processed them.
    /// Unprocessed requests are retried with any method.
    pub(crate) fn retries_method(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|list| list.contains(method))
    }
}
