//! A pool: endpoints that are picked side by side, by weight.

use super::{
    LbState,
    maglev::Maglev,
    random::{below, mixed},
    ring::Ring,
    weights::Weights,
};
use crate::{
    Endpoint, PickOptions,
    plan::{ClusterPlan, LbPolicy},
};
use std::sync::Arc;

/// How many weighted draws are tried to avoid excluded endpoints, and how many endpoints are
/// examined if one is overloaded. After that, endpoints are taken in order.
pub(super) const MAX_DRAWS: usize = 16;

/// Endpoints that are picked side by side.
#[derive(Debug)]
pub(super) struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    weights: Weights,
    picker: Picker,
}

#[derive(Debug)]
enum Picker {
    RoundRobin,
    LeastRequest,
    Random,
    Hash {
        places: HashTable,
        /// The most that an endpoint may be loaded, in percent of the mean.
        bound: Option<u32>,
    },
}

/// Which endpoint a key belongs to.
#[derive(Debug)]
enum HashTable {
    Ring(Ring),
    Maglev(Maglev),
}

impl Pool {
    /// A pool of these endpoints.
    pub(super) fn new(plan: &ClusterPlan, candidates: Vec<Candidate>) -> Self {
        let places = |make: fn(&[(String, u32)], u32) -> HashTable| {
            let written = |c: &Candidate| (c.endpoint.address().to_string(), c.weight.max(1));
            let named: Vec<_> = candidates.iter().map(written).collect();
            let places = make(&named, plan.hash.ring_size);
            Picker::Hash { places, bound: plan.hash.bounded_load }
        };
        let policy = match plan.lb_policy {
            LbPolicy::RoundRobin => Picker::RoundRobin,
            LbPolicy::LeastRequest => Picker::LeastRequest,
            LbPolicy::Random => Picker::Random,
            LbPolicy::RingHash => places(|named, size| HashTable::Ring(Ring::new(named, size))),
            LbPolicy::Maglev => places(|named, _| HashTable::Maglev(Maglev::new(named))),
        };
        let weights: Vec<u64> = candidates.iter().map(Candidate::effective_weight).collect();
        let endpoints = candidates.into_iter().map(|c| c.endpoint).collect();
        Self { endpoints, weights: Weights::new(&weights), picker: policy }
    }

    /// One endpoint that is not excluded. Examines a few dozen endpoints at most, and finds each in
    /// logarithmic time.
    pub(super) fn pick(&self, options: PickOptions<'_>, state: &LbState) -> Option<&Arc<Endpoint>> {
        if self.endpoints.is_empty() {
            return None;
        }
        let index = match &self.picker {
            // A retry takes no turn: otherwise a failing endpoint could be the first for every
            // client, and the one after it the second for all.
            Picker::RoundRobin if options.exclude.is_empty() => {
                Some(self.weights.owner(self.weights.place_of_turn(state.next())))
            }
            Picker::LeastRequest => self.least_loaded_of_two(options),
            Picker::RoundRobin | Picker::Random => self.at_random(options),
            Picker::Hash { places, bound } => match options.hash {
                Some(key) => self.by_key(places, *bound, key, options, state),
                None => self.at_random(options),
            },
        };
        index.and_then(|index| self.endpoints.get(index))
    }

    fn at_random(&self, options: PickOptions<'_>) -> Option<usize> {
        self.draw(options, || below(self.weights.total()))
    }

    /// Draws owners until one is not excluded.
    fn draw(&self, options: PickOptions<'_>, place: impl Fn() -> u32) -> Option<usize> {
        let mut owners = (0..MAX_DRAWS).map(|_| self.weights.owner(place()));
        owners.find(|&index| self.is_allowed(index, options)).or_else(|| {
            // Nearly all weight is excluded: the rest share equally.
            self.in_order(below(self.endpoints.len() as u32) as usize, options)
        })
    }

    /// The first from `start` on that is not excluded. Only those in `options.exclude` are, so this
    /// ends soon unless all are.
    fn in_order(&self, start: usize, options: PickOptions<'_>) -> Option<usize> {
        let count = self.endpoints.len();
        let next = (0..count.min(options.exclude.len() + 1)).map(|step| (start + step) % count);
        next.into_iter().find(|&index| self.is_allowed(index, options))
    }

    /// Draws two by weight, and returns the one that another operation would load less for its
    /// weight. If both are idle it is the first, so that weights hold under little load.
    fn least_loaded_of_two(&self, options: PickOptions<'_>) -> Option<usize> {
        let first = self.at_random(options)?;
        let Some(second) = self.other_than(first, options) else { return Some(first) };
        let (a, b) = (self.endpoints[first].load() as u64, self.endpoints[second].load() as u64);
        // a / w(a) ≤ b / w(b), without division.
        let strain =
            |load: u64, beside: usize| u128::from(load + 1) * u128::from(self.weights.of(beside));
        match (a, b) == (0, 0) || strain(a, second) <= strain(b, first) {
            true => Some(first),
            false => Some(second),
        }
    }

    /// One drawn by weight from all but `first`, whose share is skipped.
    fn other_than(&self, first: usize, options: PickOptions<'_>) -> Option<usize> {
        let (start, width) = (self.weights.start(first), self.weights.of(first));
        let others = self.weights.total() - width;
        if others == 0 {
            return None;
        }
        let place = || match below(others) {
            before if before < start => before,
            behind => behind + width,
        };
        self.draw(options, place)
    }

    /// The key's own endpoint, or the key's next one that is not excluded; or another one if that
    /// is overloaded.
    fn by_key(
        &self,
        places: &HashTable,
        bound: Option<u32>,
        key: u64,
        options: PickOptions<'_>,
        state: &LbState,
    ) -> Option<usize> {
        let owner = |nth| match places {
            HashTable::Ring(ring) => ring.owner(key, nth),
            HashTable::Maglev(table) => table.owner(key, nth),
        };
        let own = (0..MAX_DRAWS).map(owner).find(|&index| self.is_allowed(index, options));
        let picked = own.or_else(|| self.in_order(self.fallback_index(key), options))?;
        match bound {
            None => Some(picked),
            Some(percent) => Some(self.bounded(picked, percent, key, options, state)),
        }
    }

    /// `owner`, or if that exceeds its bound (as in Envoy), one that does not.
    ///
    /// The search starts at a place derived from the key, so that the overflow of one endpoint does
    /// not all go to the next (Chen et al. 2019). Envoy searches all endpoints; here the least
    /// loaded of some is good enough.
    fn bounded(
        &self,
        owner: usize,
        percent: u32,
        key: u64,
        options: PickOptions<'_>,
        state: &LbState,
    ) -> usize {
        let slots = ((state.load() as u64 + 1) * u64::from(percent)).div_ceil(100) as f64;
        let strain = |index: usize| {
            let share = f64::from(self.weights.of(index)) / f64::from(self.weights.total());
            self.endpoints[index].load() as f64 / (slots * share).ceil().max(1.0)
        };
        let (mut least, mut best) = (strain(owner), owner);
        let (count, start) = (self.endpoints.len(), self.fallback_index(key));
        for index in (0..count.min(MAX_DRAWS)).map(|step| (start + step) % count) {
            if least <= 1.0 {
                break;
            }
            if index != owner && self.is_allowed(index, options) && strain(index) < least {
                (least, best) = (strain(index), index);
            }
        }
        best
    }

    /// Where the search for a key's substitute starts: the same for the same key.
    fn fallback_index(&self, key: u64) -> usize {
        (mixed(key) % self.endpoints.len() as u64) as usize
    }

    /// Whether a candidate is not excluded.
    fn is_allowed(&self, index: usize, options: PickOptions<'_>) -> bool {
        #[cfg(test)]
        LOOKS.set(LOOKS.get() + 1);
        !options.exclude.iter().any(|except| Arc::ptr_eq(except, &self.endpoints[index]))
    }
}

#[cfg(test)]
thread_local! {
    /// How many candidates this thread has examined.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// An endpoint that may be picked.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) usable: bool,
    pub(super) zone: Option<Arc<str>>,
    pub(super) weight: u32,
    /// Which part of its weight counts: 1, or less during slow start.
    pub(super) warmth: f64,
}

impl Candidate {
    /// Its weight in thousandths, so that the smallest weights have steps in slow start.
    fn effective_weight(&self) -> u64 {
        (f64::from(self.weight) * self.warmth * 1000.0).round() as u64
    }
}
