//! The evaluation of policies for one operation, in order: those that the index does not rule out.

use super::{GateInner, in_flight::InFlight};
use crate::{
    BoundPolicy, Decision, PolicyEffect, attribute_memo::AttributeMemo, matching::Truth,
    series::Series,
};
use operation::{DecisionFuture, Operation, Rejection, Verdict};
use std::{rc::Rc, sync::Arc, time::Instant};

/// How the evaluation continues after one policy's decision.
pub(super) enum DecisionResult {
    Continue,
    Wait(DecisionFuture),
    Reject(Rejection),
}

/// Applies the decision of the policy that was evaluated last.
pub(super) fn apply_decision(
    entry: &mut InFlight,
    bound: &BoundPolicy,
    decision: Decision,
) -> DecisionResult {
    let active = &bound.active;
    active.count(&decision);
    let has_effect = match &decision {
        Decision::Reject(_) => true,
        // A time limit has an effect only once it has expired.
        Decision::Modify(effects) => !effects.is_timeout_only(),
        Decision::Admit | Decision::Pending(_) => false,
    };
    if let Some(name) = active.name().filter(|_| has_effect) {
        entry
            .policy_effects
            .push(PolicyEffect { policy: Arc::clone(name), dry_run: active.is_dry() });
    }
    match decision {
        Decision::Admit => {}
        Decision::Modify(_) if active.is_dry() => {}
        Decision::Modify(effects) => {
            entry.modifications.push((Rc::clone(active), Rc::clone(&effects)));
            match &mut entry.effects {
                Some(all) => Rc::make_mut(all).merge(&effects),
                none => *none = Some(effects),
            }
        }
        Decision::Reject(rejection) => {
            // It is not settled.
            entry.states.pop();
            if !active.is_dry() {
                return DecisionResult::Reject(active.attribute(rejection));
            }
        }
        Decision::Pending(decision) if active.is_dry() => {
            let active = Rc::clone(active);
            // A dry run only counts, so the operation does not wait for it.
            tokio::task::spawn_local(async move { active.count(&decision.await) });
        }
        Decision::Pending(decision) => return DecisionResult::Wait(decision),
    }
    DecisionResult::Continue
}

impl BoundPolicy {
    /// Whether the policy applies to an operation. In doubt, `No` unless the policy fails closed.
    pub(super) fn applies(&self, operation: &Operation<'_>, now: Instant) -> Truth {
        if self.skips_limit_exempt && operation.limit_exempt {
            return Truth::No;
        }
        let Some(rest) = &self.residual else { return Truth::Yes };
        match self.active.applies_to(rest, operation, now) {
            doubt if doubt.is_in_doubt() && !self.active.applies_in_doubt() => Truth::No,
            truth => truth,
        }
    }

    /// Whether the policy must read more of the request to decide.
    fn needs_more(&self, operation: &Operation<'_>, now: Instant) -> bool {
        let rest = self.residual.as_ref();
        match rest.map_or(Truth::Yes, |rest| self.active.applies_to(rest, operation, now)) {
            Truth::No => false,
            Truth::Unread => true,
            Truth::Unknown | Truth::Yes => self.active.depends_on_unread(operation),
        }
    }
}

impl GateInner {
    /// Whether a policy must read more of a request to decide.
    pub(super) fn needs_more(
        &self,
        series: &Series,
        operation: &Operation<'_>,
        now: Instant,
    ) -> bool {
        let memo = AttributeMemo::of_operation(series.bound.set().numbers(), operation);
        let operation = &memo.operation(operation);
        let mut candidates = self.candidates.take();
        series.bound.find(operation, &mut candidates);
        let needs_more = |bound: &BoundPolicy| bound.needs_more(operation, now);
        let needs_more =
            candidates.policies.iter().any(|it| series.policy(it).is_some_and(needs_more));
        self.candidates.set(candidates);
        needs_more
    }

    /// Evaluates the policies that remain, in order.
    pub(super) fn evaluate(
        self: &Rc<Self>,
        mut entry: Box<InFlight>,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        let series = Rc::clone(&entry.series);
        match self.evaluate_policies(&series, &mut entry, operation, now) {
            DecisionResult::Continue => self.forward(entry, operation),
            DecisionResult::Wait(decision) => self.wait(entry, operation, decision),
            DecisionResult::Reject(rejection) => self.reject(entry, operation, rejection, now),
        }
    }

    /// The same, until one of them rejects the operation or has it wait.
    fn evaluate_policies(
        &self,
        series: &Series,
        entry: &mut InFlight,
        operation: &Operation<'_>,
        now: Instant,
    ) -> DecisionResult {
        let set = series.bound.set();
        let mut result = DecisionResult::Continue;
        // An observer may change attributes, such as the id of a trace, so the others follow.
        while entry.next < set.observers() && matches!(result, DecisionResult::Continue) {
            result = evaluate_policy(series, entry, entry.next, operation, now);
        }
        if entry.next >= set.len() || !matches!(result, DecisionResult::Continue) {
            return result;
        }
        let memo = AttributeMemo::of_operation(set.numbers(), operation);
        let operation = &memo.operation(operation);
        let mut candidates = self.candidates.take();
        series.bound.find(operation, &mut candidates);
        while let Some(position) = candidates.policies.next_from(entry.next) {
            result = evaluate_policy(series, entry, position, operation, now);
            if !matches!(result, DecisionResult::Continue) {
                break;
            }
        }
        self.candidates.set(candidates);
        result
    }
}

/// Evaluates one policy, unless it does not apply.
fn evaluate_policy(
    series: &Series,
    entry: &mut InFlight,
    position: usize,
    operation: &Operation<'_>,
    now: Instant,
) -> DecisionResult {
    entry.next = position + 1;
    let Some(bound) = series.policy(position) else { return DecisionResult::Continue };
    let applies = bound.applies(operation, now);
    if applies == Truth::No {
        return DecisionResult::Continue;
    }
    let mut state = 0;
    let mut decision = bound.policy.admit(operation, now, &mut state);
    if let (true, Decision::Reject(rejection)) = (applies.is_in_doubt(), &mut decision) {
        let key = bound.active.key_in_doubt(series.bound.set().listener(), operation);
        let unknown = key.as_deref().unwrap_or("request");
        *rejection = rejection.clone().with_unknown_attribute(unknown);
    }
    entry.states.push((position, state));
    match decision {
        Decision::Admit => DecisionResult::Continue,
        decision => apply_decision(entry, bound, decision),
    }
}
