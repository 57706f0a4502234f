//! A table of arrival times by key: of fixed size, without locks, shared by all workers.
//!
//! A bucket is one number, the time at which it is full again (GCRA's *theoretical arrival time*).
//! While that time is in the future its key stays, so a flood of other keys can't evict a key that
//! is over its limit. Once it is past, evicting the key changes nothing, and its place is free. A
//! key that finds no free place shares the *overflow* bucket with all others like it.
//!
//! A key may be in either of two sets of places. A place's time only ever grows, also when the
//! place goes to another key; so a thread that read a key and a time, and then exchanges exactly
//! this time, changes the bucket that it meant. Between a key's last moment and its successor's
//! first the time reads [`CLAIMED`].

use governor::nanos::Nanos;
use std::{
    hint,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

/// How many places a set has: their keys fill a cache line.
const PLACES: usize = 8;

/// The time of a place that is on its way from one key to another.
const CLAIMED: u64 = u64::MAX;

/// The latest time there is.
const LATEST: u64 = CLAIMED - 1;

/// How often a claimed place is read again. The claiming thread has two stores left to do; if it
/// takes longer it was descheduled, and the reader does not wait for it.
const PATIENCE: u32 = 1000;

/// Arrival times by key, in nanoseconds. A key that is not there has the time 0.
#[derive(Debug)]
pub(super) struct ArrivalTable {
    sets: Box<[Set]>,
    overflow: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    keys: [AtomicU64; PLACES],
    times: [AtomicU64; PLACES],
}

/// Where a key is, or may be put.
enum Lookup<'a> {
    /// This is its place.
    Own(TableSlot<'a>),
    /// This place's bucket is full, so it may be taken over.
    Free(TableSlot<'a>),
    /// A slot here is being taken over by another thread.
    Busy,
    /// There is no room.
    Crowded,
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
    /// Room for `most` keys, and half as many again, so that no set fills up before the table.
    pub(super) fn new(most: usize) -> Self {
        let sets = (most + most / 2).div_ceil(PLACES).max(1);
        let sets = std::iter::repeat_with(Set::default).take(sets).collect();
        Self { sets, overflow: AtomicU64::new(0) }
    }

    /// Changes a bucket's time to what `change` makes of it, unless that fails. It may be asked
    /// several times, and never answers an earlier time than it is given.
    pub(super) fn update<T, E>(
        &self,
        key: u64,
        now: u64,
        change: impl Fn(u64) -> Result<(T, Nanos), E>,
    ) -> Updated<Result<T, E>> {
        let change = |time| change(time).map(|(told, next)| (told, next.as_u64().min(LATEST)));
        let mut patience = PATIENCE;
        loop {
            let (place, own) = match self.spot(key, now) {
                Lookup::Own(place) => (place, true),
                Lookup::Free(place) => (place, false),
                Lookup::Busy if patience > 0 => {
                    patience -= 1;
                    hint::spin_loop();
                    continue;
                }
                Lookup::Busy | Lookup::Crowded => {
                    return Updated { result: exchange(&self.overflow, change), overflow: true };
                }
            };
            let result = match change(if own { place.seen } else { 0 }) {
                Err(error) => Err(error),
                Ok((told, next)) if own && place.set(next) => Ok(told),
                Ok((told, next)) if !own && place.take_over(key, next) => Ok(told),
                Ok(_) => continue,
            };
            return Updated { result, overflow: false };
        }
    }

    /// A bucket's time.
    pub(super) fn time(&self, key: u64, now: u64) -> u64 {
        match self.spot(key, now) {
            Lookup::Own(place) => place.seen,
            Lookup::Free(_) => 0,
            Lookup::Busy | Lookup::Crowded => self.overflow.load(Acquire),
        }
    }

    fn spot(&self, key: u64, now: u64) -> Lookup<'_> {
        let sets = self.sets_of(key);
        for set in sets {
            for (place, time) in set.keys.iter().zip(&set.times) {
                if place.load(Acquire) != key {
                    continue;
                }
                let seen = time.load(Acquire);
                if seen == CLAIMED {
                    return Lookup::Busy;
                }
                // The time is this key's only if the key is still there after it was read.
                if place.load(Acquire) == key {
                    return Lookup::Own(TableSlot { key: place, time, seen });
                }
            }
        }
        // The emptier set is the better one: so even a table that is nearly full has room.
        let (mut most, mut best) = (0, Lookup::Crowded);
        for set in sets {
            let (mut count, mut first) = (0, None);
            for (key, time) in set.keys.iter().zip(&set.times) {
                match time.load(Acquire) {
                    // Perhaps it is for this very key.
                    CLAIMED => return Lookup::Busy,
                    seen if seen <= now => {
                        count += 1;
                        first = first.or(Some(TableSlot { key, time, seen }));
                    }
                    _ => {}
                }
            }
            if let Some(place) = first.filter(|_| count > most) {
                (most, best) = (count, Lookup::Free(place));
            }
        }
        best
    }

    /// The two sets that a key may be in.
    fn sets_of(&self, key: u64) -> [&Set; 2] {
        let at = |bits: u64| {
            // The high half of the product is a number below the length.
            let at = (u128::from(bits) * self.sets.len() as u128) >> 64;
            &self.sets[at as usize]
        };
        [at(key), at(key.rotate_left(32))]
    }
}

impl TableSlot<'_> {
    /// Changes the time of the key that is here.
    fn set(&self, next: u64) -> bool {
        self.time.compare_exchange(self.seen, next, AcqRel, Relaxed).is_ok()
    }

    /// Puts another key here.
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
        let (told, next) = change(seen)?;
        match time.compare_exchange_weak(seen, next, AcqRel, Acquire) {
            Ok(_) => return Ok(told),
            Err(other) => seen = other,
        }
    }
}

#[cfg(test)]
mod tests;
