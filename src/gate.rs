//! The gate of one listener on one worker: every policy in order, and the tickets it gave out.

use crate::{
    policy::{Decision, Policy, Settled},
    series::{Census, Series, Table},
};
use operation::{Ledger, Operation, Outcome, Reason, Settlement, Ticket, Verdict};
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
        for (passed, policy) in series.bound.iter().enumerate() {
            match policy.admit(operation) {
                Decision::Admit => {}
                Decision::Delay(more) => delay += more,
                Decision::Refuse { reason, message } => {
                    refused(&series, passed, operation, reason, now);
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

/// Settles a refused operation with the policies that it had `passed`: whoever admitted it counts,
/// logs and gives back what it took.
fn refused(
    series: &Series,
    passed: usize,
    operation: &Operation<'_>,
    reason: Reason,
    began: Instant,
) {
    let mut how = Settlement::bare(Outcome::Rejected, began);
    how.reason = Some(reason.as_str());
    how.attributes = operation.attributes;
    let Operation { front, awaits, callsite, .. } = *operation;
    let done = Settled { key: &series.key, front, began, awaits, callsite, how: &how };
    for policy in series.bound.iter().take(passed) {
        policy.settle(&done);
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
            callsite: held.callsite,
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
    callsite: bool,
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
        let Operation { awaits, callsite, .. } = *operation;
        let held = Held { series, front, began, awaits, callsite };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::Bound, series::Key};
    use operation::{Gate as _, Protocol};
    use std::cell::Cell;

    const TOY: Protocol = Protocol::plain("toy");

    /// Counts what it admits and what it hears the end of.
    #[derive(Clone, Default)]
    struct Count {
        refuses: bool,
        admitted: Rc<Cell<u32>>,
        settled: Rc<RefCell<Vec<End>>>,
    }

    type End = (Outcome, Option<&'static str>);

    impl Policy for Count {
        fn bind(&self, _: &Key) -> Option<Box<dyn Bound>> {
            Some(Box::new(self.clone()))
        }
    }

    impl Bound for Count {
        fn admit(&self, _: &Operation<'_>) -> Decision {
            if self.refuses {
                return Decision::Refuse { reason: Reason::Denied, message: "no".into() };
            }
            self.admitted.set(self.admitted.get() + 1);
            Decision::Admit
        }

        fn settle(&self, done: &Settled<'_>) {
            self.settled.borrow_mut().push((done.how.outcome, done.how.reason));
        }
    }

    fn gate(policies: &[&Count]) -> Gate {
        let policies = policies.iter().map(|one| Box::new((*one).clone()) as Box<dyn Policy>);
        let census = Arc::new(Census::new(10, metrics::Counter::noop()));
        Gate::new(policies.collect(), census, metrics::Gauge::noop())
    }

    fn operation() -> Operation<'static> {
        let (name, resource) = ("find", "shop.orders");
        let protocol = const { &TOY };
        Operation {
            protocol,
            name,
            resource,
            front: b"",
            attributes: &(),
            awaits: false,
            callsite: false,
        }
    }

    #[test]
    fn whoever_admits_an_operation_hears_its_end_once_also_when_another_refuses_it() {
        let (before, after) = (Count::default(), Count::default());
        let refuses = Count { refuses: true, ..Count::default() };
        let gate = gate(&[&before, &refuses, &after]);
        let verdict = gate.admit(&operation(), Instant::now());
        assert!(matches!(verdict, Verdict::Refuse { reason: Reason::Denied, .. }));
        assert_eq!(before.admitted.get(), 1);
        assert_eq!(*before.settled.borrow(), [(Outcome::Rejected, Some("denied"))]);
        assert_eq!(*refuses.settled.borrow(), []);
        assert_eq!((after.admitted.get(), after.settled.borrow().len()), (0, 0));
    }

    #[test]
    fn a_ticket_that_is_dropped_settles_as_cancelled() {
        let count = Count::default();
        let gate = gate(&[&count]);
        drop(gate.admit(&operation(), Instant::now()));
        assert_eq!(*count.settled.borrow(), [(Outcome::Cancelled, None)]);
    }

    #[test]
    fn a_ticket_that_is_settled_says_nothing_when_dropped() {
        let count = Count::default();
        let Verdict::Go(ticket) = gate(&[&count]).admit(&operation(), Instant::now()) else {
            panic!("it was refused or delayed");
        };
        ticket.settle(&Settlement::bare(Outcome::Failed, Instant::now()));
        assert_eq!(*count.settled.borrow(), [(Outcome::Failed, None)]);
    }
}
