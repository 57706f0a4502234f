//! Which endpoint is next.
//!
//! Everything is worked out when a set is made ([`Table::new`]), so that a pick reads it and no
//! more: a level by its share ([`level`]), in it a pool ([`pool`]) by zone, in it an endpoint by
//! the policy.

mod level;
mod maglev;
mod pool;
mod random;
mod ring;
mod shares;
mod warming;
mod weights;

pub(super) use random::share;

use super::{Ask, Cluster, Endpoint, Out, set::Member};
use crate::config::plan::ClusterPlan;
use level::{Level, count};
use pool::Candidate;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use twox_hash::XxHash64;

/// What picking remembers from one pick to the next, whatever becomes of the set.
#[derive(Debug)]
pub(super) struct Turns {
    turn: AtomicUsize,
    /// What all endpoints have to do together, as [`Endpoint::load`] counts it. Only a bound on
    /// load asks for it, and workers need not fight over a number that no one reads.
    load: Option<AtomicUsize>,
}

impl Turns {
    /// Proxies that start together should not all begin with the first endpoint; and no
    /// beginning is so late that the count wraps around in a proxy's life.
    pub(super) fn new(plan: &ClusterPlan) -> Self {
        let bounded = plan.lb_policy.picks_by_key() && plan.hash.bounded_load.is_some();
        Self {
            turn: AtomicUsize::new(random::below(1 << 16) as usize),
            load: bounded.then(AtomicUsize::default),
        }
    }

    /// An endpoint has one connection or operation more.
    pub(super) fn more(&self) {
        if let Some(load) = &self.load {
            load.fetch_add(1, Relaxed);
        }
    }

    /// …one less.
    pub(super) fn less(&self) {
        if let Some(load) = &self.load {
            load.fetch_sub(1, Relaxed);
        }
    }

    fn load(&self) -> usize {
        self.load.as_ref().map_or(0, |load| load.load(Relaxed))
    }

    fn next(&self) -> usize {
        self.turn.fetch_add(1, Relaxed)
    }
}

/// Which endpoints are picked, and how: worked out once for each set.
#[derive(Debug)]
pub(super) struct Table {
    /// By priority, each with its share of the picks in percent.
    levels: Vec<(u32, Level)>,
    by_key: bool,
    stale: Option<Instant>,
}

impl Table {
    /// The table for these members, as they are `now`.
    pub(super) fn new(plan: &ClusterPlan, members: &[Member], now: Instant) -> Self {
        let mut priorities: BTreeMap<u8, Vec<Candidate>> = BTreeMap::new();
        for member in members {
            let candidate = candidate(plan, member, now);
            // Whoever takes an endpoint away knows what the others can carry: it does not count.
            if !member.endpoint.is_out(Out::Drained) && !member.endpoint.is_out(Out::Removed) {
                priorities.entry(member.priority).or_default().push(candidate);
            }
        }
        let warming = priorities.values().flatten().any(|c| c.warmth < 1.0);
        Self {
            levels: levels(plan, &priorities),
            by_key: plan.lb_policy.picks_by_key(),
            stale: warming.then(|| now + warming::STEP),
        }
    }

    /// The next one; `None` if none is left, or the plan would rather refuse than panic.
    ///
    /// Where all of a level's endpoints are to be left out, the other levels are tried.
    pub(super) fn pick(&self, ask: Ask<'_>, turns: &Turns) -> Option<&Arc<Endpoint>> {
        let by = || ask.hash.filter(|_| self.by_key).unwrap_or_else(random::random);
        let mut levels = shares::in_order(&self.levels, by).peekable();
        if levels.peek()?.refuses {
            return None;
        }
        levels.find_map(|level| level.pick(ask, turns))
    }

    /// Whether picks go to a level where too few endpoints are usable.
    pub(super) fn panics(&self) -> bool {
        self.levels.iter().any(|(_, level)| level.panics)
    }

    /// How many endpoints are usable, in words: `2 of 6 endpoints are usable`.
    pub(super) fn words(&self) -> String {
        let words = |(_, level): &(u32, Level)| {
            let shares::Count { usable, all } = level.count;
            match (self.levels.len(), level.panics) {
                (1, _) => format!("{usable} of {all} endpoints are usable"),
                (_, panics) => format!(
                    "{usable} of {all} endpoints of priority {} are usable{}",
                    level.priority,
                    if panics { " (panic)" } else { "" }
                ),
            }
        };
        match self.levels.is_empty() {
            true => "there is no endpoint".to_owned(),
            false => self.levels.iter().map(words).collect::<Vec<_>>().join(", "),
        }
    }

    /// When the table should be made anew, because an endpoint warms up.
    pub(super) fn stale(&self) -> Option<Instant> {
        self.stale
    }
}

/// What picking knows of a member, as it is `now`.
fn candidate(plan: &ClusterPlan, member: &Member, now: Instant) -> Candidate {
    let used = member.endpoint.used(now);
    let warmth = match (warming::plan(plan), used) {
        (Some(plan), Some(used)) => warming::warmth(plan, used),
        _ => 1.0,
    };
    Candidate {
        endpoint: Arc::clone(&member.endpoint),
        usable: used.is_some(),
        zone: member.zone.clone(),
        weight: member.weight,
        warmth,
    }
}

/// The levels with their shares, by Envoy's rules: a level panics only if all of them together
/// can't carry the picks; and if all panic, they share by size.
fn levels(plan: &ClusterPlan, priorities: &BTreeMap<u8, Vec<Candidate>>) -> Vec<(u32, Level)> {
    let counts: Vec<_> = priorities.values().map(|members| count(members.iter())).collect();
    let overloaded = shares::overloaded(&counts);
    let panics: Vec<bool> =
        counts.iter().map(|&count| overloaded && level::panics(plan.panic, count)).collect();
    let shares = match panics.iter().all(|&panics| panics) {
        true => shares::by_size(&counts),
        false => shares::by_health(&counts),
    };
    let level = |((&priority, members), (share, panics)): ((&u8, &Vec<Candidate>), (u32, bool))| {
        // A level without a share stands by for when all others were tried: with what is usable.
        (share, Level::new(plan, priority, members, panics && share > 0))
    };
    priorities.iter().zip(shares.into_iter().zip(panics)).map(level).collect()
}

/// The hash of a key that decides which endpoint it belongs to: xxHash64 without a seed, as in
/// Envoy.
fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

impl Cluster {
    /// The hash of a client's key, for policies that pick by key: xxHash64, as in Envoy.
    pub fn hash(key: &[u8]) -> u64 {
        hash(key)
    }

    /// Whether it picks by key, and so wants a hash.
    pub fn hash_of(&self, client: std::net::IpAddr) -> Option<u64> {
        self.picks_by_key().then(|| Self::hash(client.to_string().as_bytes()))
    }

    /// Whether endpoints are picked by key.
    pub fn picks_by_key(&self) -> bool {
        self.plan.lb_policy.picks_by_key()
    }
}

#[cfg(test)]
mod tests;
