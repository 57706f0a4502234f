//! Policies that come into force, or go, while connections are open: bandwidth limits reach every
//! connection, and faults reach operations that are a connection themselves.

use super::{
    Gate,
    connect::{ConnectionPermits, HeldPermit},
};
use crate::{ActivePolicy, ConnectDecision, Decision, PolicyEffect, matching::Truth};
use operation::{ConnectionInfo, Operation, Revision};
use std::{rc::Rc, sync::Arc, time::Instant};

impl Gate {
    /// Grows with each change of the policies.
    pub fn generation(&self) -> u64 {
        self.inner.updates.as_ref().map_or(0, |updates| updates.live.generation())
    }

    /// Makes the permits of an open connection those that the policies in force would give. A
    /// connection limit counts only connections that it accepted.
    pub fn refresh_permits(
        &self,
        link: &ConnectionInfo,
        permits: &mut ConnectionPermits,
        now: Instant,
    ) {
        self.inner.refresh();
        let (entries, listener) = (self.inner.series.policies(), self.inner.series.listener());
        let in_force = |active: &Rc<ActivePolicy>| {
            entries.iter().any(|it| Rc::ptr_eq(it, active))
                && active.applies_to_connection(listener, link, now)
        };
        let mut held_permits = permits.take();
        held_permits.retain(|held_permit| {
            !held_permit.active.policy.applies_to_open() || in_force(&held_permit.active)
        });
        for active in entries.iter().filter(|it| it.policy.applies_to_open()) {
            let known =
                held_permits.iter().any(|held_permit| Rc::ptr_eq(&held_permit.active, active));
            if !known
                && active.applies_to_connection(listener, link, now)
                && let ConnectDecision::AcceptWith(permit) = active.policy.connect(link, now)
            {
                held_permits.push(HeldPermit::new(active, permit));
            }
        }
        *permits = ConnectionPermits::of(held_permits);
    }

    /// Notes that a policy slows down the operation that is kept in this place, and counts it once
    /// for each.
    pub fn record_throttled(&self, active: &ActivePolicy, slot: u32) {
        let Some(name) = active.name() else { return };
        let mut in_flight = self.inner.in_flight.borrow_mut();
        let Some(held) = in_flight.get_mut(slot) else { return };
        if held.policy_effects.iter().any(|touch| touch.policy == *name) {
            return;
        }
        held.policy_effects.push(PolicyEffect { policy: Arc::clone(name), dry_run: false });
        active.count_throttled();
    }

    /// Asks the policies that came into force while an operation was in flight, and drops the
    /// state of those that were removed. `None` if nothing has changed for the operation.
    pub fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revision> {
        let inner = &self.inner;
        inner.refresh();
        let series = inner.series.find(operation);
        let mut in_flight = inner.in_flight.borrow_mut();
        let held = in_flight.get_mut(slot)?;
        let in_force = |active: &Rc<ActivePolicy>| {
            let is = series.policies.iter().any(|applied| Rc::ptr_eq(&applied.active, active));
            is && !active.rule.as_ref().is_some_and(|rule| rule.is_expired(now))
        };
        let before = held.modifications.len();
        held.modifications.retain(|(active, _)| in_force(active));
        // One that is gone never comes back: a session that lasts must not gather them.
        held.seen_later.retain(in_force);
        let mut changed = held.modifications.len() < before;
        let mut revised = Revision::default();
        for applied in &series.policies {
            let active = &applied.active;
            let admitted = held.series.policies.iter().map(|applied| &applied.active);
            if admitted.chain(&held.seen_later).any(|known| Rc::ptr_eq(known, active)) {
                continue;
            }
            held.seen_later.push(Rc::clone(active));
            if applied.applies(operation, now) != Truth::Yes {
                continue;
            }
            let Some(decision) = applied.policy.admit_open(operation, now) else { continue };
            active.count(&decision);
            let touch = active
                .name()
                .map(|name| PolicyEffect { policy: Arc::clone(name), dry_run: active.is_dry() });
            if let Some(touch) = touch.filter(|touch| !held.policy_effects.contains(touch)) {
                held.policy_effects.push(touch);
            }
            match decision {
                _ if active.is_dry() => {}
                Decision::Modify(terms) => {
                    changed = true;
                    revised.delay = revised.delay.saturating_add(terms.delay);
                    held.modifications.push((Rc::clone(active), terms));
                }
                Decision::Reject(no) => {
                    changed = true;
                    revised.rejection.get_or_insert(active.attribute(no));
                }
                Decision::Admit | Decision::Pending(_) => {}
            }
        }
        held.modifications.iter().for_each(|(_, terms)| revised.effects.merge(terms));
        changed.then_some(revised)
    }
}
