//! The policies in force on one listener and worker, and the metrics that count their effects.

use crate::{
    PolicyEnv, WorkerPolicy,
    access_log::AccessLog,
    breaker::{self, BreakerPolicy},
    matching::{Applicability, KnownFields, ResidualMatch, Truth},
    rule::Rule,
    series_key::SeriesKey,
    stats::Stats,
};
use metrics::Counter;
use operation::{AttributeValue, ConnectionInfo, Decision, Operation, RejectReason, Rejection};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Instant};
use tollgate_metrics::{EffectCounts, Metrics, table as names};

/// Stands for a part of a name that could not be read; see [`Operation::resource`].
const UNREAD: char = '?';

/// The policies of a listener, in the order in which operations pass them: what counts and logs
/// comes first, so that it also sees what others reject, and then the configured policies.
///
/// A policy of `known` whose rule has not changed is kept, with its state.
pub(crate) fn active_policies(
    rules: &[Arc<Rule>],
    known: &[Rc<ActivePolicy>],
    from: &PolicyEnv,
) -> Vec<Rc<ActivePolicy>> {
    let stats: Option<Box<dyn WorkerPolicy>> = Some(Box::new(Stats::new(from)));
    let log = AccessLog::new(from).map(|log| Box::new(log) as Box<dyn WorkerPolicy>);
    let before = [stats, log].into_iter().flatten().map(|it| Rc::new(ActivePolicy::built_in(it)));
    let configured = rules.iter().filter(|rule| rule.enabled).map(|rule| {
        let same = known.iter().find(|entry| entry.is_for(rule));
        same.map_or_else(|| Rc::new(ActivePolicy::configured(rule, from)), Rc::clone)
    });
    let breaker = BreakerPolicy::new(from).map(|breaker| {
        Rc::new(ActivePolicy::built_in_named(breaker::NAME, Box::new(breaker), from))
    });
    before.chain(configured).chain(breaker).collect()
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

    /// Whether operations that cost the service nothing pass it: they pass a limit, unless its match
    /// names operations.
    pub(crate) fn skips_light(&self) -> bool {
        let spares =
            |rule: &Arc<Rule>| rule.config.skips_light() && !rule.matching.names_operations();
        self.rule.as_ref().is_some_and(spares)
    }

    /// Whether it was built from this rule.
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

    /// Whether it decides about this connection.
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
