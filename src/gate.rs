//! The gate of one listener on one worker: every policy in order, and the tickets it gave out.

use crate::{
    policy::{Decision, Policy, Settled},
    series::{Census, Series, Table},
};
use operation::{Ledger, Operation, Outcome, Settlement, Ticket, Verdict};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration, time::Instant};

/// How much of a request's front is kept, for whoever asks when the operation ends.
const KEPT_FRONT: usize = 4 * 1024;

/// Every policy of a listener, behind one door.
#[derive(Clone)]
pub struct Gate {
    inner: Rc<Inner>,
}

struct Inner {
    series: Table,
    slots: RefCell<Slots>,
    active: metrics::Gauge,
}

impl Gate {
    /// A gate of these policies. `active` follows the number of operations under way.
    pub fn new(
        policies: Vec<Box<dyn Policy>>,
        census: Arc<Census>,
        active: metrics::Gauge,
    ) -> Self {
        let series = Table::new(policies, census);
        Self { inner: Rc::new(Inner { series, slots: RefCell::default(), active }) }
    }
}

impl operation::Gate for Gate {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        let inner = &self.inner;
        let series = inner.series.find(operation.protocol, operation.name, operation.resource);
        let mut delay = Duration::ZERO;
        for policy in &series.bound {
            match policy.admit(operation) {
                Decision::Admit => {}
                Decision::Delay(more) => delay += more,
                Decision::Refuse { reason, message } => {
                    return Verdict::Refuse { reason, message };
                }
            }
        }
        inner.active.increment(1.0);
        let slot = inner.slots.borrow_mut().take(series, operation, now);
        let ticket = Ticket::new(Rc::clone(inner) as Rc<dyn Ledger>, slot);
        if delay.is_zero() { Verdict::Go(ticket) } else { Verdict::Wait(delay, ticket) }
    }
}

impl Ledger for Inner {
    fn settle(&self, slot: u32, how: &Settlement<'_>) {
        let Some(mut held) = self.slots.borrow_mut().lift(slot) else { return };
        self.active.decrement(1.0);
        if how.confirmed && how.outcome == Outcome::Ok {
            held.series = self.series.prove(&held.series);
        }
        let done = Settled {
            key: &held.series.key,
            front: &held.front,
            began: held.began,
            awaits: held.awaits,
            how,
        };
        for policy in &held.series.bound {
            policy.settle(&done);
        }
        self.slots.borrow_mut().give_back(slot, held.front);
    }

    fn abandon(&self, slot: u32) {
        self.settle(slot, &Settlement::bare(Outcome::Cancelled, Instant::now()));
    }
}

/// An operation under way.
struct Held {
    series: Rc<Series>,
    front: Vec<u8>,
    began: Instant,
    awaits: bool,
}

/// The operations under way. A slot keeps its memory for the next operation.
#[derive(Default)]
struct Slots {
    held: Vec<Option<Held>>,
    free: Vec<(u32, Vec<u8>)>,
}

impl Slots {
    fn take(&mut self, series: Rc<Series>, operation: &Operation<'_>, began: Instant) -> u32 {
        let (slot, mut front) = self.free.pop().unwrap_or_else(|| {
            self.held.push(None);
            (self.held.len() as u32 - 1, Vec::new())
        });
        let kept = operation.front.len().min(KEPT_FRONT);
        front.extend_from_slice(&operation.front[..kept]);
        let held = Held { series, front, began, awaits: operation.awaits };
        if let Some(place) = self.held.get_mut(slot as usize) {
            *place = Some(held);
        }
        slot
    }

    fn lift(&mut self, slot: u32) -> Option<Held> {
        self.held.get_mut(slot as usize)?.take()
    }

    fn give_back(&mut self, slot: u32, mut front: Vec<u8>) {
        front.clear();
        self.free.push((slot, front));
    }
}
