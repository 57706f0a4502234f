//! Endpoints that are picked from side by side, by weight.

use super::{
    Turns,
    maglev::Maglev,
    random::{below, mixed},
    ring::Ring,
    weights::Weights,
};
use crate::{
    cluster::{Ask, Endpoint},
    config::plan::{ClusterPlan, LbPolicy},
};
use std::sync::Arc;

/// How often a weighted draw that meets an endpoint left out is made again, and how many are
/// looked at when an endpoint is loaded too much. After that, endpoints are taken in order.
pub(super) const DRAWS: usize = 16;

/// Endpoints that are picked from side by side.
#[derive(Debug)]
pub(super) struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    weights: Weights,
    policy: Policy,
}

#[derive(Debug)]
enum Policy {
    RoundRobin,
    LeastRequest,
    Random,
    Hash {
        places: Places,
        /// The most that an endpoint may be loaded beside the mean, in percent.
        bound: Option<u32>,
    },
}

/// Which endpoint a key belongs to.
#[derive(Debug)]
enum Places {
    Ring(Ring),
    Maglev(Maglev),
}

impl Pool {
    /// A pool of these endpoints.
    pub(super) fn new(plan: &ClusterPlan, candidates: Vec<Candidate>) -> Self {
        let places = |make: fn(&[(String, u32)], u32) -> Places| {
            let written = |c: &Candidate| (c.endpoint.address().to_string(), c.weight.max(1));
            let named: Vec<_> = candidates.iter().map(written).collect();
            let places = make(&named, plan.hash.ring_size);
            Policy::Hash { places, bound: plan.hash.bounded_load }
        };
        let policy = match plan.lb_policy {
            LbPolicy::RoundRobin => Policy::RoundRobin,
            LbPolicy::LeastRequest => Policy::LeastRequest,
            LbPolicy::Random => Policy::Random,
            LbPolicy::RingHash => places(|named, size| Places::Ring(Ring::new(named, size))),
            LbPolicy::Maglev => places(|named, _| Places::Maglev(Maglev::new(named))),
        };
        let weights: Vec<u64> = candidates.iter().map(Candidate::warmed).collect();
        let endpoints = candidates.into_iter().map(|c| c.endpoint).collect();
        Self { endpoints, weights: Weights::new(&weights), policy }
    }

    /// One of them that is not to be left out. Looks at no more than some dozens of endpoints,
    /// however many there are, and finds one's place in no more steps than their number has bits.
    pub(super) fn pick(&self, ask: Ask<'_>, turns: &Turns) -> Option<&Arc<Endpoint>> {
        if self.endpoints.is_empty() {
            return None;
        }
        let index = match &self.policy {
            // A second attempt takes no turn: else an endpoint that fails might be the first one
            // for every client, and the one after it the second for all.
            Policy::RoundRobin if ask.except.is_empty() => {
                Some(self.weights.owner(self.weights.place_of_turn(turns.next())))
            }
            Policy::LeastRequest => self.less_busy(ask),
            Policy::RoundRobin | Policy::Random => self.at_random(ask),
            Policy::Hash { places, bound } => match ask.hash {
                Some(key) => self.by_key(places, *bound, key, ask, turns),
                None => self.at_random(ask),
            },
        };
        index.and_then(|index| self.endpoints.get(index))
    }

    fn at_random(&self, ask: Ask<'_>) -> Option<usize> {
        self.draw(ask, || below(self.weights.total()))
    }

    /// The owner of a place drawn, until it is one that is not left out.
    fn draw(&self, ask: Ask<'_>, place: impl Fn() -> u32) -> Option<usize> {
        let mut owners = (0..DRAWS).map(|_| self.weights.owner(place()));
        owners.find(|&index| self.allowed(index, ask)).or_else(|| {
            // Nearly all weight is left out: the rest share alike.
            self.in_order(below(self.endpoints.len() as u32) as usize, ask)
        })
    }

    /// The first one from `start` on that is not left out. As only those of `ask.except` are,
    /// that is soon, unless they are all.
    fn in_order(&self, start: usize, ask: Ask<'_>) -> Option<usize> {
        let count = self.endpoints.len();
        let next = (0..count.min(ask.except.len() + 1)).map(|step| (start + step) % count);
        next.into_iter().find(|&index| self.allowed(index, ask))
    }

    /// Of two drawn by weight, the one that an operation more would load less for its weight.
    /// Where both are idle it is the first, so that weights hold even if there is little to do.
    fn less_busy(&self, ask: Ask<'_>) -> Option<usize> {
        let first = self.at_random(ask)?;
        let Some(second) = self.other_than(first, ask) else { return Some(first) };
        let (a, b) = (self.endpoints[first].load() as u64, self.endpoints[second].load() as u64);
        // a / w(a) ≤ b / w(b), without division.
        let strain =
            |load: u64, beside: usize| u128::from(load + 1) * u128::from(self.weights.of(beside));
        match (a, b) == (0, 0) || strain(a, second) <= strain(b, first) {
            true => Some(first),
            false => Some(second),
        }
    }

    /// One drawn by weight from all but `first`: its places are skipped.
    fn other_than(&self, first: usize, ask: Ask<'_>) -> Option<usize> {
        let (start, width) = (self.weights.start(first), self.weights.of(first));
        let others = self.weights.total() - width;
        if others == 0 {
            return None;
        }
        let place = || match below(others) {
            before if before < start => before,
            behind => behind + width,
        };
        self.draw(ask, place)
    }

    /// The key's own endpoint, or the next for the key that is not left out; or, where that one
    /// has too much to do, another.
    fn by_key(
        &self,
        places: &Places,
        bound: Option<u32>,
        key: u64,
        ask: Ask<'_>,
        turns: &Turns,
    ) -> Option<usize> {
        let owner = |nth| match places {
            Places::Ring(ring) => ring.owner(key, nth),
            Places::Maglev(table) => table.owner(key, nth),
        };
        let own = (0..DRAWS).map(owner).find(|&index| self.allowed(index, ask));
        let own = own.or_else(|| self.in_order(self.jump(key), ask))?;
        match bound {
            None => Some(own),
            Some(percent) => Some(self.bounded(own, percent, key, ask, turns)),
        }
    }

    /// `own`, or if that is loaded over its bound (as Envoy has it), one that is not.
    ///
    /// The search begins where the key says, at random, so that what is too much for one
    /// endpoint does not all fall on the next (Chen et al. 2019). Envoy goes on through all
    /// endpoints; here the least strained of some is good enough.
    fn bounded(&self, own: usize, percent: u32, key: u64, ask: Ask<'_>, turns: &Turns) -> usize {
        let slots = ((turns.load() as u64 + 1) * u64::from(percent)).div_ceil(100) as f64;
        let strain = |index: usize| {
            let share = f64::from(self.weights.of(index)) / f64::from(self.weights.total());
            self.endpoints[index].load() as f64 / (slots * share).ceil().max(1.0)
        };
        let (mut least, mut best) = (strain(own), own);
        let (count, start) = (self.endpoints.len(), self.jump(key));
        for index in (0..count.min(DRAWS)).map(|step| (start + step) % count) {
            if least <= 1.0 {
                break;
            }
            if index != own && self.allowed(index, ask) && strain(index) < least {
                (least, best) = (strain(index), index);
            }
        }
        best
    }

    /// Where a key goes that can't stay where it belongs: the same for the same key.
    fn jump(&self, key: u64) -> usize {
        (mixed(key) % self.endpoints.len() as u64) as usize
    }

    /// Looks at a candidate: whether it is not to be left out.
    fn allowed(&self, index: usize, ask: Ask<'_>) -> bool {
        #[cfg(test)]
        LOOKS.set(LOOKS.get() + 1);
        !ask.except.iter().any(|except| Arc::ptr_eq(except, &self.endpoints[index]))
    }
}

#[cfg(test)]
thread_local! {
    /// How many candidates this thread has looked at.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// An endpoint that may be picked.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) usable: bool,
    pub(super) zone: Option<Arc<str>>,
    pub(super) weight: u32,
    /// How much of its weight counts: 1, or less while it warms up.
    pub(super) warmth: f64,
}

impl Candidate {
    /// Its weight in thousandths, so that there are steps between the smallest weights.
    fn warmed(&self) -> u64 {
        (f64::from(self.weight) * self.warmth * 1000.0).round() as u64
    }
}
