//! Limits the rate of operations, documents, bytes or connections.

mod allowance;
mod limiter;
mod local_fallback;
mod local_limit;
pub mod shared;
mod shared_limit;
mod table;

use crate::{
    PolicyEnv, WorkerPolicy,
    key::{KeySetting, KeySpec},
    kind::Kind,
    over_limit::OverLimit,
    rule::{PolicyConfig, Rule, Stage},
};
use allowance::Allowance;
use limiter::Buckets;
use local_fallback::LocalFallback;
use local_limit::LocalLimit;
use operation::{RejectReason, Rejection, Settlement};
use schemars::JsonSchema;
use serde::Deserialize;
use shared::SharedLimitStore;
use shared_limit::SharedLimit;
use std::{
    borrow::Cow,
    {
        fmt,
        sync::{Arc, OnceLock},
        time::{Duration, Instant},
    },
};
use tls::ClientTls;
use values::{
    Count, Diagnostic, FromText, Rate, Size, duration_text, keyword_schema, parse_keyword,
    spanned::{Opt, Spanned, opt_value},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> = Kind {
    key: "rate_limit",
    summary: "Limit how many operations, documents, bytes or connections pass in a time.",
    build: Settings::build,
};

/// The default of `max_keys`.
const MAX_KEYS: usize = 100_000;

/// The default of `max_delay`.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Attributes that are credentials, or may be.
const CREDENTIALS: [&str; 4] =
    ["header.authorization", "header.proxy-authorization", "header.cookie", "header.x-api-key"];

/// Limits how many operations, documents, bytes or connections pass in a period of time, over all
/// workers.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "RateLimit")]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ rate: 500/s }`")]
pub(super) struct Settings {
    /// The limit and its period: `500/s`, `6000/m`, `10MiB/s`.
    #[schemars(required)]
    rate: Opt<Rate>,
    /// How many may pass at once after a pause. Default: as many as in a second, at least 1.
    burst: Opt<Size>,
    /// Who shares one allowance: those that agree in all of these attributes. `[peer]`: each
    /// client address has its own; `[peer/64]`: each IPv6 network of that length; `[]`: all share one. Default: `[]`.
    key: KeySetting,
    /// What is counted: `operations`, `documents`, `bytes` or `connections`. Default:
    /// `operations`.
    unit: Opt<Unit>,
    /// What is done beyond the limit: `refuse`, `delay`, `by_client` (refuse clients that know to
    /// back off, delay others), `close` or `reset`. Default: `refuse`.
    over: Opt<OverLimit>,
    /// An operation that would be delayed for longer than this is refused. Default: `1s`.
    max_delay: Opt<Duration>,
    /// How long refused clients are asked to wait before they try again, where the protocol can
    /// say so. Default: nothing is said.
    base_backoff: Opt<Duration>,
    /// How many keys have an allowance of their own, 24 bytes each in a full table. Further keys share
    /// one. Default: 100000.
    max_keys: Opt<Count>,
    /// What a person reads in the error. Default: a sentence that names the policy and its rate.
    message: Option<Spanned<String>>,
    /// Share the limit with other machines: a store that all of them ask decides. Default: each
    /// process has the limit for itself.
    shared: Option<Spanned<shared::Settings>>,
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unit {
    #[default]
    Operations,
    Documents,
    Bytes,
    Connections,
}

const UNITS: [(&str, Unit); 4] = [
    ("operations", Unit::Operations),
    ("documents", Unit::Documents),
    ("bytes", Unit::Bytes),
    ("connections", Unit::Connections),
];

/// What a rate limit is to do, checked.
#[derive(Debug)]
struct Plan {
    allowance: Allowance,
    key_spec: KeySpec,
    unit: Unit,
    over: OverLimit,
    max_delay: Duration,
    base_backoff: Option<Duration>,
    max_keys: usize,
    message: Option<Box<str>>,
    shared: Option<shared::Plan>,
}

/// A rate limit, as all workers share it.
#[derive(Debug)]
struct RateLimit {
    plan: Arc<Plan>,
    /// In a shared limit, what decides while its store is away.
    buckets: Arc<Buckets>,
    /// Made for the first worker: by then the policy's name is known.
    shared: OnceLock<SharedLimitStore>,
}

impl Settings {
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let plan = self.plan(&mut mistakes);
        match plan {
            Some(plan) if mistakes.is_empty() => {
                let buckets = Buckets::new(plan.allowance, plan.keys_here(), Instant::now());
                let (plan, buckets) = (Arc::new(plan), Arc::new(buckets));
                Ok(Arc::new(RateLimit { plan, buckets, shared: OnceLock::new() }))
            }
            _ => Err(mistakes),
        }
    }

    /// `None` if there is a mistake, or a value that could not even be read.
    fn plan(self, mistakes: &mut Vec<Diagnostic>) -> Option<Plan> {
        let unit = opt_value(self.unit).unwrap_or_default();
        let over = opt_value(self.over).unwrap_or_default();
        let (of_connections, delays) = (unit == Unit::Connections, over.delays());
        let is_shared = self.shared.is_some();
        let shared = self.shared.and_then(|shared| shared.value).map(shared::Settings::plan);
        let shared = shared.and_then(|plan| plan.map_err(|wrong| mistakes.extend(wrong)).ok());
        let mut wrong = |key: &str, message: &str, hint: &str| {
            mistakes.push(Diagnostic::at(&[key], message, hint));
        };
        if self.rate.is_none() {
            wrong("rate", "`rate` is missing", "write how many in how much time: `rate: 500/s`");
        }
        if self.max_delay.is_some() && !delays {
            let hint = "write `over: delay` or `over: by_client`, or leave it out";
            wrong("max_delay", "`max_delay` says how long a delay may be, and none is asked", hint);
        }
        if of_connections && over == OverLimit::ByClient {
            let hint = "write `over: refuse` or `over: delay`";
            wrong("over", "what a client knows is not known when it connects", hint);
        }
        if of_connections && is_shared {
            let hint = "leave out `shared`: each process counts its connections";
            wrong("shared", "a shared limit counts operations, documents or bytes", hint);
        }
        let rate = opt_value(self.rate)?;
        let burst = opt_value(self.burst).map_or_else(|| Allowance::one_second(rate), |it| it.0);
        let allowance = Allowance { rate, burst };
        if unit.is_paid_before() && allowance.is_too_fast() {
            let hint = "at most 10000000 a second, and a burst of at most 4294967295";
            wrong("rate", "nothing is ever that fast", hint);
        } else if allowance.takes_ages() {
            wrong("burst", "it takes over 100 years to earn this burst again", "make it smaller");
        }
        let key_spec = match of_connections {
            true => KeySpec::for_connections(self.key, mistakes),
            false => KeySpec::new(self.key, mistakes),
        };
        Some(Plan {
            allowance,
            key_spec,
            unit,
            over,
            max_delay: opt_value(self.max_delay).unwrap_or(MAX_DELAY),
            base_backoff: opt_value(self.base_backoff),
            max_keys: opt_value(self.max_keys).map_or(MAX_KEYS, |count| count.0),
            message: self.message.and_then(|it| it.value).map(Into::into),
            shared,
        })
    }
}

impl PolicyConfig for RateLimit {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        match self.plan.unit {
            Unit::Connections => Stage::Connection,
            Unit::Operations | Unit::Documents | Unit::Bytes => Stage::Operation,
        }
    }

    fn skips_limit_exempt(&self) -> bool {
        true
    }

    fn depends_on(&self) -> Vec<Cow<'_, str>> {
        match self.plan.unit {
            Unit::Connections => self.plan.key_spec.names(),
            Unit::Operations | Unit::Documents | Unit::Bytes => {
                shared_limit::store_attributes(&self.plan)
            }
        }
    }

    fn limits_clients(&self) -> bool {
        self.plan.unit.is_paid_before()
    }

    fn hint(&self) -> Option<String> {
        self.plan.hint()
    }

    fn tls(&self) -> Option<&Arc<ClientTls>> {
        self.plan.shared.as_ref()?.store.tls()
    }

    fn worker_policy(&self, rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let plan = &self.plan;
        let Some(shared) = &plan.shared else {
            return Box::new(LocalLimit::new(plan, &self.buckets, rule, from));
        };
        let made = || {
            let local = Arc::new(LocalFallback::new(&self.buckets, rule, from));
            SharedLimitStore::new(shared, &plan.limit(rule), local, &from.metrics)
        };
        Box::new(SharedLimit::new(plan, self.shared.get_or_init(made).client(), rule, from))
    }

    fn to_json(&self) -> serde_json::Value {
        let Plan { allowance, key_spec, unit, over, max_delay, max_keys, .. } = &*self.plan;
        let Plan { base_backoff, message, shared, .. } = &*self.plan;
        let mut json = serde_json::json!({
            "rate": self.plan.rate_text(),
            "burst": allowance.burst,
            "key": key_spec.names(),
            "unit": unit.as_str(),
            "over": over.as_str(),
            "max_keys": max_keys,
        });
        let max_delay = over.delays().then(|| duration_text(*max_delay));
        let base_backoff = base_backoff.map(duration_text);
        let message = message.as_deref().map(str::to_owned);
        let optional =
            [("max_delay", max_delay), ("base_backoff", base_backoff), ("message", message)];
        for (key, text) in optional {
            if let Some(text) = text {
                json[key] = text.into();
            }
        }
        if let Some(shared) = shared {
            json["shared"] = shared.to_json();
        }
        json
    }
}

impl Plan {
    /// The rate as a config would have it.
    fn rate_text(&self) -> String {
        match self.unit {
            Unit::Bytes => self.allowance.rate.bytes_text(),
            _ => self.allowance.rate.text(),
        }
    }

    /// The rejection of an operation over the limit.
    fn rejection(&self, policy: &str) -> Rejection {
        let message = self.message.as_deref().map_or_else(
            || {
                let (rate, unit) = (self.rate_text(), self.unit);
                format!("the policy `{policy}` lets {rate} {unit} pass: try again later")
            },
            str::to_owned,
        );
        let mut rejection = Rejection::new(RejectReason::RateLimited, message);
        rejection.mode = self.over.reject_mode();
        rejection.retry_after = self.base_backoff;
        rejection
    }

    /// Credentials that the store gets hashed with a key that everybody knows, or as they are.
    fn hint(&self) -> Option<String> {
        let shared = self.shared.as_ref()?;
        let names = shared_limit::store_attributes(self);
        let credential = names.iter().find(|name| CREDENTIALS.contains(&&***name))?;
        let how = match (shared.shows(credential), shared.hashes_in_public()) {
            (true, _) => "as it is: leave it out of `plain`",
            (false, true) => {
                "as a hash that who guesses it can check: write a `hash_key_file`, the same for all \
                 who share the limit"
            }
            (false, false) => return None,
        };
        Some(format!("the store gets `{credential}` {how}"))
    }

    /// The number of keys that this process keeps buckets for.
    fn keys_here(&self) -> usize {
        let local = |plan: &shared::Plan| plan.on_failure == shared::OnStoreFailure::Local;
        let is_kept_here = self.shared.as_ref().is_none_or(local);
        if is_kept_here && !self.key_spec.is_constant() { self.max_keys } else { 1 }
    }

    /// The limit, as the machines that share it name it.
    fn limit(&self, rule: &Rule) -> shared::SharedLimitSpec {
        let Allowance { rate, burst } = self.allowance;
        let key = self.key_spec.names().into_iter().map(Into::into).collect();
        let policy = Arc::clone(&rule.name);
        shared::SharedLimitSpec { policy, amount: rate.amount, per: rate.per, burst, key }
    }
}

impl Unit {
    fn as_str(self) -> &'static str {
        UNITS.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }

    /// Whether it is known beforehand how much there will be: one.
    fn is_paid_before(self) -> bool {
        matches!(self, Unit::Operations | Unit::Connections)
    }

    /// How much there was, where that is known only at the end.
    fn paid_after(self, how: &Settlement<'_>) -> u64 {
        match self {
            Unit::Operations | Unit::Connections => 0,
            // What a request carried and what a reply says was done with it are the same things.
            Unit::Documents => how.request_items.max(how.reply_items),
            Unit::Bytes => how.request_bytes.saturating_add(how.reply_bytes),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromText for Unit {
    const EXPECTED: &str = "what is counted";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &UNITS)
    }

    fn schema() -> schemars::Schema {
        keyword_schema(&UNITS)
    }
}

#[cfg(test)]
mod tests;
