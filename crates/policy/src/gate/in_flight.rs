//! The operations under way, in places that keep their memory for the next.

use crate::{ActivePolicy, PolicyEffect, series::Series};
use operation::{Effects, Operation};
use std::{rc::Rc, time::Instant};

/// How many bytes of a request's front are kept, for attributes that are read when the operation
/// ends.
const MAX_FRONT: usize = 4 * 1024;

/// How much of it is kept once the kept fronts of a listener's worker take [`MAX_FRONT_BYTES`].
const SHORT_FRONT: usize = 256;

/// How many bytes the kept fronts of operations in flight may take before further ones are cut.
const MAX_FRONT_BYTES: usize = 32 << 20;

/// How many operations that have ended leave their memory to the next.
const MAX_SPARE: usize = 256;

/// An operation on its way through the gate, or past it.
pub(super) struct InFlight {
    pub(super) series: Rc<Series>,
    /// The front of its request; filled in when it gets a ticket.
    pub(super) front: Vec<u8>,
    pub(super) began: Instant,
    pub(super) awaits: bool,
    pub(super) callsite: bool,
    /// The state of each policy of the series that has decided so far; `None` if the policy does
    /// not apply to the operation.
    pub(super) states: Vec<Option<u64>>,
    /// The policies that had an effect on it.
    pub(super) policy_effects: Vec<PolicyEffect>,
    /// The effects of all policies, merged.
    pub(super) terms: Option<Rc<Effects>>,
    /// The effects of each policy, for operations during which policies change.
    pub(super) modifications: Vec<(Rc<ActivePolicy>, Rc<Effects>)>,
    /// The policies that came into force during the operation and have decided.
    pub(super) seen_later: Vec<Rc<ActivePolicy>>,
}

impl InFlight {
    /// Clears the state of the policy that was evaluated last: it takes no part in the operation.
    pub(super) fn clear_last_state(&mut self) {
        if let Some(last) = self.states.last_mut() {
            *last = None;
        }
    }
}

/// The operations under way.
#[derive(Default)]
pub(super) struct InFlightSlab {
    held: Vec<Option<Box<InFlight>>>,
    free: Vec<u32>,
    /// The bytes of the fronts that are kept.
    front_bytes: usize,
    /// What is left of operations that have ended, for its memory.
    #[expect(clippy::vec_box, reason = "it goes to and fro, and a pointer is all that moves")]
    spare: Vec<Box<InFlight>>,
}

impl InFlightSlab {
    /// An operation that no policy has evaluated yet.
    pub(super) fn prepare(
        &mut self,
        series: Rc<Series>,
        operation: &Operation<'_>,
        began: Instant,
    ) -> Box<InFlight> {
        let Operation { long_poll: awaits, may_have_callsite: callsite, .. } = *operation;
        let Some(mut held) = self.spare.pop() else {
            let (front, states, policy_effects) = (Vec::new(), Vec::new(), Vec::new());
            let (terms, modifications, seen_later) = (None, Vec::new(), Vec::new());
            return Box::new(InFlight {
                series,
                front,
                began,
                awaits,
                callsite,
                states,
                policy_effects,
                terms,
                modifications,
                seen_later,
            });
        };
        held.series = series;
        (held.began, held.awaits, held.callsite) = (began, awaits, callsite);
        held
    }

    /// Keeps an operation that is under way, and enough of its front.
    pub(super) fn take(&mut self, mut held: Box<InFlight>, operation: &Operation<'_>) -> u32 {
        let most = if self.front_bytes < MAX_FRONT_BYTES { MAX_FRONT } else { SHORT_FRONT };
        let kept = operation.head.len().min(most);
        self.front_bytes += kept;
        held.front.clear();
        held.front.extend_from_slice(&operation.head[..kept]);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.held.push(None);
            self.held.len() as u32 - 1
        });
        if let Some(held_permit) = self.held.get_mut(slot as usize) {
            *held_permit = Some(held);
        }
        slot
    }

    /// The operation in this place.
    pub(super) fn get(&self, slot: u32) -> Option<&InFlight> {
        self.held.get(slot as usize)?.as_deref()
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut InFlight> {
        self.held.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Takes an operation out of its place, which stays its own until it is vacated.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Box<InFlight>> {
        let held = self.held.get_mut(slot as usize)?.take();
        self.front_bytes -= held.as_ref().map_or(0, |held| held.front.len());
        held
    }

    /// Makes the slot available.
    pub(super) fn free_slot(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Keeps what is left of an operation that has ended for the next one.
    pub(super) fn recycle(&mut self, mut held: Box<InFlight>) {
        if self.spare.len() >= MAX_SPARE {
            return;
        }
        held.front.clear();
        held.states.clear();
        held.policy_effects.clear();
        held.terms = None;
        held.modifications.clear();
        held.seen_later.clear();
        self.spare.push(held);
    }

    /// Drops the spare entries, and with them the policies that are gone.
    pub(super) fn clear_spare(&mut self) {
        self.spare.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{CardinalityLimit, SeriesTable};
    use operation::Protocol;
    use std::sync::Arc;

    const TOY: Protocol = Protocol::plain("toy");

    #[test]
    fn many_operations_keep_shorter_fronts_and_free_them() {
        let mut in_flight = InFlightSlab::default();
        let operation = Operation {
            protocol: const { &TOY },
            name: "find",
            resource: "",
            head: &[7; 2 * MAX_FRONT],
            attributes: &(),
            long_poll: false,
            limit_exempt: false,
            may_have_callsite: false,
            known_names: true,
            partial: false,
            may_have_other_resources: false,
        };
        let census = Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
        let series = SeriesTable::new("", Vec::new(), census).find(&operation);
        let mut crowd = |count: usize| -> Vec<u32> {
            let mut taken = || {
                let held = in_flight.prepare(Rc::clone(&series), &operation, Instant::now());
                in_flight.take(held, &operation)
            };
            (0..count).map(|_| taken()).collect()
        };
        let tickets = crowd(MAX_FRONT_BYTES / MAX_FRONT + 1000);
        assert_eq!(in_flight.front_bytes, MAX_FRONT_BYTES + 1000 * SHORT_FRONT);
        for slot in tickets {
            let held = in_flight.remove(slot).unwrap();
            in_flight.free_slot(slot);
            in_flight.recycle(held);
        }
        assert_eq!((in_flight.front_bytes, in_flight.spare.len()), (0, MAX_SPARE));
    }
}
