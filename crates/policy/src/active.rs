//! The policies in force on one listener and worker, and the metrics that count their effects.

use crate::{
    PolicyEnv, WorkerPolicy,
    access_log::AccessLog,
    attributes::ConnectPhase,
    breaker::{self, BreakerPolicy},
    live_tap::ListenerTap,
    matching::{Applicability, KnownFields, ResidualMatch, Truth},
    query_shapes::QueryShapes,
    rule::Rule,
    series_key::SeriesKey,
    spans::Spans,
    stats::Stats,
};
use metrics::Counter;
use operation::{AttributeValue, Attributes, Decision, Operation, RejectReason, Rejection};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Instant};
use tollgate_metrics::{EffectCounts, Metrics, table as names};

/// Stands for a part of a name that could not be read; see [`Operation::resource`].
const UNREAD: char = '?';

/// The policies of a listener, in the order of evaluation: metrics, shapes, spans, access log and tap first, so
/// that they also see rejections, then the configured policies, then the circuit breaker.
///
/// A policy of `previous` whose rule has not changed is kept, with its state.
pub(crate) fn active_policies(
    rules: &[Arc<Rule>],
    previous: &[Rc<ActivePolicy>],
    env: &PolicyEnv,
) -> Vec<Rc<ActivePolicy>> {
    let stats: Option<Box<dyn WorkerPolicy>> = Some(Box::new(Stats::new(env)));
    let log = AccessLog::new(env).map(|log| Box::new(log) as Box<dyn WorkerPolicy>);
    let shapes = QueryShapes::new(env).map(|shapes| Box::new(shapes) as Box<dyn WorkerPolicy>);
    let tap: Option<Box<dyn WorkerPolicy>> = Some(Box::new(ListenerTap::new(env)));
    let spans = Spans::new(env).map(|spans| Box::new(spans) as Box<dyn WorkerPolicy>);
    let observers = [stats, shapes, spans, log, tap]
        .into_iter()
        .flatten()
        .map(|policy| Rc::new(ActivePolicy::built_in(policy)));
    let configured = rules.iter().filter(|rule| rule.enabled).map(|rule| {
        let same = previous.iter().find(|policy| policy.is_for(rule));
        same.map_or_else(|| Rc::new(ActivePolicy::configured(rule, env)), Rc::clone)
    });
    let breaker = BreakerPolicy::new(env).map(|breaker| {
        Rc::new(ActivePolicy::built_in_named(breaker::NAME, Box::new(breaker), env))
    });
    observers.chain(configured).chain(breaker).collect()
}

/// A policy in force on one listener and worker.
pub struct ActivePolicy {
    /// The policy.
    pub policy: Box<dyn WorkerPolicy>,
    /// Its configuration; `None` for a built-in policy.
    pub rule: Option<Arc<Rule>>,
    name: Option<Arc<str>>,
    /// The name of the listener's protocol.
    protocol: &'static str,
    /// The attributes that its decision depends on (see [`PolicyConfig::depends_on`]).
    depends_on: Box<[Box<str>]>,
    counts: Option<EffectCounters>,
    /// When it is asked about connections; `None` if it decides about operations.
    connect_phase: Option<ConnectPhase>,
}

/// Counts a policy's effects on operations of one listener.
struct EffectCounters {
    metrics: Metrics,
    listener: Arc<str>,
    /// The rule's own counts, besides the metrics of its name.
    rule_counts: Option<Arc<EffectCounts>>,
    handles: RefCell<Vec<(PolicyOutcome, [Counter; 2])>>,
}

/// An effect that is counted; `Would…` in a dry run.
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
            depends_on: Box::default(),
            counts: None,
            connect_phase: Some(ConnectPhase::BeforeHandshake),
        }
    }

    /// A built-in policy that may reject, named in logs and metrics.
    pub(crate) fn built_in_named(
        name: &str,
        policy: Box<dyn WorkerPolicy>,
        env: &PolicyEnv,
    ) -> Self {
        Self {
            name: Some(name.into()),
            protocol: env.protocol.name,
            counts: Some(EffectCounters::new(env, None)),
            ..Self::built_in(policy)
        }
    }

    /// A configured policy.
    pub fn configured(rule: &Arc<Rule>, env: &PolicyEnv) -> Self {
        Self {
            policy: rule.config.worker_policy(rule, env),
            name: Some(Arc::clone(&rule.name)),
            rule: Some(Arc::clone(rule)),
            protocol: env.protocol.name,
            depends_on: rule.config.depends_on().iter().map(|name| (**name).into()).collect(),
            counts: Some(EffectCounters::new(env, Some(&rule.counts))),
            connect_phase: rule.connect_phase(),
        }
    }

    /// Whether it fails closed on this listener.
    pub fn fails_closed(&self, listener: &str) -> bool {
        let fails_closed = |rule: &Arc<Rule>| {
            let kind = rule.config.fails_closed() && self.connect_phase.is_none() && !rule.dry_run;
            kind && rule.matching.may_apply(listener, self.protocol)
        };
        self.rule.as_ref().is_some_and(fails_closed)
    }

    /// Whether it does not apply to operations with `limit_exempt`: the policy is a limit whose match
    /// does not name operations.
    pub(crate) fn skips_limit_exempt(&self) -> bool {
        let skips = |rule: &Arc<Rule>| {
            rule.config.skips_limit_exempt() && !rule.matching.names_operations()
        };
        self.rule.as_ref().is_some_and(skips)
    }

    /// Whether it was built env this rule.
    pub(crate) fn is_for(&self, rule: &Arc<Rule>) -> bool {
        self.rule.as_ref().is_some_and(|built_from| Arc::ptr_eq(built_from, rule))
    }

    /// Its name in logs and metrics, if it has one.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// Whether it only counts and logs what it would do.
    pub(crate) fn is_dry(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.dry_run)
    }

    /// Whether it may apply to operations of this listener.
    pub(crate) fn may_apply_to_operations(&self, listener: &str) -> bool {
        self.rule
            .as_ref()
            .is_none_or(|rule| self.connect_phase.is_none() && rule.matching.may_apply_on(listener))
    }

    /// The attributes that its decision depends on besides its match.
    pub(crate) fn depends_on(&self) -> impl Iterator<Item = &str> {
        self.depends_on.iter().map(|name| &**name)
    }

    /// Whether it applies to the operations of a series.
    pub fn applies(&self, listener: &str, key: &SeriesKey) -> Applicability {
        match &self.rule {
            None => Applicability::Always,
            Some(_) if self.connect_phase.is_some() => Applicability::Never,
            Some(rule) => match rule.matching.applies(listener, key) {
                // It may expire during the life of the series.
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

    /// Whether it is evaluated when it is unknown if it applies. Policies that fail closed are.
    pub(crate) fn applies_in_doubt(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.config.fails_closed())
    }

    /// Whether its decision depends on an attribute in the unread rest of the request.
    pub(crate) fn depends_on_unread(&self, operation: &Operation<'_>) -> bool {
        self.depends_on().any(|name| match name {
            "operation" => operation.name.starts_with(UNREAD),
            "resource" => operation.resource.starts_with(UNREAD),
            name => operation.attribute(name) == AttributeValue::Unread,
        })
    }

    /// The key of its match for which the operation's value is not known.
    pub(crate) fn key_in_doubt(&self, listener: &str, operation: &Operation<'_>) -> Option<String> {
        let known = KnownFields::of(listener, operation);
        self.rule.as_ref().and_then(|rule| rule.matching.key_in_doubt(&known, operation))
    }

    /// Whether it is asked about connections in this phase.
    pub(crate) fn is_asked_in(&self, phase: ConnectPhase) -> bool {
        self.connect_phase == Some(phase)
    }

    /// Whether it decides about this connection.
    pub(crate) fn applies_to_connection(
        &self,
        listener: &str,
        connection: &dyn Attributes,
        now: Instant,
    ) -> bool {
        self.rule.as_ref().is_none_or(|rule| {
            self.connect_phase.is_some()
                && !rule.is_expired(now)
                && rule.matching.matches_connection(listener, self.protocol, connection)
        })
    }

    /// Counts the effect of a decision.
    pub fn count(&self, decision: &Decision) {
        let effect = match (decision, self.is_dry()) {
            (Decision::Reject(rejection), false) => PolicyOutcome::Refused(rejection.reason),
            (Decision::Reject(rejection), true) => PolicyOutcome::WouldRefuse(rejection.reason),
            (Decision::Modify(effects), _) if effects.is_timeout_only() => return,
            (Decision::Modify(_), false) => PolicyOutcome::Modified,
            (Decision::Modify(_), true) => PolicyOutcome::WouldModify,
            (Decision::Admit | Decision::Pending(_), _) => return,
        };
        self.count_effect(effect);
    }

    /// Counts that it throttled an operation or a connection.
    pub fn count_throttled(&self) {
        self.count_effect(if self.is_dry() {
            PolicyOutcome::WouldModify
        } else {
            PolicyOutcome::Modified
        });
    }

    /// The rejection, attributed to this policy.
    pub fn attribute(&self, rejection: Rejection) -> Rejection {
        Rejection { policy: self.name.clone(), ..rejection }
    }

    /// Counts a connection that was rejected, or would have been.
    pub(crate) fn count_rejection(&self, rejection: &Rejection) {
        self.count_effect(match self.is_dry() {
            true => PolicyOutcome::WouldRefuse(rejection.reason),
            false => PolicyOutcome::Refused(rejection.reason),
        });
    }

    fn count_effect(&self, effect: PolicyOutcome) {
        if let (Some(counts), Some(name)) = (&self.counts, &self.name) {
            counts.count(name, effect);
        }
    }
}

impl EffectCounters {
    fn new(env: &PolicyEnv, rule_counts: Option<&Arc<EffectCounts>>) -> Self {
        let (metrics, listener) = (env.metrics.clone(), Arc::clone(&env.listener));
        Self { metrics, listener, rule_counts: rule_counts.cloned(), handles: RefCell::default() }
    }

    fn count(&self, policy: &str, effect: PolicyOutcome) {
        let mut handles = self.handles.borrow_mut();
        if let Some((_, counters)) = handles.iter().find(|(counted, _)| *counted == effect) {
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
        let rule_counter =
            self.rule_counts.as_ref().map_or_else(Counter::noop, |counts| match effect {
                PolicyOutcome::Refused(_) => counts.refused(),
                PolicyOutcome::WouldRefuse(_) => counts.would_refuse(),
                PolicyOutcome::Modified => counts.modified(),
                PolicyOutcome::WouldModify => counts.would_modify(),
            });
        let counters = [self.metrics.counter(name, &labels), rule_counter];
        counters.iter().for_each(|counter| counter.increment(1));
        handles.push((effect, counters));
    }
}
