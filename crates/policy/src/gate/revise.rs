//! Policies that are added or removed while connections are open: bandwidth limits apply to every open
//! connection, and faults apply to operations that are a whole connection.

use super::{
    Gate,
    connect::{ConnectionPermits, HeldPermit},
};
use crate::{ActivePolicy, ConnectDecision, Decision, PolicyEffect, matching::Truth};
use operation::{Attributes, Operation, Revision};
use std::{rc::Rc, sync::Arc, time::Instant};

impl Gate {
    /// Incremented with each change of the policies.
    pub fn generation(&self) -> u64 {
        self.inner.updates.as_ref().map_or(0, |updates| updates.live.generation())
    }

    /// Replaces the permits of an open connection with those that the policies in force grant. A
    /// connection limit counts only connections that it accepted.
    pub fn refresh_permits(
        &self,
        connection: &dyn Attributes,
        permits: &mut ConnectionPermits,
        now: Instant,
    ) {
        self.inner.refresh();
        let policies = self.inner.series.policies();
        let listener = policies.listener();
        let in_force = |active: &Rc<ActivePolicy>| {
            policies.iter().any(|policy| Rc::ptr_eq(policy, active))
                && active.applies_to_connection(listener, connection, now)
        };
        let mut held_permits = permits.take();
        held_permits.retain(|held_permit| {
            !held_permit.active.policy.applies_to_open() || in_force(&held_permit.active)
        });
        for active in policies.iter().filter(|active| active.policy.applies_to_open()) {
            let is_held =
                held_permits.iter().any(|held_permit| Rc::ptr_eq(&held_permit.active, active));
            if !is_held
                && active.applies_to_connection(listener, connection, now)
                && let ConnectDecision::AcceptWith(permit) = active.policy.connect(connection, now)
            {
                held_permits.push(HeldPermit::new(active, permit));
            }
        }
        *permits = ConnectionPermits::of(held_permits);
    }

    /// Records that a policy throttles the operation in this slot; counts it once for each operation.
    pub fn record_throttled(&self, active: &ActivePolicy, slot: u32) {
        let Some(name) = active.name() else { return };
        let mut in_flight = self.inner.in_flight.borrow_mut();
        let Some(entry) = in_flight.get_mut(slot) else { return };
        if entry.policy_effects.iter().any(|effect| effect.policy == *name) {
            return;
        }
        entry.policy_effects.push(PolicyEffect { policy: Arc::clone(name), dry_run: false });
        active.count_throttled();
    }

    /// Evaluates the policies that came into force while an operation was in flight, and drops the
    /// effects of those that were removed. `None` if nothing has changed for the operation.
    pub fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revision> {
        let inner = &self.inner;
        inner.refresh();
        let series = inner.series.find(operation);
        let mut in_flight = inner.in_flight.borrow_mut();
        let entry = in_flight.get_mut(slot)?;
        let in_force = |active: &Rc<ActivePolicy>| {
            let is_listed = series.policies().any(|bound| Rc::ptr_eq(&bound.active, active));
            is_listed && !active.rule.as_ref().is_some_and(|rule| rule.is_expired(now))
        };
        let before = entry.modifications.len();
        entry.modifications.retain(|(active, _)| in_force(active));
        // A removed policy never returns; a long session must not collect them.
        entry.seen_later.retain(in_force);
        let mut changed = entry.modifications.len() < before;
        let mut revised = Revision::default();
        for bound in series.policies() {
            let active = &bound.active;
            let admitted = entry.series.policies().map(|bound| &bound.active);
            if admitted.chain(&entry.seen_later).any(|seen| Rc::ptr_eq(seen, active)) {
                continue;
            }
            entry.seen_later.push(Rc::clone(active));
            if bound.applies(operation, now) != Truth::Yes {
                continue;
            }
            let Some(decision) = bound.policy.admit_open(operation, now) else { continue };
            active.count(&decision);
            let effect = active
                .name()
                .map(|name| PolicyEffect { policy: Arc::clone(name), dry_run: active.is_dry() });
            if let Some(effect) = effect.filter(|effect| !entry.policy_effects.contains(effect)) {
                entry.policy_effects.push(effect);
            }
            match decision {
                _ if active.is_dry() => {}
                Decision::Modify(effects) => {
                    changed = true;
                    revised.delay = revised.delay.saturating_add(effects.delay);
                    entry.modifications.push((Rc::clone(active), effects));
                }
                Decision::Reject(rejection) => {
                    changed = true;
                    revised.rejection.get_or_insert(active.attribute(rejection));
                }
                Decision::Admit | Decision::Pending(_) => {}
            }
        }
        entry.modifications.iter().for_each(|(_, effects)| revised.effects.merge(effects));
        changed.then_some(revised)
    }
}
