//! Policies that come into force, or go, while connections are open: bandwidth limits reach every
//! connection, and faults reach operations that are a connection themselves.

use super::{
    Gate,
    arrivals::{Guests, Place},
};
use crate::policy::{Decision, Entrance, Entry, Touch, matching::Truth};
use operation::{Link, No, Operation, Terms};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// What policies ask of an operation that is under way, now that they have changed.
#[derive(Debug, Default)]
pub struct Revised {
    /// The terms that hold from now on, in the place of those of its ticket.
    pub terms: Terms,
    /// How long it waits now for those that are new.
    pub delay: Duration,
    /// It is to end.
    pub no: Option<No>,
}

impl Gate {
    /// Grows with each change of the policies.
    pub fn generation(&self) -> u64 {
        self.inner.changes.as_ref().map_or(0, |changes| changes.live.generation())
    }

    /// Has what policies hold for an open connection be what those in force would. What counts
    /// connections counts those that it let in.
    pub fn follow(&self, link: &Link, guests: &mut Guests, now: Instant) {
        self.inner.refresh();
        let (entries, listener) = (self.inner.series.entries(), self.inner.series.listener());
        let stands = |entry: &Rc<Entry>| {
            entries.iter().any(|it| Rc::ptr_eq(it, entry)) && entry.decides_on(listener, link, now)
        };
        let mut places = guests.take();
        places.retain(|place| !place.entry.policy.reaches_open() || stands(&place.entry));
        for entry in entries.iter().filter(|it| it.policy.reaches_open()) {
            let known = places.iter().any(|place| Rc::ptr_eq(&place.entry, entry));
            if !known
                && entry.decides_on(listener, link, now)
                && let Entrance::Guest(guest) = entry.policy.connect(link, now)
            {
                places.push(Place::new(entry, guest));
            }
        }
        *guests = Guests::of(places);
    }

    /// Notes that a policy slows down the operation that is kept in this place, and counts it once
    /// for each.
    pub fn slows(&self, entry: &Entry, slot: u32) {
        let Some(name) = entry.name() else { return };
        let mut slots = self.inner.slots.borrow_mut();
        let Some(held) = slots.get_mut(slot) else { return };
        if held.touched.iter().any(|touch| touch.policy == *name) {
            return;
        }
        held.touched.push(Touch { policy: Arc::clone(name), dry: false });
        entry.count_bent();
    }

    /// Asks the policies that came into force while an operation was under way, and forgets what
    /// those asked that are no more. `None` if nothing has changed for it.
    pub fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revised> {
        let inner = &self.inner;
        inner.refresh();
        let series = inner.series.find(operation);
        let mut slots = inner.slots.borrow_mut();
        let held = slots.get_mut(slot)?;
        let stands = |entry: &Rc<Entry>| {
            let is = series.bound.iter().any(|applied| Rc::ptr_eq(&applied.entry, entry));
            is && !entry.rule.as_ref().is_some_and(|rule| rule.is_over(now))
        };
        let before = held.bends.len();
        held.bends.retain(|(entry, _)| stands(entry));
        // One that is gone never comes back: a session that lasts must not gather them.
        held.later.retain(stands);
        let mut changed = held.bends.len() < before;
        let mut revised = Revised::default();
        for applied in &series.bound {
            let entry = &applied.entry;
            let admitted = held.series.bound.iter().map(|applied| &applied.entry);
            if admitted.chain(&held.later).any(|known| Rc::ptr_eq(known, entry)) {
                continue;
            }
            held.later.push(Rc::clone(entry));
            if applied.applies(operation, now) != Truth::Yes {
                continue;
            }
            let Some(decision) = applied.bound.reach(operation, now) else { continue };
            entry.count(&decision);
            let touch =
                entry.name().map(|name| Touch { policy: Arc::clone(name), dry: entry.is_dry() });
            if let Some(touch) = touch.filter(|touch| !held.touched.contains(touch)) {
                held.touched.push(touch);
            }
            match decision {
                _ if entry.is_dry() => {}
                Decision::Bend(terms) => {
                    changed = true;
                    revised.delay = revised.delay.saturating_add(terms.delay);
                    held.bends.push((Rc::clone(entry), terms));
                }
                Decision::Refuse(no) => {
                    changed = true;
                    revised.no.get_or_insert(entry.says(no));
                }
                Decision::Admit | Decision::Ask(_) => {}
            }
        }
        held.bends.iter().for_each(|(_, terms)| revised.terms.join(terms));
        changed.then_some(revised)
    }
}
