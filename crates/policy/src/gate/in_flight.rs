//! The operations in flight, in a slab whose entries are reused.

use crate::{ActivePolicy, PolicyEffect, series::Series};
use operation::{Effects, Operation, QueryShape};
use std::{rc::Rc, time::Instant};

/// How many of a request's first bytes are kept, for attributes that are read at the end.
const MAX_FRONT: usize = 4 * 1024;

/// The same once the fronts of one listener on one worker take [`MAX_FRONT_BYTES`].
const SHORT_FRONT: usize = 256;

/// How many bytes the fronts of operations in flight may take before further ones are shortened.
const MAX_FRONT_BYTES: usize = 32 << 20;

/// How many entries of ended operations are kept for reuse.
const MAX_SPARE: usize = 256;

/// An operation that is being evaluated or is in flight.
pub(super) struct InFlight {
    pub(super) series: Rc<Series>,
    /// The first bytes of its request; set when it gets a ticket.
    pub(super) front: Vec<u8>,
    pub(super) began: Instant,
    pub(super) long_poll: bool,
    pub(super) may_have_callsite: bool,
    pub(super) query_shape: Option<QueryShape>,
    /// The position behind the policy that was evaluated last.
    pub(super) next: usize,
    /// The policies that decided so far and will be settled: their positions, and their states.
    pub(super) states: Vec<(usize, u64)>,
    /// The policies that had an effect on it.
    pub(super) policy_effects: Vec<PolicyEffect>,
    /// The effects of all policies, merged.
    pub(super) effects: Option<Rc<Effects>>,
    /// The effects of each policy, for operations during which policies change.
    pub(super) modifications: Vec<(Rc<ActivePolicy>, Rc<Effects>)>,
    /// The policies that came into force during the operation and were evaluated.
    pub(super) seen_later: Vec<Rc<ActivePolicy>>,
}

/// The operations in flight, by slot.
#[derive(Default)]
pub(super) struct InFlightSlab {
    slots: Vec<Option<Box<InFlight>>>,
    free: Vec<u32>,
    /// The total size of all fronts.
    front_bytes: usize,
    /// Cleared entries for reuse.
    #[expect(
        clippy::vec_box,
        reason = "entries move between the slab and here, and only a pointer is copied"
    )]
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
        let Operation { long_poll, may_have_callsite, query_shape, .. } = *operation;
        let Some(mut entry) = self.spare.pop() else {
            let (front, states, policy_effects) = (Vec::new(), Vec::new(), Vec::new());
            let (effects, modifications, seen_later) = (None, Vec::new(), Vec::new());
            return Box::new(InFlight {
                series,
                front,
                began,
                long_poll,
                may_have_callsite,
                query_shape,
                next: 0,
                states,
                policy_effects,
                effects,
                modifications,
                seen_later,
            });
        };
        (entry.series, entry.began) = (series, began);
        (entry.long_poll, entry.may_have_callsite, entry.query_shape) =
            (long_poll, may_have_callsite, query_shape);
        entry
    }

    /// Stores an operation with the first bytes of its request. Returns its slot.
    pub(super) fn insert(&mut self, mut entry: Box<InFlight>, operation: &Operation<'_>) -> u32 {
        let max_front = if self.front_bytes < MAX_FRONT_BYTES { MAX_FRONT } else { SHORT_FRONT };
        let kept = operation.head.len().min(max_front);
        self.front_bytes += kept;
        entry.front.clear();
        entry.front.extend_from_slice(&operation.head[..kept]);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(entry);
        }
        slot
    }

    /// The operation in this slot.
    pub(super) fn get(&self, slot: u32) -> Option<&InFlight> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// The operation in this slot, mutable.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut InFlight> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Removes an operation. Its slot stays reserved until [`free_slot`](Self::free_slot).
    pub(super) fn remove(&mut self, slot: u32) -> Option<Box<InFlight>> {
        let entry = self.slots.get_mut(slot as usize)?.take();
        self.front_bytes -= entry.as_ref().map_or(0, |entry| entry.front.len());
        entry
    }

    /// Makes a slot available for reuse.
    pub(super) fn free_slot(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Keeps the memory of an ended operation for the next one.
    pub(super) fn recycle(&mut self, mut entry: Box<InFlight>) {
        if self.spare.len() >= MAX_SPARE {
            return;
        }
        entry.front.clear();
        entry.next = 0;
        entry.states.clear();
        entry.policy_effects.clear();
        entry.effects = None;
        entry.modifications.clear();
        entry.seen_later.clear();
        self.spare.push(entry);
    }

    /// Drops the spare entries, which may refer to policies that were removed.
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
            query_shape: None,
        };
        let cardinality = Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
        let series = SeriesTable::new("", Vec::new(), cardinality).find(&operation);
        let mut insert = |count: usize| -> Vec<u32> {
            let mut insert_one = || {
                let entry = in_flight.prepare(Rc::clone(&series), &operation, Instant::now());
                in_flight.insert(entry, &operation)
            };
            (0..count).map(|_| insert_one()).collect()
        };
        let tickets = insert(MAX_FRONT_BYTES / MAX_FRONT + 1000);
        assert_eq!(in_flight.front_bytes, MAX_FRONT_BYTES + 1000 * SHORT_FRONT);
        for slot in tickets {
            let entry = in_flight.remove(slot).unwrap();
            in_flight.free_slot(slot);
            in_flight.recycle(entry);
        }
        assert_eq!((in_flight.front_bytes, in_flight.spare.len()), (0, MAX_SPARE));
    }
}
