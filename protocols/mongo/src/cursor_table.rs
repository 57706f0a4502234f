//! What is known of open cursors, shared by all connections of a listener: drivers go on with a
//! cursor on whatever connection is free.

use crate::call_sites::fnv1a;
use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// How many cursors there is room for.
const SLOTS: usize = 8192;
/// How far from its place a cursor may lie; beyond that, a newer one takes an older one's place.
const PROBES: usize = 8;
/// 48 bits that tell cursors apart; below them 15 for the call site and one for tailing.
const ID_BITS: u64 = !0xFFFF;
const TAILABLE_BIT: u64 = 1;

/// What is worth knowing about a cursor when it is gone on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CursorInfo {
    /// Where in the client's program it was opened: a number of [`crate::names::Names`], or 0.
    pub(crate) callsite: u16,
    /// It waits for documents that are to come.
    pub(crate) tailable: bool,
}

/// Open cursors, without locks: a slot is one word. Two cursors that can't be told apart, or one
/// that lost its place, cost a wrong or a missing label and nothing else.
#[derive(Debug, Default)]
pub(crate) struct CursorTable {
    /// Made with the first cursor: there may be a thousand listeners that nobody uses.
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl CursorTable {
    /// Remembers a cursor, if there is anything worth remembering.
    pub(crate) fn insert(&self, id: i64, known: CursorInfo) {
        if id == 0 || known == CursorInfo::default() {
            return;
        }
        let (home, which) = slot_and_id(id);
        self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        let word = which | u64::from(known.callsite) << 1 | u64::from(known.tailable);
        let free = self.slots(home).find(|slot| {
            let held = slot.load(Relaxed);
            held == 0 || held & ID_BITS == which
        });
        if let Some(slot) = free.or_else(|| self.slots(home).next()) {
            slot.store(word, Relaxed);
        }
    }

    /// What is known of a cursor.
    pub(crate) fn get(&self, id: i64) -> CursorInfo {
        let (home, which) = slot_and_id(id);
        let words = self.slots(home).map(|slot| slot.load(Relaxed));
        let found = words.into_iter().find(|word| word & ID_BITS == which);
        found.map_or(CursorInfo::default(), |word| CursorInfo {
            callsite: ((word & !ID_BITS) >> 1) as u16,
            tailable: word & TAILABLE_BIT != 0,
        })
    }

    /// Forgets a cursor that is used up.
    pub(crate) fn remove(&self, id: i64) {
        let (home, which) = slot_and_id(id);
        for slot in self.slots(home) {
            let held = slot.load(Relaxed);
            if held & ID_BITS == which {
                // If another cursor took the place meanwhile, that one stays.
                let _ = slot.compare_exchange(held, 0, Relaxed, Relaxed);
            }
        }
    }

    fn slots(&self, home: usize) -> impl Iterator<Item = &AtomicU64> {
        let slots = self.slots.get().map_or(&[][..], |slots| slots);
        (0..PROBES).filter_map(move |probe| slots.get((home + probe) % SLOTS))
    }
}

/// Where a cursor's slots begin, and what tells it apart there (never 0).
fn slot_and_id(id: i64) -> (usize, u64) {
    let hash = fnv1a(&id.to_le_bytes());
    (hash as usize % SLOTS, (hash | 1 << 16) & ID_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_known_until_it_is_used_up() {
        let cursors = CursorTable::default();
        let known = CursorInfo { callsite: 1024, tailable: true };
        cursors.insert(42, known);
        assert_eq!(cursors.get(42), known);
        assert_eq!(cursors.get(43), CursorInfo::default());
        cursors.remove(42);
        assert_eq!(cursors.get(42), CursorInfo::default());
    }

    #[test]
    fn a_flood_of_cursors_drops_old_ones_and_keeps_the_newest() {
        let cursors = CursorTable::default();
        for id in 1..100_000 {
            let known = CursorInfo { callsite: (id % 1000 + 1) as u16, tailable: false };
            cursors.insert(id, known);
            assert_eq!(cursors.get(id), known);
        }
    }
}
