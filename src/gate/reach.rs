//! Policies that come into force, or go, while connections are open: bandwidth limits reach every
//! connection, and faults reach operations that are a connection themselves.

use super::{
    Gate,
    arrivals::{Guests, Place},
};
use crate::policy::{ActivePolicy, ConnectDecision, Decision, PolicyEffect, matching::Truth};
use operation::{ConnectionInfo, Effects, Operation, Rejection};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// What policies ask of an operation that is under way, now that they have changed.
#[derive(Debug, Default)]
pub struct Revised {
    /// The terms that hold from now on, in the place of those of its ticket.
    pub terms: Effects,
    /// How long it waits now for those that are new.
    pub delay: Duration,
    /// It is to end.
    pub no: Option<Rejection>,
}

impl Gate {
    /// Grows with each change of the policies.
    pub fn generation(&self) -> u64 {
        self.inner.changes.as_ref().map_or(0, |changes| changes.live.generation())
    }

    /// Has what policies hold for an open connection be what those in force would. What counts
    /// connections counts those that it let in.
    pub fn follow(&self, link: &ConnectionInfo, guests: &mut Guests, now: Instant) {
        self.inner.refresh();
        let (entries, listener) = (self.inner.series.policies(), self.inner.series.listener());
        let stands = |entry: &Rc<ActivePolicy>| {
            entries.iter().any(|it| Rc::ptr_eq(it, entry))
                && entry.applies_to_connection(listener, link, now)
        };
        let mut places = guests.take();
        places.retain(|place| !place.entry.policy.applies_to_open() || stands(&place.entry));
        for entry in entries.iter().filter(|it| it.policy.applies_to_open()) {
            let known = places.iter().any(|place| Rc::ptr_eq(&place.entry, entry));
            if !known
                && entry.applies_to_connection(listener, link, now)
                && let ConnectDecision::AcceptWith(guest) = entry.policy.connect(link, now)
            {
                places.push(Place::new(entry, guest));
            }
        }
        *guests = Guests::of(places);
    }

    /// Notes that a policy slows down the operation that is kept in this place, and counts it once
    /// for each.
    pub fn slows(&self, entry: &ActivePolicy, slot: u32) {
        let Some(name) = entry.name() else { return };
        let mut slots = self.inner.slots.borrow_mut();
        let Some(held) = slots.get_mut(slot) else { return };
        if held.touched.iter().any(|touch| touch.policy == *name) {
            return;
        }
        held.touched.push(PolicyEffect { policy: Arc::clone(name), dry_run: false });
        entry.count_throttled();
    }

    /// Asks the policies that came into force while an operation was under way, and forgets what
    /// those asked that are no more. `None` if nothing has changed for it.
    pub fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revised> {
        let inner = &self.inner;
        inner.refresh();
        let series = inner.series.find(operation);
        let mut slots = inner.slots.borrow_mut();
        let held = slots.get_mut(slot)?;
        let stands = |entry: &Rc<ActivePolicy>| {
            let is = series.policies.iter().any(|applied| Rc::ptr_eq(&applied.active, entry));
            is && !entry.rule.as_ref().is_some_and(|rule| rule.is_expired(now))
        };
        let before = held.bends.len();
        held.bends.retain(|(entry, _)| stands(entry));
        // One that is gone never comes back: a session that lasts must not gather them.
        held.later.retain(stands);
        let mut changed = held.bends.len() < before;
        let mut revised = Revised::default();
        for applied in &series.policies {
            let entry = &applied.active;
            let admitted = held.series.policies.iter().map(|applied| &applied.active);
            if admitted.chain(&held.later).any(|known| Rc::ptr_eq(known, entry)) {
                continue;
            }
            held.later.push(Rc::clone(entry));
            if applied.applies(operation, now) != Truth::Yes {
                continue;
            }
            let Some(decision) = applied.policy.admit_open(operation, now) else { continue };
            entry.count(&decision);
            let touch = entry
                .name()
                .map(|name| PolicyEffect { policy: Arc::clone(name), dry_run: entry.is_dry() });
            if let Some(touch) = touch.filter(|touch| !held.touched.contains(touch)) {
                held.touched.push(touch);
            }
            match decision {
                _ if entry.is_dry() => {}
                Decision::Modify(terms) => {
                    changed = true;
                    revised.delay = revised.delay.saturating_add(terms.delay);
                    held.bends.push((Rc::clone(entry), terms));
                }
                Decision::Reject(no) => {
                    changed = true;
                    revised.no.get_or_insert(entry.attribute(no));
                }
                Decision::Admit | Decision::Pending(_) => {}
            }
        }
        held.bends.iter().for_each(|(_, terms)| revised.terms.merge(terms));
        changed.then_some(revised)
    }
}
