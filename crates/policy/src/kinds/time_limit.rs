//! Limits the time until the service's reply begins; then the proxy answers with an error.

use crate::series::SeriesKey;
use crate::{
    Decision, PolicyEnv, SeriesPolicy, Settled, WorkerPolicy,
    kind::Kind,
    rule::{PolicyConfig, Rule, Stage},
};
use metrics::Counter;
use operation::{Effects, Operation, RejectReason, ReplyTimeout};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::table as names;
use values::{
    Diagnostic, duration_text,
    spanned::{Opt, Spanned},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> = Kind {
    key: "time_limit",
    summary: "Answer in the service's place when it takes too long.",
    build: Settings::build,
};

/// Limits the time until the service answers; afterwards the client gets an error instead.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ timeout: 2s }`")]
#[schemars(rename = "TimeLimit")]
pub(super) struct Settings {
    /// How long the service may take until its reply begins, from when the request went on.
    #[schemars(required)]
    timeout: Opt<Duration>,
    /// What a person reads in the error. Default: a sentence that names the policy.
    message: Option<Spanned<String>>,
}

impl Settings {
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let Some(timeout) = self.timeout else {
            let message = "the key `timeout` is missing";
            return Err(vec![Diagnostic::at(&[], message, "write how long: `timeout: 2s`")]);
        };
        // An invalid value has been reported already.
        let timeout = timeout.value.ok_or_else(Vec::new)?.0;
        let message = self.message.and_then(|it| it.value).map(Into::into);
        Ok(Arc::new(TimeLimit { timeout, message }))
    }
}

#[derive(Debug)]
struct TimeLimit {
    timeout: Duration,
    message: Option<Arc<str>>,
}

impl PolicyConfig for TimeLimit {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Operation
    }

    fn fails_closed(&self) -> bool {
        false
    }

    fn worker_policy(&self, rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let configured = self.message.as_deref().map(str::to_owned);
        let after = self.timeout;
        let message = configured.unwrap_or_else(|| {
            let time = duration_text(after);
            format!("the service took longer than the policy `{}` allows: {time}", rule.name)
        });
        let labels = [
            ("listener", &*from.listener),
            ("policy", &*rule.name),
            ("reason", RejectReason::TimedOut.as_str()),
        ];
        let name = if rule.dry_run { names::DRY_RUN_REFUSALS_TOTAL } else { names::REFUSALS_TOTAL };
        let limit = ReplyTimeout { after, message: message.into(), policy: (&*rule.name).into() };
        Box::new(WorkerTimeLimit {
            effects: Rc::new(Effects { reply_timeout: Some(limit), ..Effects::default() }),
            after,
            dry_run: rule.dry_run,
            timed_out: from.metrics.counter(name, &labels),
        })
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "timeout": duration_text(self.timeout) });
        if let Some(message) = &self.message {
            json["message"] = (**message).into();
        }
        json
    }
}

#[derive(Clone)]
struct WorkerTimeLimit {
    effects: Rc<Effects>,
    after: Duration,
    /// Only count operations that exceed the limit.
    dry_run: bool,
    timed_out: Counter,
}

impl WorkerPolicy for WorkerTimeLimit {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for WorkerTimeLimit {
    fn admit(&self, operation: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        if operation.long_poll {
            return Decision::Admit;
        }
        Decision::Modify(Rc::clone(&self.effects))
    }

    fn settle(&self, done: &Settled<'_>, _: u64) {
        let own = |limit: &ReplyTimeout| done.how.policy == Some(&*limit.policy);
        let timed_out = match self.dry_run {
            true => {
                let began = done.how.first_byte.unwrap_or(done.how.now);
                !done.long_poll && began.saturating_duration_since(done.began) > self.after
            }
            // With several limits it was the strictest.
            false => self.effects.reply_timeout.as_ref().is_some_and(own),
        };
        if timed_out {
            self.timed_out.increment(1);
        }
    }
}
