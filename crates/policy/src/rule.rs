//! A configured policy: what it matches, what it does, and the metrics that count it.

use super::{
    PolicyEnv, WorkerPolicy,
    matching::{Applicability, KnownFields, Match, ResidualMatch, Truth},
};
use crate::{PolicySource, series::SeriesKey};
use metrics::Counter;
use operation::{AttributeValue, ConnectionInfo, Decision, Operation, RejectReason, Rejection};
use std::{
    borrow::Cow,
    cell::RefCell,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::{EffectCounts, Metrics, table as names};

/// Stands for a part of a name that could not be read; see [`Operation::resource`].
const UNREAD: char = '?';

/// A configured policy, shared by all workers.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// It is switched on.
    pub enabled: bool,
    /// It only counts and logs what it would do.
    pub dry_run: bool,
    /// When it ends by itself.
    pub expires: Option<Instant>,
    /// What it applies to.
    pub matching: Arc<Match>,
    /// What it does.
    pub config: Arc<dyn PolicyConfig>,
    /// As it was written.
    pub source: PolicySource,
    /// How often it had an effect. A policy that replaces it continues these counts.
    pub counts: Arc<EffectCounts>,
}

impl Rule {
    /// Whether it decides about connections, and not about their operations.
    pub fn is_for_connections(&self) -> bool {
        match self.config.stage() {
            Stage::Connection => true,
            Stage::Operation => false,
            Stage::Either => self.matching.is_known_at_connect(),
        }
    }

    /// Whether another one is the same but for its place in memory, and shares its state.
    pub(crate) fn is_equivalent(&self, other: &Rule) -> bool {
        self.name == other.name
            && (self.enabled, self.dry_run) == (other.enabled, other.dry_run)
            && self.expires == other.expires
            && self.matching == other.matching
            && self.source.has_same_action(&other.source)
    }

    /// As a config would have it, with all that can be left out.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": &*self.name,
            "enabled": self.enabled,
            "dry_run": self.dry_run,
            "match": self.matching.to_json(),
            self.config.kind(): self.config.to_json(),
        })
    }

    /// The same as a replacement for `known`, of which a part was changed. Its action keeps its
    /// state unless the action was changed; what lasts for some time begins when it is switched on.
    pub fn replacing(self, known: &Rule, now: Instant) -> Self {
        let did = Arc::clone(&known.counts);
        if !self.source.has_same_action(&known.source) {
            return Self { counts: did, ..self };
        }
        let action = Arc::clone(&known.config);
        let begins = self.enabled && !known.enabled;
        let ends = || action.lifetime().and_then(|lasts| now.checked_add(lasts));
        let expires = if begins { ends() } else { known.expires };
        Self { counts: did, expires, config: action, ..self }
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What a configured policy does. State that workers share belongs here: it lives until the policy
/// is changed.
pub trait PolicyConfig: fmt::Debug + Send + Sync {
    /// The key that it is written under: `rate_limit`.
    fn kind(&self) -> &'static str;

    /// What it decides about.
    fn stage(&self) -> Stage;

    /// Whether it fails closed: a request that can't be read is then rejected.
    fn fails_closed(&self) -> bool {
        true
    }

    /// Whether operations that cost the service nothing pass it (see
    /// [`Operation::limit_exempt`]), unless `match` names operations.
    fn skips_light(&self) -> bool {
        false
    }

    /// For how long it lasts from when it was switched on, if that is limited.
    fn lifetime(&self) -> Option<Duration> {
        None
    }

    /// Whether it asks what can be asked only of an operation that is the connection itself
    /// ([`operation::Protocol::stream`]).
    fn needs_stream(&self) -> bool {
        false
    }

    /// The attribute that it requires, if any: an operation without it is treated as the worst
    /// case, so a config in which that can happen is an error.
    fn required_attribute(&self) -> Option<&'static str> {
        None
    }

    /// The words and attributes of an operation that it decides by, beside what it matches, as
    /// the parts of a limit's key. A request is held until they are known.
    fn depends_on(&self) -> Vec<Cow<'_, str>> {
        self.required_attribute().into_iter().map(Cow::Borrowed).collect()
    }

    /// Whether it bounds how many connections or operations clients may have.
    fn limits_clients(&self) -> bool {
        false
    }

    /// Whether it rejects every operation that it applies to.
    fn rejects_all(&self) -> bool {
        false
    }

    /// A hint about a valid but questionable setting, for `tollgate check`.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Its share on one worker, for one listener. `rule` is the policy that it is part of.
    fn worker_policy(&self, rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy>;

    /// Its settings as a config would have them, without secrets.
    fn to_json(&self) -> serde_json::Value;
}

/// What a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections, as they come.
    Connection,
    /// Operations.
    Operation,
    /// Connections where what it matches is known by then, otherwise operations.
    Either,
}

/// A policy in its place among a listener's.
pub struct ActivePolicy {
    /// The policy.
    pub policy: Box<dyn WorkerPolicy>,
    /// Its configuration; `None` for a built-in policy.
    pub rule: Option<Arc<Rule>>,
    name: Option<Arc<str>>,
    /// What the listener's clients speak.
    protocol: &'static str,
    /// What it decides by beside what it matches (see [`PolicyConfig::depends_on`]).
    decides_by: Box<[Box<str>]>,
    counts: Option<EffectCounters>,
}

/// Counts what a policy does to operations of one listener.
struct EffectCounters {
    metrics: Metrics,
    listener: Arc<str>,
    /// The policy's own counts, beside those of its name.
    did: Option<Arc<EffectCounts>>,
    handles: RefCell<Vec<(PolicyOutcome, [Counter; 2])>>,
}

/// What a policy did, or would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyOutcome {
    Refused(RejectReason),
    Modified,
    WouldRefuse(RejectReason),
    WouldModify,
}

impl ActivePolicy {
    /// A built-in policy that only observes, and is not named in logs and metrics.
    pub(crate) fn built_in(policy: Box<dyn WorkerPolicy>) -> Self {
        Self {
            policy,
            rule: None,
            name: None,
            protocol: "",
            decides_by: Box::default(),
            counts: None,
        }
    }

    /// A built-in policy that may reject, named in logs and metrics.
    pub(crate) fn built_in_named(
        name: &str,
        policy: Box<dyn WorkerPolicy>,
        from: &PolicyEnv,
    ) -> Self {
        Self {
            name: Some(name.into()),
            protocol: from.protocol.name,
            counts: Some(EffectCounters::new(from, None)),
            ..Self::built_in(policy)
        }
    }

    /// A configured policy.
    pub fn configured(rule: &Arc<Rule>, from: &PolicyEnv) -> Self {
        Self {
            policy: rule.config.worker_policy(rule, from),
            name: Some(Arc::clone(&rule.name)),
            rule: Some(Arc::clone(rule)),
            protocol: from.protocol.name,
            decides_by: rule.config.depends_on().iter().map(|name| (**name).into()).collect(),
            counts: Some(EffectCounters::new(from, Some(&rule.counts))),
        }
    }

    /// Whether it fails closed on this listener.
    pub fn fails_closed(&self, listener: &str) -> bool {
        let guards = |rule: &Arc<Rule>| {
            let kind = rule.config.fails_closed() && !rule.is_for_connections() && !rule.dry_run;
            kind && rule.matching.may_apply(listener, self.protocol)
        };
        self.rule.as_ref().is_some_and(guards)
    }

    /// Whether it lets pass what costs the service nothing: a limit does, unless it names operations.
    pub(crate) fn skips_light(&self) -> bool {
        let spares =
            |rule: &Arc<Rule>| rule.config.skips_light() && !rule.matching.names_operations();
        self.rule.as_ref().is_some_and(spares)
    }

    /// Whether this is that policy, unchanged.
    pub(crate) fn is_for(&self, rule: &Arc<Rule>) -> bool {
        self.rule.as_ref().is_some_and(|own| Arc::ptr_eq(own, rule))
    }

    /// Its name in logs and metrics, if it has one.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// Whether it only counts and logs what it would do.
    pub(crate) fn is_dry(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.dry_run)
    }

    /// Whether it applies to the operations of a series.
    pub fn applies(&self, listener: &str, key: &SeriesKey) -> Applicability {
        match &self.rule {
            None => Applicability::Always,
            Some(rule) if rule.is_for_connections() => Applicability::Never,
            Some(rule) => match rule.matching.applies(listener, key) {
                // It may end while operations of the series go on.
                Applicability::Always if rule.expires.is_some() => {
                    Applicability::PerOperation(ResidualMatch::default())
                }
                applies => applies,
            },
        }
    }

    /// Whether it applies to this operation of a series that it may apply to.
    pub(crate) fn applies_to(
        &self,
        rest: &ResidualMatch,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Truth {
        match &self.rule {
            None => Truth::Yes,
            Some(rule) if rule.is_expired(now) => Truth::No,
            Some(rule) => rule.matching.matches(rest, operation),
        }
    }

    /// Whether it is evaluated when it is unknown if it applies. A policy that fails closed
    /// something out is: what is not known can't be let past it.
    pub(crate) fn applies_in_doubt(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.config.fails_closed())
    }

    /// Whether what it decides about an operation that it applies to depends on something that
    /// stands further on in the request.
    pub(crate) fn depends_on_unread(&self, operation: &Operation<'_>) -> bool {
        self.decides_by.iter().any(|name| match &**name {
            "operation" => operation.name.starts_with(UNREAD),
            "resource" => operation.resource.starts_with(UNREAD),
            name => operation.attribute(name) == AttributeValue::Unread,
        })
    }

    /// The key of its match whose value is not known of an operation.
    pub(crate) fn key_in_doubt(&self, listener: &str, operation: &Operation<'_>) -> Option<String> {
        let known = KnownFields::of(listener, operation);
        self.rule.as_ref().and_then(|rule| rule.matching.key_in_doubt(&known, operation))
    }

    /// Whether it is to be asked about this connection.
    pub(crate) fn applies_to_connection(
        &self,
        listener: &str,
        link: &ConnectionInfo,
        now: Instant,
    ) -> bool {
        self.rule.as_ref().is_none_or(|rule| {
            rule.is_for_connections()
                && !rule.is_expired(now)
                && rule.matching.matches_connection(listener, self.protocol, link)
        })
    }

    /// Counts what was decided.
    pub fn count(&self, decision: &Decision) {
        let effect = match (decision, self.is_dry()) {
            (Decision::Reject(no), false) => PolicyOutcome::Refused(no.reason),
            (Decision::Reject(no), true) => PolicyOutcome::WouldRefuse(no.reason),
            (Decision::Modify(terms), _) if terms.is_timeout_only() => return,
            (Decision::Modify(_), false) => PolicyOutcome::Modified,
            (Decision::Modify(_), true) => PolicyOutcome::WouldModify,
            (Decision::Admit | Decision::Pending(_), _) => return,
        };
        self.count_effect(effect);
    }

    /// Counts that it slowed something down.
    pub fn count_throttled(&self) {
        self.count_effect(if self.is_dry() {
            PolicyOutcome::WouldModify
        } else {
            PolicyOutcome::Modified
        });
    }

    /// The rejection, attributed to this policy.
    pub fn attribute(&self, no: Rejection) -> Rejection {
        Rejection { policy: self.name.clone(), ..no }
    }

    /// Counts a connection that was rejected, or would have been.
    pub(crate) fn count_rejection(&self, no: &Rejection) {
        self.count_effect(match self.is_dry() {
            true => PolicyOutcome::WouldRefuse(no.reason),
            false => PolicyOutcome::Refused(no.reason),
        });
    }

    fn count_effect(&self, effect: PolicyOutcome) {
        if let (Some(counts), Some(name)) = (&self.counts, &self.name) {
            counts.count(name, effect);
        }
    }
}

impl EffectCounters {
    fn new(from: &PolicyEnv, did: Option<&Arc<EffectCounts>>) -> Self {
        let (metrics, listener) = (from.metrics.clone(), Arc::clone(&from.listener));
        Self { metrics, listener, did: did.cloned(), handles: RefCell::default() }
    }

    fn count(&self, policy: &str, effect: PolicyOutcome) {
        let mut handles = self.handles.borrow_mut();
        if let Some((_, counters)) = handles.iter().find(|(known, _)| *known == effect) {
            return counters.iter().for_each(|counter| counter.increment(1));
        }
        let (name, reason) = match effect {
            PolicyOutcome::Refused(reason) => (names::REFUSALS_TOTAL, Some(reason)),
            PolicyOutcome::WouldRefuse(reason) => (names::DRY_RUN_REFUSALS_TOTAL, Some(reason)),
            PolicyOutcome::Modified => (names::POLICY_EFFECTS_TOTAL, None),
            PolicyOutcome::WouldModify => (names::DRY_RUN_POLICY_EFFECTS_TOTAL, None),
        };
        let mut labels = vec![("listener", &*self.listener), ("policy", policy)];
        labels.extend(reason.map(|reason| ("reason", reason.as_str())));
        let own = self.did.as_ref().map_or_else(Counter::noop, |did| match effect {
            PolicyOutcome::Refused(_) => did.refused(),
            PolicyOutcome::WouldRefuse(_) => did.would_refuse(),
            PolicyOutcome::Modified => did.modified(),
            PolicyOutcome::WouldModify => did.would_modify(),
        });
        let counters = [self.metrics.counter(name, &labels), own];
        counters.iter().for_each(|counter| counter.increment(1));
        handles.push((effect, counters));
    }
}
