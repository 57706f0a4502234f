//! Breaks things on purpose: for tests, and to see what happens before it happens.

mod delay;
mod impair;
mod sampler;

use crate::series::SeriesKey;
use crate::{
    Decision, PolicyEnv, SeriesPolicy, WorkerPolicy,
    kind::Kind,
    rule::{PolicyConfig, Rule, Stage},
};
use impair::Impairments;
use operation::{
    ClosePoint, Effects, Impairment, InjectedClose, LatencyDistribution, Operation, RejectReason,
    Rejection,
};
use sampler::{FaultSampler, FaultSchedule, Hit, any_seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    num::NonZeroU64,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use values::{
    Count, Diagnostic, InRange, OneOrMore, Rate, Share, Size, duration_text,
    spanned::{Opt, Spanned},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> =
    Kind { key: "fault", summary: "Break something on purpose.", build: Settings::build };

/// Which of the operations that match are struck (`percent`, `nth` or `every`), and what becomes
/// of them: at most one of `refuse`, `close`, `reset`, `truncate`, `close_after` and `reset_after`,
/// and the others alone or beside it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "keys and values, such as `{ delay: 200ms }`")]
#[schemars(rename = "Fault")]
pub(super) struct Settings {
    /// How many in a hundred of the operations that match, 0.001 to 100. Default: 100.
    percent: Opt<Share>,
    /// Only the one with this number, from 1. Default: as `percent` says.
    nth: Opt<Count>,
    /// Each one whose number is a multiple of this. Default: as `percent` says.
    every: Opt<Count>,
    /// The same seed strikes the same operations again, in the order in which they come, and
    /// draws the same delays. Default: another one each time.
    seed: Opt<InRange<0, MAX_SEED>>,
    /// How often at most. Default: any number of times.
    times: Opt<Count>,
    /// For how long, from when it was switched on. Default: for ever.
    #[serde(rename = "for")]
    lasts: Opt<Duration>,
    /// How long the operation waits before it goes on: `200ms`, `{ min: 10ms, max: 50ms }`, or
    /// quantiles: `{ p50: 10ms, p99: 200ms }`. Default: not at all.
    delay: Option<Spanned<delay::DelaySetting>>,
    /// Answer with an error in the service's place. Default: no.
    refuse: Option<Spanned<RefuseSettings>>,
    /// End the connection: before the `request` is forwarded, instead of the `reply`, or at its
    /// `end`. Default: nowhere.
    close: Option<Spanned<CutPoint>>,
    /// The same with a reset. Default: nowhere.
    reset: Option<Spanned<CutPoint>>,
    /// End the connection after this many bytes of the reply; a shorter reply is left whole.
    /// Default: never.
    truncate: Opt<Size>,
    /// How many bytes of the operation pass in a second, each way. Default: any.
    throttle: Opt<Rate>,
    /// Of TCP: how much later bytes arrive, drawn for each chunk as it arrives; written as `delay`
    /// is. Default: not at all.
    latency: Option<Spanned<delay::DelaySetting>>,
    /// Of TCP: bytes arrive in pieces, such as `{ size: 10B, pause: 5ms }`. Default: as they come.
    slice: Option<Spanned<impair::SliceSettings>>,
    /// Of TCP: bytes are taken, and never arrive; neither does the end. Default: no.
    black_hole: Option<Spanned<bool>>,
    /// Of TCP: how much later than the last byte the end arrives. Default: not at all.
    slow_close: Opt<Duration>,
    /// Of TCP: end the session so long after it was struck. Default: never.
    close_after: Opt<Duration>,
    /// The same with a reset. Default: never.
    reset_after: Opt<Duration>,
    /// Which way `latency`, `slice`, `black_hole` and `slow_close` hold: to the `client`, or to
    /// the `service`. Default: both.
    to: Option<Spanned<impair::Receiver>>,
}

/// What is answered in the service's place.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "keys and values, such as `{ code: 50 }`")]
#[schemars(rename = "FaultRefusal")]
pub(crate) struct RefuseSettings {
    /// The error's code, in the protocol's own numbers. Default: the one that it has for this.
    code: Opt<InRange<1, MAX_CODE>>,
    /// What a person reads in the error. Default: a sentence that names the policy.
    message: Option<Spanned<String>>,
    /// The error's labels, where the protocol's errors have some. Default: none.
    labels: Option<Spanned<OneOrMore<String>>>,
}

/// The largest code that an error may have.
const MAX_CODE: usize = 99_999_999;

/// The largest seed.
const MAX_SEED: usize = u32::MAX as usize;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", expecting = "`request`, `reply` or `end`")]
#[schemars(inline)]
enum CutPoint {
    Request,
    Reply,
    End,
}

impl CutPoint {
    fn place(self) -> ClosePoint {
        match self {
            CutPoint::Request => ClosePoint::BeforeRequest,
            CutPoint::Reply => ClosePoint::AfterReplyBytes(0),
            CutPoint::End => ClosePoint::AfterReply,
        }
    }
}

/// The value; `None` if it is missing or invalid, which has been reported already.
fn value<T>(given: Option<Spanned<T>>) -> Option<T> {
    given?.value
}

impl Settings {
    #[expect(clippy::too_many_lines, reason = "every key, once")]
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let mut one_of = |keys: &[(&'static str, bool)], hint: &str| {
            let mut given = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key);
            if let (Some(one), Some(two)) = (given.next(), given.next()) {
                let message = format!("`{one}` and `{two}` exclude each other");
                mistakes.push(Diagnostic::at(&[two], message, hint));
            }
        };
        let (percent, nth, every) =
            (self.percent.is_some(), self.nth.is_some(), self.every.is_some());
        one_of(
            &[("percent", percent), ("nth", nth), ("every", every)],
            "write one of `percent`, `nth` and `every`",
        );
        let (refuse, close) = (self.refuse.is_some(), self.close.is_some());
        let (reset, truncate) = (self.reset.is_some(), self.truncate.is_some());
        let (close_after, reset_after) = (self.close_after.is_some(), self.reset_after.is_some());
        let ends = [
            ("refuse", refuse),
            ("close", close),
            ("reset", reset),
            ("truncate", truncate),
            ("close_after", close_after),
            ("reset_after", reset_after),
        ];
        one_of(&ends, "write a policy for each");
        if refuse && self.throttle.is_some() {
            let message = "a refused operation has no bytes to throttle";
            mistakes.push(Diagnostic::at(&["throttle"], message, "leave one of the two out"));
        }
        let keys = impair::ImpairmentSettings {
            latency: self.latency,
            slice: self.slice,
            black_hole: self.black_hole,
            slow_close: self.slow_close,
            to: self.to,
        };
        let impairments = keys.check(&mut mistakes);
        let some = ends.iter().any(|(_, given)| *given) || !impairments.is_none();
        if !some && self.delay.is_none() && self.throttle.is_none() && mistakes.is_empty() {
            let hint = "write one of delay, refuse, close, reset, truncate, throttle; of TCP also \
                        latency, slice, black_hole, slow_close, close_after, reset_after";
            mistakes.push(Diagnostic::at(&[], "this breaks nothing", hint));
        }
        let delay = match value(self.delay).map(|delay| delay.check("delay")).transpose() {
            Ok(delay) => delay,
            Err(mistake) => {
                mistakes.push(mistake);
                None
            }
        };
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let when = match (value(self.nth), value(self.every)) {
            (Some(nth), _) => FaultSchedule::Nth(nth.get() as u64),
            (_, Some(every)) => FaultSchedule::Every(every.get() as u64),
            _ => FaultSchedule::Percent(value(self.percent).map_or(100.0, |share| share.get())),
        };
        let seed = value(self.seed).map_or_else(any_seed, |seed| seed.get() as u64);
        let times = value(self.times).map(|times| times.get() as u64);
        let close = value(self.close).map(|at| InjectedClose { at: at.place(), reset: false });
        let reset = value(self.reset).map(|at| InjectedClose { at: at.place(), reset: true });
        let truncate = value(self.truncate).map(|size| InjectedClose {
            at: ClosePoint::AfterReplyBytes(size.bytes()),
            reset: false,
        });
        let after = |time: Opt<Duration>, reset| {
            value(time).map(|time| InjectedClose { at: ClosePoint::AfterDelay(time.0), reset })
        };
        let after = after(self.close_after, false).or(after(self.reset_after, true));
        Ok(Arc::new(FaultPolicy {
            sampler: Arc::new(FaultSampler::new(when, seed, times)),
            lasts: value(self.lasts).map(|lasts| lasts.0),
            delay,
            refuse: value(self.refuse).map(RefuseSettings::check),
            cut: close.or(reset).or(truncate).or(after),
            impairments,
            throttle: value(self.throttle).map(|rate| rate.0),
        }))
    }
}

impl RefuseSettings {
    fn check(self) -> FaultRejection {
        let labels = value(self.labels).map_or_else(Vec::new, |labels| labels.0);
        FaultRejection {
            code: value(self.code).and_then(|code| code.get().try_into().ok()),
            message: value(self.message),
            labels,
        }
    }
}

#[derive(Debug)]
struct FaultPolicy {
    sampler: Arc<FaultSampler>,
    lasts: Option<Duration>,
    delay: Option<LatencyDistribution>,
    refuse: Option<FaultRejection>,
    cut: Option<InjectedClose>,
    impairments: Impairments,
    throttle: Option<Rate>,
}

/// What is answered in the service's place.
#[derive(Debug)]
struct FaultRejection {
    code: Option<i32>,
    message: Option<String>,
    labels: Vec<String>,
}

impl FaultRejection {
    fn rejection(&self, policy: &str) -> Rejection {
        let usual = || format!("the policy `{policy}` breaks this on purpose");
        let message = self.message.clone().unwrap_or_else(usual);
        let labels = self.labels.iter().map(|label| label.as_str().into()).collect();
        Rejection { code: self.code, labels, ..Rejection::new(RejectReason::Injected, message) }
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({});
        if let Some(code) = self.code {
            json["code"] = code.into();
        }
        if let Some(message) = &self.message {
            json["message"] = message.as_str().into();
        }
        if !self.labels.is_empty() {
            json["labels"] = self.labels.as_slice().into();
        }
        json
    }
}

impl PolicyConfig for FaultPolicy {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Operation
    }

    fn fails_closed(&self) -> bool {
        false
    }

    fn needs_stream(&self) -> bool {
        let after = self.cut.is_some_and(|cut| matches!(cut.at, ClosePoint::AfterDelay(_)));
        after || !self.impairments.is_none()
    }

    fn lifetime(&self) -> Option<Duration> {
        self.lasts
    }

    fn worker_policy(&self, rule: &Rule, _: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let pace = self.throttle.map(|rate| rate.amount / rate.per.as_secs().max(1));
        Box::new(WorkerFault(Rc::new(WorkerFaultState {
            sampler: Arc::clone(&self.sampler),
            delay: self.delay.clone(),
            rejection: self.refuse.as_ref().map(|refuse| refuse.rejection(&rule.name)),
            cut: self.cut,
            impairments: self.impairments.by_direction(),
            pace: pace.map(|pace| NonZeroU64::new(pace).unwrap_or(NonZeroU64::MIN)),
        })))
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = match self.sampler.when {
            FaultSchedule::Percent(percent) => serde_json::json!({ "percent": percent }),
            FaultSchedule::Nth(nth) => serde_json::json!({ "nth": nth }),
            FaultSchedule::Every(every) => serde_json::json!({ "every": every }),
        };
        json["seed"] = self.sampler.seed.into();
        if let Some(times) = self.sampler.times {
            json["times"] = times.into();
        }
        if let Some(lasts) = self.lasts {
            json["for"] = duration_text(lasts).into();
        }
        if let Some(delay) = &self.delay {
            json["delay"] = delay::to_json(delay);
        }
        if let Some(refuse) = &self.refuse {
            json["refuse"] = refuse.to_json();
        }
        if let Some(InjectedClose { at: place, reset }) = self.cut {
            let key = if reset { "reset" } else { "close" };
            match place {
                ClosePoint::BeforeRequest => json[key] = "request".into(),
                ClosePoint::AfterReplyBytes(0) => json[key] = "reply".into(),
                ClosePoint::AfterReplyBytes(n) => json["truncate"] = Size(n).text().into(),
                ClosePoint::AfterReply => json[key] = "end".into(),
                ClosePoint::AfterDelay(time) if reset => {
                    json["reset_after"] = duration_text(time).into()
                }
                ClosePoint::AfterDelay(time) => json["close_after"] = duration_text(time).into(),
            }
        }
        if let Some(rate) = self.throttle {
            json["throttle"] = rate.bytes_text().into();
        }
        self.impairments.show(&mut json);
        json
    }
}

/// What one worker injects.
struct WorkerFaultState {
    sampler: Arc<FaultSampler>,
    delay: Option<LatencyDistribution>,
    rejection: Option<Rejection>,
    cut: Option<InjectedClose>,
    impairments: [Impairment; 2],
    pace: Option<NonZeroU64>,
}

#[derive(Clone)]
struct WorkerFault(Rc<WorkerFaultState>);

impl WorkerPolicy for WorkerFault {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for WorkerFault {
    fn admit_open(&self, operation: &Operation<'_>, now: Instant) -> Option<Decision> {
        // An operation admitted earlier is rejected at once, without the delay.
        if let Some(rejection) = &self.0.rejection {
            return self.0.sampler.next().map(|_| Decision::Reject(rejection.clone()));
        }
        Some(self.admit(operation, now, &mut 0))
    }

    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        let WorkerFaultState { sampler, delay, rejection, cut, impairments, pace } = &*self.0;
        let Some(Hit { draw }) = sampler.next() else { return Decision::Admit };
        let delay = delay.as_ref().map_or(Duration::ZERO, |delay| delay.quantile(draw));
        match rejection.clone() {
            Some(rejection) if delay.is_zero() => Decision::Reject(rejection),
            Some(rejection) => Decision::Pending(Box::pin(async move {
                tokio::time::sleep(delay).await;
                Decision::Reject(rejection)
            })),
            None => {
                let (cut, pace, mut impairments) = (*cut, *pace, impairments.clone());
                impairments.iter_mut().for_each(|impairment| impairment.seed = draw.to_bits());
                let effects = Effects {
                    delay,
                    injected_close: cut,
                    bytes_per_second: pace,
                    impairments,
                    ..Effects::default()
                };
                Decision::Modify(Rc::new(effects))
            }
        }
    }
}
