//! The gate of one listener on one worker: evaluates the policies in order, and issues tickets.

mod connect;
mod evaluate;
mod in_flight;
mod revise;

use crate::{
    ActivePolicy, BoundPolicy, Decision, Live, PolicyEffect, PolicyEnv, Settled, WorkerPolicy,
    matching::Candidates,
    series::{CardinalityLimit, Series, SeriesTable},
};
use evaluate::{DecisionResult, apply_decision};
use in_flight::{InFlight, InFlightSlab};
use operation::{
    DecisionFuture, Effects, Operation, Outcome, PendingOperation, Rejection, SettleSink,
    Settlement, Ticket, Verdict,
};
use process::panics::tells_itself;
use shapes::WorkerShapes;
use std::{cell::Cell, cell::RefCell, rc::Rc, sync::Arc, thread, time::Instant};

pub use connect::{ConnectVerdict, ConnectionPermits};

/// The policies of a listener, on one worker.
#[derive(Clone)]
pub struct Gate {
    inner: Rc<GateInner>,
}

struct GateInner {
    series: SeriesTable,
    in_flight: RefCell<InFlightSlab>,
    /// The memory for the policies that may apply to an operation or a connection.
    candidates: Cell<Candidates>,
    active: metrics::Gauge,
    /// The source of changed policies; `None` if they never change.
    updates: Option<PolicyUpdates>,
}

/// The source of changed policies.
struct PolicyUpdates {
    live: Arc<Live>,
    env: PolicyEnv,
    generation: Cell<u64>,
}

impl Gate {
    /// A gate of these policies. `active` counts the operations in flight.
    pub fn new(
        policies: Vec<Box<dyn WorkerPolicy>>,
        cardinality: Arc<CardinalityLimit>,
        active: metrics::Gauge,
    ) -> Self {
        let entries = policies.into_iter().map(|policy| Rc::new(ActivePolicy::built_in(policy)));
        let series = SeriesTable::new("", entries.collect(), cardinality);
        Self { inner: Rc::new(GateInner::new(series, active, None)) }
    }

    /// The gate of a listener: the built-in policies, and the configured ones in force.
    pub fn live(
        live: Arc<Live>,
        env: PolicyEnv,
        cardinality: Arc<CardinalityLimit>,
        active: metrics::Gauge,
    ) -> Self {
        let generation = Cell::new(live.generation());
        let entries = crate::active::active_policies(&live.rules(), &[], &env);
        let series = SeriesTable::new(&env.listener, entries, cardinality);
        let updates = Some(PolicyUpdates { live, env, generation });
        Self { inner: Rc::new(GateInner::new(series, active, updates)) }
    }
}

impl Gate {
    /// The worker's table of query shapes, if operations are counted there.
    pub fn shapes(&self) -> Option<&Rc<WorkerShapes>> {
        self.inner.updates.as_ref()?.env.shapes.as_ref()
    }

    /// Whether a policy here fails closed: a request that can't be read is then rejected.
    pub fn guards(&self) -> bool {
        self.inner.failing_closed().is_some()
    }

    /// The name and the resource of the operation in this slot, if there is one.
    pub fn operation(&self, slot: u32) -> Option<(Box<str>, Box<str>)> {
        let in_flight = self.inner.in_flight.borrow();
        let key = &in_flight.get(slot)?.series.key;
        Some((key.name.as_ref().into(), key.resource.as_ref().into()))
    }

    /// The rejection of a request that can't be read, by the first policy that fails closed. `None` if
    /// none does.
    pub fn reject_unreadable(&self) -> Option<Rejection> {
        let failing_closed = self.inner.failing_closed()?;
        let name = failing_closed.name()?;
        let message = format!("this can't be read, and so it is not let past the policy `{name}`");
        let rejection = Rejection::new(operation::RejectReason::Denied, message);
        failing_closed.count_rejection(&rejection);
        Some(failing_closed.attribute(rejection))
    }
}

impl operation::Gate for Gate {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        let inner = &self.inner;
        inner.refresh();
        let series = inner.series.find(operation);
        if operation.partial && inner.needs_more(&series, operation, now) {
            return Verdict::NeedMore;
        }
        let entry = inner.in_flight.borrow_mut().prepare(series, operation, now);
        inner.evaluate(entry, operation, now)
    }

    fn resume(
        &self,
        ticket: Ticket,
        decision: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        let inner = &self.inner;
        let slot = ticket.into_slot();
        let entry = inner.in_flight.borrow_mut().remove(slot);
        // An operation stays in the slab until its ticket comes back, so it is always found.
        let Some(mut entry) = entry else {
            return Verdict::Reject(Rejection::new(
                operation::RejectReason::Overloaded,
                "the operation that this ticket belongs to is gone",
            ));
        };
        inner.active.decrement(1.0);
        inner.in_flight.borrow_mut().free_slot(slot);
        let series = Rc::clone(&entry.series);
        let last_evaluated = entry.next.saturating_sub(1);
        let Some(bound) = series.policy(last_evaluated) else {
            return inner.forward(entry, operation);
        };
        match apply_decision(&mut entry, bound, decision) {
            DecisionResult::Continue => inner.evaluate(entry, operation, now),
            DecisionResult::Wait(decision) => inner.wait(entry, operation, decision),
            DecisionResult::Reject(rejection) => inner.reject(entry, operation, rejection, now),
        }
    }

    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.inner.observe_rejected(operation, began, how);
    }
}

impl GateInner {
    fn new(series: SeriesTable, active: metrics::Gauge, updates: Option<PolicyUpdates>) -> Self {
        let (in_flight, candidates) = (RefCell::default(), Cell::default());
        Self { series, in_flight, candidates, active, updates }
    }

    /// Reports an operation to the built-in policies only, which count and log: a rejected
    /// operation uses up no limit, and no fault applies to it.
    fn observe_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.refresh();
        let series = self.series.find(operation);
        let mut entry = self.in_flight.borrow_mut().prepare(Rc::clone(&series), operation, began);
        for position in 0..series.bound.set().observers() {
            let Some(bound) = series.policy(position) else { continue };
            let is_built_in = bound.active.name().is_none();
            if is_built_in {
                let mut state = 0;
                bound.policy.admit(operation, began, &mut state);
                entry.states.push((position, state));
            }
        }
        entry.policy_effects.extend(
            how.policy.map(|policy| PolicyEffect { policy: policy.into(), dry_run: false }),
        );
        entry.settle(&series, operation.head, how);
        self.in_flight.borrow_mut().recycle(entry);
    }
}

impl GateInner {
    /// Rebuilds the series if the policies have changed.
    fn refresh(&self) {
        let Some(updates) = &self.updates else { return };
        let generation = updates.live.generation();
        if updates.generation.replace(generation) != generation {
            let entries = crate::active::active_policies(
                &updates.live.rules(),
                &self.series.policies(),
                &updates.env,
            );
            self.series.replace(entries);
            self.in_flight.borrow_mut().clear_spare();
        }
    }

    /// The first policy that fails closed.
    fn failing_closed(&self) -> Option<Rc<ActivePolicy>> {
        self.refresh();
        let policies = self.series.policies();
        policies.iter().find(|active| active.fails_closed(policies.listener())).map(Rc::clone)
    }

    fn forward(self: &Rc<Self>, mut entry: Box<InFlight>, operation: &Operation<'_>) -> Verdict {
        let effects = entry.effects.take();
        Verdict::Admit(self.ticket(entry, operation, effects))
    }

    fn wait(
        self: &Rc<Self>,
        entry: Box<InFlight>,
        operation: &Operation<'_>,
        decision: DecisionFuture,
    ) -> Verdict {
        Verdict::Pending(PendingOperation { ticket: self.ticket(entry, operation, None), decision })
    }

    fn ticket(
        self: &Rc<Self>,
        entry: Box<InFlight>,
        operation: &Operation<'_>,
        effects: Option<Rc<Effects>>,
    ) -> Ticket {
        self.active.increment(1.0);
        let slot = self.in_flight.borrow_mut().insert(entry, operation);
        Ticket::new(Rc::clone(self) as Rc<dyn SettleSink>, slot, effects)
    }

    /// Settles a rejected operation with the policies that admitted it: they count it, log it and
    /// release what they reserved for it.
    fn reject(
        &self,
        entry: Box<InFlight>,
        operation: &Operation<'_>,
        rejection: Rejection,
        now: Instant,
    ) -> Verdict {
        let mut how = Settlement::new(Outcome::Rejected, now);
        how.reason = Some(rejection.reason.into());
        how.attributes = operation.attributes;
        operation.attributes.on_rejected(&rejection);
        entry.settle(&entry.series, operation.head, &how);
        self.in_flight.borrow_mut().recycle(entry);
        Verdict::Reject(rejection)
    }
}

impl SettleSink for GateInner {
    fn settle(&self, slot: u32, how: &Settlement<'_>) {
        // A panic drops tickets. A second panic during that unwinding would abort the process.
        match thread::panicking() {
            true => drop(tells_itself(|| self.settle_now(slot, how))),
            false => self.settle_now(slot, how),
        }
    }

    fn add_bytes(&self, slot: u32, bytes: [u64; 2]) {
        let in_flight = self.in_flight.borrow();
        let Some(entry) = in_flight.get(slot) else { return };
        let admitted =
            entry.states.iter().filter_map(|(position, _)| entry.series.policy(*position));
        admitted.for_each(|bound| bound.policy.record_bytes(bytes));
    }

    fn abandon(&self, slot: u32) {
        self.settle(slot, &Settlement::new(Outcome::Cancelled, Instant::now()));
    }
}

impl GateInner {
    fn settle_now(&self, slot: u32, how: &Settlement<'_>) {
        let Some(mut entry) = self.in_flight.borrow_mut().remove(slot) else { return };
        self.active.decrement(1.0);
        if let Some(policy) = how.policy {
            entry.policy_effects.push(PolicyEffect { policy: policy.into(), dry_run: false });
        }
        let mut counted_as = match how.names {
            Some(named) => self.series.renamed(&entry.series, named),
            None => Rc::clone(&entry.series),
        };
        if how.confirmed && how.outcome == Outcome::Ok {
            counted_as = self.series.confirm(&counted_as);
        }
        if how.names.is_some() {
            self.series.cache_unread(&entry.series, &counted_as);
        }
        entry.settle(&counted_as, &entry.front, how);
        let current = self.series.is_current(&entry.series);
        let mut in_flight = self.in_flight.borrow_mut();
        in_flight.free_slot(slot);
        if current {
            in_flight.recycle(entry);
        }
    }
}

impl InFlight {
    /// Settles with the policies that admitted the operation. `counted_as` is the series of its final
    /// name and resource, which may differ from the series at admission.
    fn settle(&self, counted_as: &Series, front: &[u8], how: &Settlement<'_>) {
        let done = Settled {
            key: &counted_as.key,
            front,
            began: self.began,
            long_poll: self.long_poll,
            may_have_callsite: self.may_have_callsite,
            query_shape: self.query_shape,
            policy_effects: &self.policy_effects,
            how,
        };
        for (position, state) in &self.states {
            let Some(bound) = self.series.policy(*position) else { continue };
            // Built-in policies settle with the final series. A configured policy settles with the
            // series that it admitted, which has its state.
            let same = |other: &&BoundPolicy| {
                other.active.rule.is_none() && Rc::ptr_eq(&other.active, &bound.active)
            };
            let bound = counted_as.policy(*position).filter(same).unwrap_or(bound);
            bound.policy.settle(&done, *state);
        }
    }
}

#[cfg(test)]
mod tests;
