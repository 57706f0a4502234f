//! Connections at the gate: who is let in, when, and what is held for them.

use super::Gate;
use crate::policy::{ActivePolicy, ConnectDecision, ConnectionPermit, Direction};
use operation::{ConnectionInfo, Rejection};
use std::{
    cell::Cell,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

/// What was decided about a connection.
#[derive(Debug)]
pub enum Arrival {
    /// It is let in after this long.
    Welcome(Duration, Guests),
    /// It is turned away.
    Refused(Rejection),
}

/// What policies hold for one connection.
#[derive(Default)]
pub struct Guests(Option<Box<[Place]>>);

/// A guest, and the policy whose it is.
pub(super) struct Place {
    pub(super) entry: Rc<ActivePolicy>,
    guest: Box<dyn ConnectionPermit>,
    /// It has been told that the guest slows the connection down.
    slows: Cell<bool>,
}

impl Place {
    pub(super) fn new(entry: &Rc<ActivePolicy>, guest: Box<dyn ConnectionPermit>) -> Self {
        Self { entry: Rc::clone(entry), guest, slows: Cell::new(false) }
    }
}

impl Guests {
    /// The most bytes that should pass this way in one go.
    pub fn most(&self, way: Direction) -> usize {
        self.iter().map(|place| place.guest.max_chunk(way)).min().unwrap_or(usize::MAX)
    }

    /// So many bytes have passed this way. Returns the moment before which no more should. `slows`
    /// is told whose doing that is, and whether it is the first time for this connection.
    pub fn passed(
        &self,
        way: Direction,
        bytes: usize,
        now: Instant,
        slows: impl Fn(&ActivePolicy, bool),
    ) -> Option<Instant> {
        let passed = |place: &Place| {
            let until = place.guest.record(way, bytes, now)?;
            slows(&place.entry, !place.slows.replace(true));
            Some(until)
        };
        self.iter().filter_map(passed).max()
    }

    pub(super) fn of(places: Vec<Place>) -> Self {
        Self((!places.is_empty()).then(|| places.into()))
    }

    pub(super) fn take(&mut self) -> Vec<Place> {
        self.0.take().map_or_else(Vec::new, Vec::from)
    }

    /// Whether nobody holds anything, as for most connections.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &Place> {
        let places = self.0.iter().flat_map(|places| places.iter());
        places.filter(|place| !place.entry.is_dry())
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guests({})", self.iter().count())
    }
}

impl Gate {
    /// Asks every policy that decides about connections.
    pub fn connect(&self, link: &ConnectionInfo, now: Instant) -> Arrival {
        self.inner.refresh();
        let (mut delay, mut guests) = (Duration::ZERO, Vec::new());
        for entry in &*self.inner.series.policies() {
            if !entry.applies_to_connection(self.inner.series.listener(), link, now) {
                continue;
            }
            match entry.policy.connect(link, now) {
                ConnectDecision::Accept => {}
                ConnectDecision::AcceptWith(guest) => guests.push(Place::new(entry, guest)),
                ConnectDecision::Delay(_) if entry.is_dry() => {}
                ConnectDecision::Delay(more) => delay += more,
                ConnectDecision::Reject(no) => {
                    entry.count_rejection(&no);
                    if !entry.is_dry() {
                        return Arrival::Refused(entry.attribute(no));
                    }
                }
            }
        }
        Arrival::Welcome(delay, Guests::of(guests))
    }
}
