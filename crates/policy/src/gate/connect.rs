//! Connections at the gate: accepted, delayed or rejected, with the permits that policies hold.

use super::Gate;
use crate::{ActivePolicy, ConnectDecision, ConnectionPermit};
use operation::{ConnectionInfo, Direction, Rejection};
use std::{
    cell::Cell,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

/// What was decided about a connection.
#[derive(Debug)]
pub enum ConnectVerdict {
    /// Accept the connection after this delay, with these permits.
    Accept(Duration, ConnectionPermits),
    /// Reject the connection.
    Reject(Rejection),
}

/// What policies hold for one connection.
#[derive(Default)]
pub struct ConnectionPermits(Option<Box<[HeldPermit]>>);

/// A permit, and the policy that gave it.
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
    /// The most bytes that should pass this way in one go.
    pub fn most(&self, way: Direction) -> usize {
        self.iter().map(|held_permit| held_permit.permit.max_chunk(way)).min().unwrap_or(usize::MAX)
    }

    /// Records bytes that passed in this direction. Returns the earliest time at which further
    /// bytes should pass. Calls `slows` with the policy, and whether it is the first time for this
    /// connection.
    pub fn passed(
        &self,
        way: Direction,
        bytes: usize,
        now: Instant,
        throttled: impl Fn(&ActivePolicy, bool),
    ) -> Option<Instant> {
        let passed = |held_permit: &HeldPermit| {
            let until = held_permit.permit.record(way, bytes, now)?;
            throttled(&held_permit.active, !held_permit.throttled.replace(true));
            Some(until)
        };
        self.iter().filter_map(passed).max()
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
    /// Asks every policy that decides about connections.
    pub fn connect(&self, link: &ConnectionInfo, now: Instant) -> ConnectVerdict {
        self.inner.refresh();
        let (mut delay, mut permits) = (Duration::ZERO, Vec::new());
        for active in &*self.inner.series.policies() {
            if !active.applies_to_connection(self.inner.series.listener(), link, now) {
                continue;
            }
            match active.policy.connect(link, now) {
                ConnectDecision::Accept => {}
                ConnectDecision::AcceptWith(permit) => {
                    permits.push(HeldPermit::new(active, permit))
                }
                ConnectDecision::Delay(_) if active.is_dry() => {}
                ConnectDecision::Delay(more) => delay += more,
                ConnectDecision::Reject(no) => {
                    active.count_rejection(&no);
                    if !active.is_dry() {
                        return ConnectVerdict::Reject(active.attribute(no));
                    }
                }
            }
        }
        ConnectVerdict::Accept(delay, ConnectionPermits::of(permits))
    }
}
