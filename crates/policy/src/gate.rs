//! The gate of one listener on one worker: every policy in order, and the tickets it gave out.

mod connect;
mod in_flight;
mod revise;

use crate::{
    ActivePolicy, Decision, Live, PolicyEffect, PolicyEnv, Settled, WorkerPolicy,
    matching::Truth,
    series::{BoundPolicy, CardinalityLimit, Series, SeriesTable},
};
use in_flight::{InFlight, InFlightSlab};
use operation::{
    DecisionFuture, Effects, Operation, Outcome, PendingOperation, Rejection, SettleSink,
    Settlement, Ticket, Verdict,
};
use process::panics::tells_itself;
use std::{cell::Cell, cell::RefCell, rc::Rc, sync::Arc, thread, time::Instant};

pub use connect::{ConnectVerdict, ConnectionPermits};

/// Every policy of a listener.
#[derive(Clone)]
pub struct Gate {
    inner: Rc<GateInner>,
}

struct GateInner {
    series: SeriesTable,
    in_flight: RefCell<InFlightSlab>,
    active: metrics::Gauge,
    /// Where changed policies come from; `None` where they never change.
    updates: Option<PolicyUpdates>,
}

/// The source of changed policies.
struct PolicyUpdates {
    live: Arc<Live>,
    from: PolicyEnv,
    generation: Cell<u64>,
}

impl Gate {
    /// A gate of these policies. `active` follows the number of operations under way.
    pub fn new(
        policies: Vec<Box<dyn WorkerPolicy>>,
        census: Arc<CardinalityLimit>,
        active: metrics::Gauge,
    ) -> Self {
        let entries = policies.into_iter().map(|policy| Rc::new(ActivePolicy::built_in(policy)));
        let series = SeriesTable::new("", entries.collect(), census);
        Self {
            inner: Rc::new(GateInner {
                series,
                in_flight: RefCell::default(),
                active,
                updates: None,
            }),
        }
    }

    /// The gate of a listener: the policies that are always there, and those that are in force.
    pub fn live(
        live: Arc<Live>,
        from: PolicyEnv,
        census: Arc<CardinalityLimit>,
        active: metrics::Gauge,
    ) -> Self {
        let generation = Cell::new(live.generation());
        let entries = crate::active::active_policies(&live.rules(), &[], &from);
        let series = SeriesTable::new(&from.listener, entries, census);
        let updates = Some(PolicyUpdates { live, from, generation });
        Self {
            inner: Rc::new(GateInner { series, in_flight: RefCell::default(), active, updates }),
        }
    }
}

impl Gate {
    /// Whether a policy here fails closed: a request that can't be read is then rejected.
    pub fn guards(&self) -> bool {
        self.inner.failing_closed().is_some()
    }

    /// The name and the resource of the operation that is kept in this place, if one is.
    pub fn operation(&self, slot: u32) -> Option<(Box<str>, Box<str>)> {
        let in_flight = self.inner.in_flight.borrow();
        let key = &in_flight.get(slot)?.series.key;
        Some((key.name.as_ref().into(), key.resource.as_ref().into()))
    }

    /// Refuses, in the name of the first policy that guards, what can't be read.
    pub fn refuse_unreadable(&self) -> Option<Rejection> {
        let failing_closed = self.inner.failing_closed()?;
        let name = failing_closed.name()?;
        let words = format!("this can't be read, and so it is not let past the policy `{name}`");
        let no = Rejection::new(operation::RejectReason::Denied, words);
        failing_closed.count_rejection(&no);
        Some(failing_closed.attribute(no))
    }
}

impl operation::Gate for Gate {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        let inner = &self.inner;
        inner.refresh();
        let series = inner.series.find(operation);
        if operation.partial && series.policies.iter().any(|it| it.needs_more(operation, now)) {
            return Verdict::NeedMore;
        }
        let held = inner.in_flight.borrow_mut().prepare(series, operation, now);
        inner.evaluate(held, operation, now)
    }

    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        let inner = &self.inner;
        let slot = ticket.into_slot();
        let held = inner.in_flight.borrow_mut().remove(slot);
        // An operation stays in the slab until its ticket comes back, so it is always found.
        let Some(mut held) = held else {
            return Verdict::Reject(Rejection::new(
                operation::RejectReason::Overloaded,
                "the operation that this ticket belongs to is gone",
            ));
        };
        inner.active.decrement(1.0);
        inner.in_flight.borrow_mut().free_slot(slot);
        let series = Rc::clone(&held.series);
        let asked = held.states.len().saturating_sub(1);
        let Some(applied) = series.policies.get(asked) else { return inner.go(held, operation) };
        match apply_decision(&mut held, applied, answer) {
            DecisionResult::Continue => inner.evaluate(held, operation, now),
            DecisionResult::Wait(answer) => inner.wait(held, operation, answer),
            DecisionResult::Reject(no) => inner.refuse(held, operation, no, now),
        }
    }

    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.inner.observe_rejected(operation, began, how);
    }
}

impl GateInner {
    /// Reports an operation to the built-in policies only, which count and log: a rejected
    /// operation uses up no limit, and no fault applies to it.
    fn observe_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.refresh();
        let series = self.series.find(operation);
        let mut held = self.in_flight.borrow_mut().prepare(Rc::clone(&series), operation, began);
        for applied in &series.policies {
            let mut state = 0;
            let hears = applied.active.name().is_none();
            if hears {
                applied.policy.admit(operation, began, &mut state);
            }
            held.states.push(hears.then_some(state));
        }
        held.policy_effects.extend(
            how.policy.map(|policy| PolicyEffect { policy: policy.into(), dry_run: false }),
        );
        held.settle(&series, operation.head, how);
        self.in_flight.borrow_mut().recycle(held);
    }
}

/// What one policy's decision means.
enum DecisionResult {
    Continue,
    Wait(DecisionFuture),
    Reject(Rejection),
}

/// Applies the decision of the policy that was evaluated last.
fn apply_decision(
    held: &mut InFlight,
    applied: &BoundPolicy,
    decision: Decision,
) -> DecisionResult {
    let active = &applied.active;
    active.count(&decision);
    let touches = match &decision {
        Decision::Reject(_) => true,
        // A time limit has an effect only once it has expired.
        Decision::Modify(terms) => !terms.is_timeout_only(),
        Decision::Admit | Decision::Pending(_) => false,
    };
    if let Some(name) = active.name().filter(|_| touches) {
        held.policy_effects
            .push(PolicyEffect { policy: Arc::clone(name), dry_run: active.is_dry() });
    }
    match decision {
        Decision::Admit => {}
        Decision::Modify(_) if active.is_dry() => {}
        Decision::Modify(terms) => {
            held.modifications.push((Rc::clone(active), Rc::clone(&terms)));
            match &mut held.terms {
                Some(all) => Rc::make_mut(all).merge(&terms),
                none => *none = Some(terms),
            }
        }
        Decision::Reject(no) => {
            held.clear_last_state();
            if !active.is_dry() {
                return DecisionResult::Reject(active.attribute(no));
            }
        }
        Decision::Pending(answer) if active.is_dry() => {
            let active = Rc::clone(active);
            // A dry run only counts, so the operation does not wait for it.
            tokio::task::spawn_local(async move { active.count(&answer.await) });
        }
        Decision::Pending(answer) => return DecisionResult::Wait(answer),
    }
    DecisionResult::Continue
}

impl BoundPolicy {
    /// Whether it decides about an operation. In doubt it is `No`, unless the policy applies in doubt.
    fn applies(&self, operation: &Operation<'_>, now: Instant) -> Truth {
        if self.skips_light && operation.limit_exempt {
            return Truth::No;
        }
        let Some(rest) = &self.residual else { return Truth::Yes };
        match self.active.applies_to(rest, operation, now) {
            doubt if doubt.is_in_doubt() && !self.active.applies_in_doubt() => Truth::No,
            truth => truth,
        }
    }

    /// Whether it can decide about an operation only when more of the request is read.
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
    /// Rebuilds the series if the policies have changed.
    fn refresh(&self) {
        let Some(updates) = &self.updates else { return };
        let generation = updates.live.generation();
        if updates.generation.replace(generation) != generation {
            let entries = crate::active::active_policies(
                &updates.live.rules(),
                &self.series.policies(),
                &updates.from,
            );
            self.series.replace(entries);
            self.in_flight.borrow_mut().clear_spare();
        }
    }

    /// The first policy that fails closed.
    fn failing_closed(&self) -> Option<Rc<ActivePolicy>> {
        self.refresh();
        let (listener, entries) = (self.series.listener(), self.series.policies());
        entries.iter().find(|active| active.fails_closed(listener)).map(Rc::clone)
    }

    /// Evaluates the policies that remain, in order.
    fn evaluate(
        self: &Rc<Self>,
        mut held: Box<InFlight>,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        let series = Rc::clone(&held.series);
        while let Some(applied) = series.policies.get(held.states.len()) {
            let applies = applied.applies(operation, now);
            if applies == Truth::No {
                held.states.push(None);
                continue;
            }
            let mut state = 0;
            let mut decision = applied.policy.admit(operation, now, &mut state);
            if let (true, Decision::Reject(no)) = (applies.is_in_doubt(), &mut decision) {
                let key = applied.active.key_in_doubt(self.series.listener(), operation);
                *no = no.clone().with_unknown_attribute(key.as_deref().unwrap_or("request"));
            }
            held.states.push(Some(state));
            if matches!(decision, Decision::Admit) {
                continue;
            }
            match apply_decision(&mut held, applied, decision) {
                DecisionResult::Continue => {}
                DecisionResult::Wait(answer) => return self.wait(held, operation, answer),
                DecisionResult::Reject(no) => return self.refuse(held, operation, no, now),
            }
        }
        self.go(held, operation)
    }

    fn go(self: &Rc<Self>, mut held: Box<InFlight>, operation: &Operation<'_>) -> Verdict {
        let terms = held.terms.take();
        Verdict::Admit(self.ticket(held, operation, terms))
    }

    fn wait(
        self: &Rc<Self>,
        held: Box<InFlight>,
        operation: &Operation<'_>,
        answer: DecisionFuture,
    ) -> Verdict {
        Verdict::Pending(PendingOperation {
            ticket: self.ticket(held, operation, None),
            decision: answer,
        })
    }

    fn ticket(
        self: &Rc<Self>,
        held: Box<InFlight>,
        operation: &Operation<'_>,
        terms: Option<Rc<Effects>>,
    ) -> Ticket {
        self.active.increment(1.0);
        let slot = self.in_flight.borrow_mut().take(held, operation);
        Ticket::new(Rc::clone(self) as Rc<dyn SettleSink>, slot, terms)
    }

    /// Settles a rejected operation with the policies that admitted it: they count it, log it
    /// and give back what they took for it.
    fn refuse(
        &self,
        held: Box<InFlight>,
        operation: &Operation<'_>,
        no: Rejection,
        now: Instant,
    ) -> Verdict {
        let mut how = Settlement::new(Outcome::Rejected, now);
        how.reason = Some(no.reason.into());
        how.attributes = operation.attributes;
        operation.attributes.on_rejected(&no);
        held.settle(&held.series, operation.head, &how);
        self.in_flight.borrow_mut().recycle(held);
        Verdict::Reject(no)
    }
}

impl SettleSink for GateInner {
    fn settle(&self, slot: u32, how: &Settlement<'_>) {
        // Tickets are dropped where something panicked. A second panic just then would end the process.
        match thread::panicking() {
            true => drop(tells_itself(|| self.settle_now(slot, how))),
            false => self.settle_now(slot, how),
        }
    }

    fn add_bytes(&self, slot: u32, bytes: [u64; 2]) {
        let in_flight = self.in_flight.borrow();
        let Some(held) = in_flight.get(slot) else { return };
        let admitted = held.series.policies.iter().zip(&held.states);
        admitted
            .filter(|(_, state)| state.is_some())
            .for_each(|(applied, _)| applied.policy.record_bytes(bytes));
    }

    fn abandon(&self, slot: u32) {
        self.settle(slot, &Settlement::new(Outcome::Cancelled, Instant::now()));
    }
}

impl GateInner {
    fn settle_now(&self, slot: u32, how: &Settlement<'_>) {
        let Some(mut held) = self.in_flight.borrow_mut().remove(slot) else { return };
        self.active.decrement(1.0);
        if let Some(policy) = how.policy {
            held.policy_effects.push(PolicyEffect { policy: policy.into(), dry_run: false });
        }
        let mut counted_as = match how.names {
            Some(named) => self.series.renamed(&held.series, named),
            None => Rc::clone(&held.series),
        };
        if how.confirmed && how.outcome == Outcome::Ok {
            counted_as = self.series.confirm(&counted_as);
        }
        if how.names.is_some() {
            self.series.cache_unread(&held.series, &counted_as);
        }
        held.settle(&counted_as, &held.front, how);
        let current = self.series.is_current(&held.series);
        let mut in_flight = self.in_flight.borrow_mut();
        in_flight.free_slot(slot);
        if current {
            in_flight.recycle(held);
        }
    }
}

impl InFlight {
    /// Settles with the policies that admitted the operation. `counted_as` is the series that it counts as,
    /// of which more may be known now than of the one that it was admitted as.
    fn settle(&self, counted_as: &Series, front: &[u8], how: &Settlement<'_>) {
        let done = Settled {
            key: &counted_as.key,
            front,
            began: self.began,
            awaits: self.awaits,
            callsite: self.callsite,
            policy_effects: &self.policy_effects,
            how,
        };
        let admitted = self.series.policies.iter().zip(&self.states).enumerate();
        for (at, (applied, state)) in admitted {
            let Some(state) = state else { continue };
            // What counts and logs applies to all series. What was configured ends with what it
            // noted of the series that it admitted.
            let same = |it: &&BoundPolicy| {
                it.active.rule.is_none() && Rc::ptr_eq(&it.active, &applied.active)
            };
            let applied = counted_as.policies.get(at).filter(same).unwrap_or(applied);
            applied.policy.settle(&done, *state);
        }
    }
}

#[cfg(test)]
mod tests;
