//! Open cursors, shared by all connections of a listener: drivers continue a cursor on any
//! connection.

use crate::call_sites::fnv1a;
use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// How many cursors fit.
const SLOTS: usize = 8192;
/// How many slots are probed for a cursor. If all are taken, a newer cursor replaces an older one.
const PROBES: usize = 8;
/// The 48 bits that identify a cursor; below them are 15 bits for the call site, and one for
/// `tailable`.
const ID_BITS: u64 = !0xFFFF;
const TAILABLE_BIT: u64 = 1;

/// What a later `getMore` needs to know about its cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CursorInfo {
    /// The call site that opened it: a number of [`crate::call_sites::CallSites`], or 0.
    pub(crate) callsite: u16,
    /// It waits for new documents.
    pub(crate) tailable: bool,
}

/// Open cursors, without locks: a slot is one word. A collision of two cursors, or a replaced one,
/// costs a wrong or a missing label and nothing else.
#[derive(Debug, Default)]
pub(crate) struct CursorTable {
    /// Allocated with the first cursor: a thousand listeners may be idle.
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl CursorTable {
    /// Records a cursor, if there is anything to record.
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

    /// Removes an exhausted cursor.
    pub(crate) fn remove(&self, id: i64) {
        let (home, which) = slot_and_id(id);
        for slot in self.slots(home) {
            let held = slot.load(Relaxed);
            if held & ID_BITS == which {
                // If another cursor took the slot meanwhile, it stays.
                let _ = slot.compare_exchange(held, 0, Relaxed, Relaxed);
            }
        }
    }

    fn slots(&self, home: usize) -> impl Iterator<Item = &AtomicU64> {
        let slots = self.slots.get().map_or(&[][..], |slots| slots);
        (0..PROBES).filter_map(move |probe| slots.get((home + probe) % SLOTS))
    }
}

/// The first slot of a cursor, and the bits that identify it there (never 0).
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
