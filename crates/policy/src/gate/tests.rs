//! Every admitted operation is settled exactly once.

use super::*;
use crate::{SeriesPolicy, series::SeriesKey};
use operation::{Gate as _, Protocol, RejectReason};
use std::cell::Cell;

mod configured;
mod doubt;
mod many;

const TOY: Protocol = Protocol::plain("toy");

/// Counts the operations that it admits, and those that are settled.
#[derive(Clone, Default)]
struct Count {
    refuses: bool,
    admitted: Rc<Cell<u32>>,
    settled: Rc<RefCell<Vec<End>>>,
}

type End = (Outcome, Option<&'static str>);

impl WorkerPolicy for Count {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for Count {
    fn admit(&self, _: &Operation<'_>, _: Instant, state: &mut u64) -> Decision {
        *state = 7;
        if self.refuses {
            return Decision::Reject(Rejection::new(RejectReason::Denied, "no"));
        }
        self.admitted.set(self.admitted.get() + 1);
        Decision::Admit
    }

    fn settle(&self, done: &Settled<'_>, state: u64) {
        assert_eq!(state, 7);
        self.settled
            .borrow_mut()
            .push((done.how.outcome, done.how.reason.map(operation::EndReason::as_str)));
    }
}

fn gate(policies: &[&Count]) -> Gate {
    let policies = policies.iter().map(|one| Box::new((*one).clone()) as Box<dyn WorkerPolicy>);
    let cardinality = Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    Gate::new(policies.collect(), cardinality, metrics::Gauge::noop())
}

fn operation() -> Operation<'static> {
    let (name, resource) = ("find", "shop.orders");
    let protocol = const { &TOY };
    Operation {
        protocol,
        name,
        resource,
        head: b"",
        attributes: &(),
        long_poll: false,
        limit_exempt: false,
        may_have_callsite: false,
        known_names: false,
        partial: false,
        may_have_other_resources: false,
        query_shape: None,
    }
}

#[test]
fn each_admitting_policy_settles_once() {
    let (before, after) = (Count::default(), Count::default());
    let refuses = Count { refuses: true, ..Count::default() };
    let gate = gate(&[&before, &refuses, &after]);
    let verdict = gate.admit(&operation(), Instant::now());
    assert!(matches!(&verdict, Verdict::Reject(no) if no.reason == RejectReason::Denied));
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
fn a_settled_ticket_does_not_settle_again_when_dropped() {
    let count = Count::default();
    let Verdict::Admit(ticket) = gate(&[&count]).admit(&operation(), Instant::now()) else {
        panic!("it was refused or delayed");
    };
    ticket.settle(&Settlement::new(Outcome::Failed, Instant::now()));
    assert_eq!(*count.settled.borrow(), [(Outcome::Failed, None)]);
}

/// A policy whose decision is pending until `answer` is set.
#[derive(Clone, Default)]
struct Asks {
    answer: Rc<RefCell<Option<Decision>>>,
    settled: Rc<Cell<u32>>,
}

impl WorkerPolicy for Asks {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.clone()))
    }
}

impl SeriesPolicy for Asks {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        let answer = Rc::clone(&self.answer);
        Decision::Pending(Box::pin(std::future::poll_fn(move |_| {
            match answer.borrow_mut().take() {
                Some(decision) => std::task::Poll::Ready(decision),
                None => std::task::Poll::Pending,
            }
        })))
    }

    fn settle(&self, _: &Settled<'_>, _: u64) {
        self.settled.set(self.settled.get() + 1);
    }
}

/// A gate with a policy that asks between two that count.
fn asking() -> (Gate, Count, Asks, Count) {
    let (before, asks, after) = (Count::default(), Asks::default(), Count::default());
    let policies: Vec<Box<dyn WorkerPolicy>> =
        vec![Box::new(before.clone()), Box::new(asks.clone()), Box::new(after.clone())];
    let cardinality = Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    (Gate::new(policies, cardinality, metrics::Gauge::noop()), before, asks, after)
}

fn asked(gate: &Gate) -> PendingOperation {
    match gate.admit(&operation(), Instant::now()) {
        Verdict::Pending(question) => question,
        verdict => panic!("nobody was asked: {verdict:?}"),
    }
}

#[test]
fn a_resumed_operation_continues_after_the_pending_policy() {
    let (gate, before, asks, after) = asking();
    let question = asked(&gate);
    assert_eq!((before.admitted.get(), after.admitted.get()), (1, 0));
    let verdict = gate.resume(question.ticket, Decision::Admit, &operation(), Instant::now());
    let Verdict::Admit(ticket) = verdict else { panic!("{verdict:?}") };
    assert_eq!((before.admitted.get(), after.admitted.get()), (1, 1));
    ticket.settle(&Settlement::new(Outcome::Ok, Instant::now()));
    let once = [(Outcome::Ok, None)];
    assert_eq!((&before.settled.borrow()[..], &after.settled.borrow()[..]), (&once[..], &once[..]));
    assert_eq!(asks.settled.get(), 1);
}

#[test]
fn a_pending_rejection_settles_the_policies_before_it() {
    let (gate, before, asks, after) = asking();
    let question = asked(&gate);
    let no = Decision::Reject(Rejection::new(RejectReason::RateLimited, "no"));
    let verdict = gate.resume(question.ticket, no, &operation(), Instant::now());
    assert!(matches!(verdict, Verdict::Reject(_)));
    assert_eq!(*before.settled.borrow(), [(Outcome::Rejected, Some("rate_limited"))]);
    assert_eq!((asks.settled.get(), after.admitted.get()), (0, 0));
}

#[test]
fn a_cancelled_wait_settles_the_policies_that_admitted() {
    let (gate, before, asks, after) = asking();
    drop(asked(&gate));
    assert_eq!(*before.settled.borrow(), [(Outcome::Cancelled, None)]);
    assert_eq!(asks.settled.get(), 1, "it was asked, and may hold something for it");
    assert_eq!(after.settled.borrow().len(), 0);
}

#[test]
fn two_operations_may_wait_at_once_and_end_in_any_order() {
    let (gate, before, ..) = asking();
    let (first, second) = (asked(&gate), asked(&gate));
    let now = Instant::now();
    let go = |question: PendingOperation| {
        gate.resume(question.ticket, Decision::Admit, &operation(), now)
    };
    let (Verdict::Admit(second), Verdict::Admit(first)) = (go(second), go(first)) else { panic!() };
    first.settle(&Settlement::new(Outcome::Ok, now));
    second.settle(&Settlement::new(Outcome::Failed, now));
    let ends = [(Outcome::Ok, None), (Outcome::Failed, None)];
    assert_eq!(*before.settled.borrow(), ends);
}

mod live;

/// A policy whose end of an operation has a bug.
struct Breaks;

impl WorkerPolicy for Breaks {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(Breaks))
    }
}

impl SeriesPolicy for Breaks {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        Decision::Admit
    }

    fn settle(&self, _: &Settled<'_>, _: u64) {
        panic!("the second one");
    }
}

#[test]
fn dropping_a_ticket_in_a_panic_does_not_abort() {
    let cardinality = Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let gate = Gate::new(vec![Box::new(Breaks)], cardinality, metrics::Gauge::noop());
    let panic = tells_itself(|| {
        let _ticket = gate.admit(&operation(), Instant::now());
        panic!("the first one");
    });
    assert_eq!(panic.unwrap_err().message, "the first one");
}
