//! Pins: which endpoint holds the state that operations continue, such as a cursor or a transaction.
//!
//! A key is a hash of the protocol's own name for the state. Entries are bounded; what is forgotten is
//! found by asking the endpoints one after the other.

use crate::Cluster;
use foldhash::HashMap;
use operation::{PinChange, Role};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many tables share the entries, so that workers seldom wait for each other.
const SHARDS: usize = 64;

/// How many entries a table has: about 100,000 in all.
const MAX_ENTRIES: usize = 1600;

/// Which endpoint holds what.
#[derive(Debug)]
pub(super) struct Pins([Mutex<Shard>; SHARDS]);

#[derive(Debug, Default)]
struct Shard {
    holders: HashMap<u64, SocketAddr>,
    /// The keys, the oldest first. Some are not in `holders` any more.
    order: VecDeque<u64>,
}

impl Default for Pins {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Pins {
    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let shard = &self.0[(key % SHARDS as u64) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: u64) -> Option<SocketAddr> {
        self.shard(key).holders.get(&key).copied()
    }

    fn change(&self, change: PinChange, holder: SocketAddr) {
        match change {
            PinChange::Pin(key) => self.shard(key).insert(key, holder),
            PinChange::Unpin(key) => _ = self.shard(key).holders.remove(&key),
        }
    }
}

impl Shard {
    fn insert(&mut self, key: u64, holder: SocketAddr) {
        if self.holders.insert(key, holder).is_some() {
            return;
        }
        self.order.push_back(key);
        // Keys that were removed stay in the order until their turn comes.
        while self.order.len() > MAX_ENTRIES {
            let oldest = self.order.pop_front();
            oldest.into_iter().for_each(|key| _ = self.holders.remove(&key));
        }
    }
}

impl Cluster {
    /// Records which endpoint holds what. A single endpoint holds everything, so nothing is recorded.
    pub(super) fn change_pin(&self, change: PinChange, holder: SocketAddr) {
        if self.set.load().members.len() > 1 {
            self.pins.change(change, holder);
        }
    }

    /// Forgets which endpoint holds the state with this key.
    pub(super) fn unpin(&self, key: u64) {
        self.pins.shard(key).holders.remove(&key);
    }

    /// The usable endpoint that holds the state with this key, if it is known.
    pub(super) fn pinned(&self, key: u64) -> Option<SocketAddr> {
        let set = self.set.load();
        if set.members.len() < 2 {
            return None;
        }
        let address = self.pins.get(key)?;
        let endpoint = set.at(address)?;
        (!self.has_roles() || endpoint.role() != Role::Unknown).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_pin_is_known_until_its_state_ends() {
        let pins = Pins::default();
        pins.change(PinChange::Pin(7), address(1));
        assert_eq!(pins.get(7), Some(address(1)));
        pins.change(PinChange::Pin(7), address(2));
        assert_eq!(pins.get(7), Some(address(2)));
        pins.change(PinChange::Unpin(7), address(2));
        assert_eq!(pins.get(7), None);
    }

    #[test]
    fn a_flood_of_pins_drops_the_oldest() {
        let pins = Pins::default();
        let many = (SHARDS * MAX_ENTRIES + 1) as u64;
        for key in 0..many {
            pins.change(PinChange::Pin(key), address(1));
        }
        assert_eq!(pins.get(0), None);
        assert_eq!(pins.get(many - 1), Some(address(1)));
        let entries: usize = pins.0.iter().map(|shard| shard.lock().unwrap().holders.len()).sum();
        assert_eq!(entries, SHARDS * MAX_ENTRIES);
    }
}
