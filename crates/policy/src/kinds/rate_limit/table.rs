//! A table of arrival times by key: of bounded size, without locks, shared by all workers. It takes
//! memory for the keys that it has: slots are in pages, and a page is made for the first key in it.
//!
//! A bucket is one number, the time at which it is full again (GCRA's *theoretical arrival time*).
//! While that time is in the future its key stays, so a flood of other keys can't evict a key that
//! is over its limit. Once it is past, evicting the key changes nothing, and its slot is free. All
//! keys that find no free slot share the *overflow* bucket.
//!
//! A key may be in either of two sets of slots. A slot's time only grows, also when the slot passes to
//! another key; so a thread that has read a key and a time, and then exchanges exactly this time,
//! changes the bucket that it meant. While a slot passes to another key its time is [`CLAIMED`].

use governor::nanos::Nanos;
use std::{
    hint,
    sync::{
        OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

/// The number of slots in a set: their keys fill a cache line.
const SLOTS: usize = 8;

/// The number of sets in a page: a page takes 1 kB, and its place in the table 16 bytes.
const SETS: usize = 8;

/// The time of a slot that is passing from one key to another.
const CLAIMED: u64 = u64::MAX;

/// The latest time that a slot may have.
const LATEST: u64 = CLAIMED - 1;

/// How often a claimed slot is read again. The claiming thread has two stores left to do; if it takes
/// longer it was descheduled, and the reader does not wait for it.
const MAX_SPINS: u32 = 1000;

/// Arrival times by key, in nanoseconds. A key without a slot has the time 0.
#[derive(Debug)]
pub(super) struct ArrivalTable {
    /// How many sets the table has.
    sets: usize,
    pages: Box<[OnceLock<Box<Page>>]>,
    overflow: AtomicU64,
}

/// Neighbouring sets.
type Page = [Set; SETS];

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    keys: [AtomicU64; SLOTS],
    times: [AtomicU64; SLOTS],
}

/// The slot of a key, or a slot that it can take.
enum Lookup<'a> {
    /// The key's slot.
    Found(TableSlot<'a>),
    /// A slot whose bucket is full, so that it can be taken over.
    Free(TableSlot<'a>),
    /// A page that is not made yet: all of its slots can be taken.
    Unmade(&'a OnceLock<Box<Page>>),
    /// A slot here is being taken over by another thread.
    Busy,
    /// Both sets are full.
    Full,
}

struct TableSlot<'a> {
    key: &'a AtomicU64,
    time: &'a AtomicU64,
    seen: u64,
}

/// The result of an update, and whether the shared overflow bucket was used.
pub(super) struct Updated<T> {
    pub(super) result: T,
    pub(super) overflow: bool,
}

impl ArrivalTable {
    /// A table for `max_keys` keys, with half as many slots again, so that no set fills up before the
    /// table.
    pub(super) fn new(max_keys: usize) -> Self {
        let sets = (max_keys + max_keys / 2).div_ceil(SLOTS).max(1);
        let pages = std::iter::repeat_with(OnceLock::new).take(sets.div_ceil(SETS)).collect();
        Self { sets, pages, overflow: AtomicU64::new(0) }
    }

    /// Replaces a bucket's time with the result of `change`, unless that fails. `change` may be called
    /// several times, and must not return an earlier time than its argument.
    pub(super) fn update<T, E>(
        &self,
        key: u64,
        now: u64,
        change: impl Fn(u64) -> Result<(T, Nanos), E>,
    ) -> Updated<Result<T, E>> {
        let change = |time| change(time).map(|(value, next)| (value, next.as_u64().min(LATEST)));
        let mut spins = MAX_SPINS;
        loop {
            let (slot, is_own) = match self.lookup(key, now) {
                Lookup::Found(slot) => (slot, true),
                Lookup::Free(slot) => (slot, false),
                Lookup::Unmade(page) => {
                    page.get_or_init(Box::default);
                    continue;
                }
                Lookup::Busy if spins > 0 => {
                    spins -= 1;
                    hint::spin_loop();
                    continue;
                }
                Lookup::Busy | Lookup::Full => {
                    return Updated { result: exchange(&self.overflow, change), overflow: true };
                }
            };
            let result = match change(if is_own { slot.seen } else { 0 }) {
                Err(error) => Err(error),
                Ok((value, next)) if is_own && slot.set(next) => Ok(value),
                Ok((value, next)) if !is_own && slot.take_over(key, next) => Ok(value),
                Ok(_) => continue,
            };
            return Updated { result, overflow: false };
        }
    }

    /// A bucket's time.
    pub(super) fn time(&self, key: u64, now: u64) -> u64 {
        match self.lookup(key, now) {
            Lookup::Found(slot) => slot.seen,
            Lookup::Free(_) | Lookup::Unmade(_) => 0,
            Lookup::Busy | Lookup::Full => self.overflow.load(Acquire),
        }
    }

    /// The memory that the table takes, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let made = self.pages.iter().filter(|page| page.get().is_some()).count();
        size_of_val(&*self.pages) + made * size_of::<Page>()
    }

    fn lookup(&self, key: u64, now: u64) -> Lookup<'_> {
        let places = self.places_of(key);
        let made = || places.iter().filter_map(|(page, at)| page.get()?.get(*at));
        for set in made() {
            for (slot, time) in set.keys.iter().zip(&set.times) {
                if slot.load(Acquire) != key {
                    continue;
                }
                let seen = time.load(Acquire);
                if seen == CLAIMED {
                    return Lookup::Busy;
                }
                // The time is this key's only if the key is still there after it was read.
                if slot.load(Acquire) == key {
                    return Lookup::Found(TableSlot { key: slot, time, seen });
                }
            }
        }
        // The set with more free slots is better: so even a nearly full table has free slots. A page is
        // made only for a key that finds no other free slot.
        let unmade = places.iter().find(|(page, _)| page.get().is_none());
        let (mut most_free, mut best) =
            (0, unmade.map_or(Lookup::Full, |(page, _)| Lookup::Unmade(page)));
        for set in made() {
            let (mut count, mut first) = (0, None);
            for (key, time) in set.keys.iter().zip(&set.times) {
                match time.load(Acquire) {
                    // It may be claimed for this very key.
                    CLAIMED => return Lookup::Busy,
                    seen if seen <= now => {
                        count += 1;
                        first = first.or(Some(TableSlot { key, time, seen }));
                    }
                    _ => {}
                }
            }
            if let Some(slot) = first.filter(|_| count > most_free) {
                (most_free, best) = (count, Lookup::Free(slot));
            }
        }
        best
    }

    /// The two sets that a key may be in, each as a page and a place in it.
    fn places_of(&self, key: u64) -> [(&OnceLock<Box<Page>>, usize); 2] {
        let at = |bits: u64| {
            // The high half of the product is a number below the number of sets.
            let at = ((u128::from(bits) * self.sets as u128) >> 64) as usize;
            (&self.pages[at / SETS], at % SETS)
        };
        [at(key), at(key.rotate_left(32))]
    }
}

impl TableSlot<'_> {
    /// Sets the key's time. Returns `false` if the slot has changed.
    fn set(&self, next: u64) -> bool {
        self.time.compare_exchange(self.seen, next, AcqRel, Relaxed).is_ok()
    }

    /// Replaces the key. Returns `false` if the slot has changed.
    fn take_over(&self, key: u64, next: u64) -> bool {
        if self.time.compare_exchange(self.seen, CLAIMED, AcqRel, Relaxed).is_err() {
            return false;
        }
        self.key.store(key, Release);
        self.time.store(next, Release);
        true
    }
}

fn exchange<T, E>(time: &AtomicU64, change: impl Fn(u64) -> Result<(T, u64), E>) -> Result<T, E> {
    let mut seen = time.load(Acquire);
    loop {
        let (value, next) = change(seen)?;
        match time.compare_exchange_weak(seen, next, AcqRel, Acquire) {
            Ok(_) => return Ok(value),
            Err(other) => seen = other,
        }
    }
}

#[cfg(test)]
mod tests;
