//! Whoever admits an operation hears its end, once.

use super::*;
use crate::{policy::Bound, series::Key};
use operation::{Gate as _, Protocol, Reason};
use std::cell::Cell;

mod configured;

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
    fn admit(&self, _: &Operation<'_>, _: Instant, memo: &mut u64) -> Decision {
        *memo = 7;
        if self.refuses {
            return Decision::Refuse(No::new(Reason::Denied, "no"));
        }
        self.admitted.set(self.admitted.get() + 1);
        Decision::Admit
    }

    fn settle(&self, done: &Settled<'_>, memo: u64) {
        assert_eq!(memo, 7);
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
    assert!(matches!(&verdict, Verdict::Refuse(no) if no.reason == Reason::Denied));
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
