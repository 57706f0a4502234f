//! Connections at the gate: accepted, delayed or rejected, with the permits that policies hold.

use super::Gate;
use crate::{
    ActivePolicy, ConnectDecision, ConnectionPermit, attribute_memo::AttributeMemo,
    attributes::ConnectPhase,
};
use operation::{Attributes, Direction, Rejection};
use std::{
    cell::Cell,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

/// The gate's decision about a connection.
#[derive(Debug)]
pub enum ConnectVerdict {
    /// Accept the connection after this delay, with these permits.
    Accept(Duration, ConnectionPermits),
    /// Reject the connection.
    Reject(Rejection),
}

/// The permits that policies granted to one connection.
#[derive(Default)]
pub struct ConnectionPermits(Option<Box<[HeldPermit]>>);

/// A permit, and the policy that granted it.
pub(super) struct HeldPermit {
    pub(super) active: Rc<ActivePolicy>,
    permit: Box<dyn ConnectionPermit>,
    /// Whether the throttling of this connection has been reported.
    throttled: Cell<bool>,
}

impl HeldPermit {
    pub(super) fn new(active: &Rc<ActivePolicy>, permit: Box<dyn ConnectionPermit>) -> Self {
        Self { active: Rc::clone(active), permit, throttled: Cell::new(false) }
    }
}

impl ConnectionPermits {
    /// The most bytes that should pass in this direction at once.
    pub fn max_chunk(&self, direction: Direction) -> usize {
        self.iter()
            .map(|held_permit| held_permit.permit.max_chunk(direction))
            .min()
            .unwrap_or(usize::MAX)
    }

    /// Records bytes that passed in this direction. Returns the earliest time at which further
    /// bytes should pass. Calls `throttled` with each policy that delays them, and whether it is the
    /// first time for this connection.
    pub fn record(
        &self,
        direction: Direction,
        bytes: usize,
        now: Instant,
        throttled: impl Fn(&ActivePolicy, bool),
    ) -> Option<Instant> {
        let record = |held_permit: &HeldPermit| {
            let until = held_permit.permit.record(direction, bytes, now)?;
            throttled(&held_permit.active, !held_permit.throttled.replace(true));
            Some(until)
        };
        self.iter().filter_map(record).max()
    }

    /// Adds the permits of a later phase of the same connection.
    pub fn extend(&mut self, later: Self) {
        if let Some(later) = later.0 {
            let mut held_permits = self.take();
            held_permits.extend(later);
            *self = Self::of(held_permits);
        }
    }

    pub(super) fn of(held_permits: Vec<HeldPermit>) -> Self {
        Self((!held_permits.is_empty()).then(|| held_permits.into()))
    }

    pub(super) fn take(&mut self) -> Vec<HeldPermit> {
        self.0.take().map_or_else(Vec::new, Vec::from)
    }

    /// Whether there is no permit, as for most connections.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &HeldPermit> {
        let held_permits = self.0.iter().flat_map(|held_permits| held_permits.iter());
        held_permits.filter(|held_permit| !held_permit.active.is_dry())
    }
}

impl fmt::Debug for ConnectionPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionPermits({})", self.iter().count())
    }
}

impl Gate {
    /// Evaluates the policies about connections that are asked in this phase.
    pub fn connect(
        &self,
        connection: &dyn Attributes,
        phase: ConnectPhase,
        now: Instant,
    ) -> ConnectVerdict {
        self.inner.refresh();
        let policies = self.inner.series.policies();
        let memo = AttributeMemo::new(policies.numbers(), connection, b"");
        let mut candidates = self.inner.candidates.take();
        policies.find_for_connection(&memo, phase, &mut candidates);
        let candidate = candidates.policies.iter().filter_map(|position| policies.get(position));
        let verdict = evaluate(candidate, policies.listener(), &memo, now);
        self.inner.candidates.set(candidates);
        verdict
    }
}

/// Evaluates those of the policies that apply to a connection, in order.
fn evaluate<'p>(
    policies: impl Iterator<Item = &'p Rc<ActivePolicy>>,
    listener: &str,
    connection: &dyn Attributes,
    now: Instant,
) -> ConnectVerdict {
    let (mut delay, mut permits) = (Duration::ZERO, Vec::new());
    for active in policies {
        if !active.applies_to_connection(listener, connection, now) {
            continue;
        }
        match active.policy.connect(connection, now) {
            ConnectDecision::Accept => {}
            ConnectDecision::AcceptWith(permit) => permits.push(HeldPermit::new(active, permit)),
            ConnectDecision::Delay(_) if active.is_dry() => {}
            ConnectDecision::Delay(more) => delay += more,
            ConnectDecision::Reject(rejection) => {
                active.count_rejection(&rejection);
                if !active.is_dry() {
                    return ConnectVerdict::Reject(active.attribute(rejection));
                }
            }
        }
    }
    ConnectVerdict::Accept(delay, ConnectionPermits::of(permits))
}
