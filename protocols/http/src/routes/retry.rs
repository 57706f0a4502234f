//! What a route says about trying again.

use super::statuses::StatusSet;
use crate::retry::{Backoff, RetryBudget};
use crate::settings::{RetryCondition, RetrySettings, StatusRange};
use http::Method;
use std::time::Duration;
use values::{Size, Text};

/// What is tried again, how often, and after how long.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// When.
    pub on: RetryOn,
    /// How many times more, beside the first.
    pub attempts: u32,
    /// How long one try may take, up to the head of its answer.
    pub per_try_timeout: Option<Duration>,
    /// How long is waited before each.
    pub backoff: Backoff,
    /// How many of them may be under way.
    pub budget: RetryBudget,
    /// How many bytes of a request's body are kept to be sent again.
    pub max_body: u64,
    methods: Option<Box<[Method]>>,
}

/// When a request is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection came about.
    pub connect_failure: bool,
    /// The endpoint refused the stream unread.
    pub refused_stream: bool,
    /// The connection or the stream broke before the answer began.
    pub reset: bool,
    /// It answered one of these; 504 stands for a try that took too long as well.
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
                self.unanswered();
            }
            RetryCondition::Status(range @ StatusRange { from, to }) => {
                (from..=to).for_each(|status| self.statuses.insert(status));
                if range == (StatusRange { from: 500, to: 599 }) {
                    self.unanswered();
                }
            }
            RetryCondition::Grpc(code) => self.grpc |= 1_u32.checked_shl(code.into()).unwrap_or(0),
        }
    }

    /// Without an answer the client would be told 502 or 503.
    fn unanswered(&mut self) {
        self.connect_failure = true;
        self.refused_stream = true;
        self.reset = true;
    }

    /// Whether any of them is a status of gRPC, which may come after the head.
    pub fn is_for_codes(&self) -> bool {
        self.grpc != 0
    }

    /// Whether a gRPC call that ended with this status is tried again.
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
            attempts: settings.attempts.map_or(1, |it| small(it.0.0)),
            per_try_timeout: settings.per_try_timeout.map(|it| it.0),
            backoff: Backoff { base, max: backoff.max.map_or(base * 10, |max| max.0) },
            budget: RetryBudget {
                percent: budget.percent.map_or(20, |it| small(it.0.0)),
                min: budget.min.map_or(3, |it| it.0.0),
            },
            max_body: settings.max_body.map_or(64 << 10, |Text(Size(bytes))| bytes),
            methods: methods.map(|list| list.iter().filter_map(|name| name.parse().ok()).collect()),
        }
    }

    /// Whether requests of this method are tried again although the service may have acted on
    /// them. What it can't have read is tried again whatever the method.
    pub fn repeats(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|list| list.contains(method))
    }
}
