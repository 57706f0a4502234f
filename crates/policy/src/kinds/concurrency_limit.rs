//! Limits the operations in flight: to a fixed number, or to as many as the service takes without
//! queueing.

mod gradient;
mod semaphore;
mod semaphores;
mod worker;

use crate::{
    PolicyEnv, WorkerPolicy,
    key::{KeySetting, KeySpec},
    kind::Kind,
    over_limit::OverLimit,
    rule::{PolicyConfig, Rule, Stage},
};
use schemars::JsonSchema;
use semaphore::LimitMode;
use semaphores::SharedSemaphores;
use serde::Deserialize;
use std::{borrow::Cow, sync::Arc, time::Duration};
use values::{
    Count, Diagnostic, Factor, Percent, duration_text,
    spanned::{Opt, Spanned, opt_value},
};
use worker::WorkerConcurrencyLimit;

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> = Kind {
    key: "concurrency_limit",
    summary: "Limit how many operations are in flight at a time.",
    build: Settings::build,
};

/// The default of `queue_timeout`.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The defaults of `adaptive`.
const ADAPTIVE: gradient::Plan =
    gradient::Plan { min: 10, max: 1000, initial: 20, tolerance: 1.5, smoothing: 0.2 };

/// Limits how many operations are in flight at a time, over all workers.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ConcurrencyLimit")]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max: 50 }`")]
pub(super) struct Settings {
    /// How many operations may be under way. Either this or `adaptive` is required. Default: what
    /// `adaptive` finds out.
    max: Opt<Count>,
    /// Find out from latencies how many that should be; `{}` for every default. Default: as
    /// `max` says.
    adaptive: Option<Spanned<Adaptive>>,
    /// Which operations are counted together: those that agree in all of these attributes.
    /// `[]`: all of them. Default: `[]`.
    key: KeySetting,
    /// How many operations may wait for a place, in order. Default: none.
    queue: Opt<Count>,
    /// Who waited for longer than this is refused. Default: `1s`.
    queue_timeout: Opt<Duration>,
    /// How an operation beyond the limit is rejected: `refuse`, `close` or `reset`. Default:
    /// `refuse`.
    #[schemars(extend("enum" = ["refuse", "close", "reset"]))]
    over: Opt<OverLimit>,
    /// What a person reads in the error. Default: a sentence that names the policy.
    message: Option<Spanned<String>>,
}

/// A limit that follows latency (gradient2 of Netflix's concurrency-limits).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ min: 10, max: 200 }`")]
pub(crate) struct Adaptive {
    /// The limit never goes below this. Default: 10.
    min: Opt<Count>,
    /// The limit never goes above this. Default: 1000.
    max: Opt<Count>,
    /// Where the limit begins. Default: 20, or the nearest of `min` and `max`.
    initial: Opt<Count>,
    /// By what factor latency may rise above its long-term mean before the limit goes down.
    /// Default: 1.5.
    tolerance: Opt<Factor>,
    /// What share of each step is taken, in percent. Default: 20.
    smoothing: Opt<Percent>,
}

/// What a concurrency limit is to do, checked.
#[derive(Debug)]
struct Plan {
    mode: LimitMode,
    key_spec: KeySpec,
    queue: usize,
    queue_timeout: Duration,
    over: OverLimit,
    message: Option<Box<str>>,
}

/// A concurrency limit, as all workers share it.
#[derive(Debug)]
struct ConcurrencyLimit {
    plan: Arc<Plan>,
    semaphores: Arc<SharedSemaphores>,
}

impl Settings {
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let plan = self.plan(&mut mistakes);
        match plan {
            Some(plan) if mistakes.is_empty() => {
                let semaphores = Arc::new(SharedSemaphores::new(plan.mode));
                Ok(Arc::new(ConcurrencyLimit { plan: Arc::new(plan), semaphores }))
            }
            _ => Err(mistakes),
        }
    }

    fn plan(self, mistakes: &mut Vec<Diagnostic>) -> Option<Plan> {
        let over = opt_value(self.over).unwrap_or_default();
        let mut wrong = |key: &str, message: &str, hint: &str| {
            mistakes.push(Diagnostic::at(&[key], message, hint));
        };
        if over.delays() {
            let hint = "write refuse, close or reset; `queue: 100` lets 100 operations wait";
            wrong("over", "operations over this limit wait in its queue", hint);
        }
        if self.queue_timeout.is_some() && self.queue.is_none() {
            let hint = "write `queue: 100`, or leave it out";
            wrong("queue_timeout", "`queue_timeout` needs a `queue`", hint);
        }
        if self.max.is_some() == self.adaptive.is_some() {
            let message = match self.max.is_some() {
                true => "`max` is a fixed limit and `adaptive` is another",
                false => "no limit is given",
            };
            wrong("max", message, "write either `max: 50` or `adaptive: {}`");
        }
        let mode = match self.adaptive {
            Some(adaptive) => LimitMode::Adaptive(adaptive.value?.plan(mistakes)),
            None => LimitMode::Fixed(opt_value(self.max)?.0),
        };
        Some(Plan {
            mode,
            key_spec: KeySpec::new(self.key, mistakes),
            queue: opt_value(self.queue).map_or(0, |count| count.0),
            queue_timeout: opt_value(self.queue_timeout).unwrap_or(QUEUE_TIMEOUT),
            over,
            message: self.message.and_then(|it| it.value).map(Into::into),
        })
    }
}

impl Adaptive {
    fn plan(self, mistakes: &mut Vec<Diagnostic>) -> gradient::Plan {
        let count = |count: Opt<Count>, default| opt_value(count).map_or(default, |count| count.0);
        let (min, max) = (count(self.min, ADAPTIVE.min), count(self.max, ADAPTIVE.max));
        if min > max {
            let message = format!("`min` is {min}, and `max` is {max}");
            mistakes.push(Diagnostic::at(
                &["adaptive", "max"],
                message,
                "make `max` the larger one",
            ));
        }
        let initial = count(self.initial, ADAPTIVE.initial.max(min).min(max));
        if !(min..=max).contains(&initial) && min <= max {
            let message = format!("`initial` is {initial}, which is not from {min} to {max}");
            let hint = "make it something between `min` and `max`";
            mistakes.push(Diagnostic::at(&["adaptive", "initial"], message, hint));
        }
        let percent = opt_value(self.smoothing).map(|percent| percent.0);
        if percent == Some(0) {
            let hint = "1 to 100";
            let path = ["adaptive", "smoothing"];
            mistakes.push(Diagnostic::at(&path, "`smoothing: 0` never changes it", hint));
        }
        let smoothing = percent.map_or(ADAPTIVE.smoothing, |percent| percent as f64 / 100.0);
        let tolerance = opt_value(self.tolerance).map_or(ADAPTIVE.tolerance, |factor| factor.0);
        gradient::Plan { min, max, initial, tolerance, smoothing }
    }
}

impl PolicyConfig for ConcurrencyLimit {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Operation
    }

    fn skips_limit_exempt(&self) -> bool {
        true
    }

    fn depends_on(&self) -> Vec<Cow<'_, str>> {
        self.plan.key_spec.names()
    }

    fn limits_clients(&self) -> bool {
        true
    }

    fn worker_policy(&self, rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        Box::new(WorkerConcurrencyLimit::new(&self.plan, &self.semaphores, rule, from))
    }

    fn to_json(&self) -> serde_json::Value {
        let Plan { mode, key_spec, queue, queue_timeout, over, message } = &*self.plan;
        let mut json = serde_json::json!({ "key": key_spec.names(), "over": over.as_str() });
        match mode {
            LimitMode::Fixed(max) => json["max"] = (*max).into(),
            LimitMode::Adaptive(plan) => {
                json["adaptive"] = serde_json::json!({
                    "min": plan.min,
                    "max": plan.max,
                    "initial": plan.initial,
                    "tolerance": plan.tolerance,
                    "smoothing": (plan.smoothing * 100.0).round() as u64,
                });
            }
        }
        if *queue > 0 {
            json["queue"] = (*queue).into();
            json["queue_timeout"] = duration_text(*queue_timeout).into();
        }
        if let Some(message) = message {
            json["message"] = (**message).into();
        }
        json
    }
}

#[cfg(test)]
mod tests;
