//! Connections at the gate: who is let in, when, and what is held for them.

use super::Gate;
use crate::policy::{Entrance, Guest, Way};
use operation::{Link, No};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// What was decided about a connection.
#[derive(Debug)]
pub enum Arrival {
    /// It is let in after this long.
    Welcome(Duration, Guests),
    /// It is turned away.
    Refused(No),
}

/// What policies hold for one connection.
#[derive(Default)]
pub struct Guests(Option<Box<[Place]>>);

/// A guest, and whether it only counts.
struct Place {
    guest: Box<dyn Guest>,
    dry: bool,
}

impl Guests {
    /// The most bytes that should pass this way in one go.
    pub fn most(&self, way: Way) -> usize {
        self.iter().map(|guest| guest.most(way)).min().unwrap_or(usize::MAX)
    }

    /// So many bytes have passed this way. Returns the moment before which no more should.
    pub fn passed(&self, way: Way, bytes: usize, now: Instant) -> Option<Instant> {
        self.iter().filter_map(|guest| guest.passed(way, bytes, now)).max()
    }

    /// Whether nobody holds anything, as for most connections.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &dyn Guest> {
        let places = self.0.iter().flat_map(|places| places.iter());
        places.filter(|place| !place.dry).map(|place| &*place.guest)
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guests({})", self.iter().count())
    }
}

impl Gate {
    /// Asks every policy that decides about connections.
    pub fn connect(&self, link: &Link, now: Instant) -> Arrival {
        self.inner.refresh();
        let (mut delay, mut guests) = (Duration::ZERO, Vec::new());
        for entry in &*self.inner.series.entries() {
            if !entry.decides_on(self.inner.series.listener(), link, now) {
                continue;
            }
            match entry.policy.connect(link, now) {
                Entrance::Free => {}
                Entrance::Guest(guest) => guests.push(Place { guest, dry: entry.is_dry() }),
                Entrance::Delay(_) if entry.is_dry() => {}
                Entrance::Delay(more) => delay += more,
                Entrance::Refuse(no) => {
                    entry.count_no(&no);
                    if !entry.is_dry() {
                        return Arrival::Refused(entry.says(no));
                    }
                }
            }
        }
        let guests = Guests((!guests.is_empty()).then(|| guests.into()));
        Arrival::Welcome(delay, guests)
    }
}
