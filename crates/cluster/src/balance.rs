//! Load balancing: which endpoint is next.
//!
//! Everything is computed when a set is built ([`PickTable::new`]), so that a pick only reads: a
//! level by its share ([`level`]), in it a pool ([`pool`]) by zone, in it an endpoint by the
//! policy.

mod level;
mod maglev;
mod pool;
mod random;
mod ring;
mod shares;
mod slow_start;
mod weights;

pub(super) use random::{below, share};

use super::{Cluster, Endpoint, Exclusion, PickOptions, set::Member};
use crate::plan::ClusterPlan;
use level::{Level, count};
use pool::Candidate;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use twox_hash::XxHash64;

/// Load-balancing state that survives changes of the set.
#[derive(Debug)]
pub(super) struct LbState {
    next_turn: AtomicUsize,
    /// Whether `load` is kept: only for bounded load, to spare workers a contended counter.
    counts_load: AtomicBool,
    /// The load of all endpoints together, in units of [`Endpoint::load`].
    load: AtomicUsize,
}

impl LbState {
    pub(super) fn new(plan: &ClusterPlan) -> Self {
        Self {
            next_turn: AtomicUsize::new(random::below(1 << 16) as usize),
            counts_load: AtomicBool::new(counts_load(plan)),
            load: AtomicUsize::new(0),
        }
    }

    /// The plan was replaced; `load` is what the endpoints have now.
    pub(super) fn set_plan(&self, plan: &ClusterPlan, load: usize) {
        let counts = counts_load(plan);
        if self.counts_load.swap(counts, Relaxed) != counts {
            self.load.store(load, Relaxed);
        }
    }

    pub(super) fn add_load(&self) {
        if self.counts_load.load(Relaxed) {
            self.load.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn remove_load(&self) {
        if self.counts_load.load(Relaxed) {
            // What began while load was not counted may end now.
            let _ = self.load.fetch_update(Relaxed, Relaxed, |load| load.checked_sub(1));
        }
    }

    fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    fn next(&self) -> usize {
        self.next_turn.fetch_add(1, Relaxed)
    }
}

/// What picks read: computed once for each set.
#[derive(Debug)]
pub(super) struct PickTable {
    /// By priority, each with its share of the picks in percent.
    levels: Vec<(u32, Level)>,
    by_key: bool,
    refresh_at: Option<Instant>,
}

impl PickTable {
    /// The table for these members at `now`.
    pub(super) fn new(plan: &ClusterPlan, members: &[Member], now: Instant) -> Self {
        let mut priorities: BTreeMap<u8, Vec<Candidate>> = BTreeMap::new();
        for member in members {
            let candidate = candidate(plan, member, now);
            // Drained and removed endpoints do not count: the operator knows what the others can
            // carry.
            if !member.endpoint.is_excluded(Exclusion::Drained)
                && !member.endpoint.is_excluded(Exclusion::Removed)
            {
                priorities.entry(member.priority).or_default().push(candidate);
            }
        }
        let warming = priorities.values().flatten().any(|c| c.warmth < 1.0);
        Self {
            levels: levels(plan, &priorities),
            by_key: plan.lb_policy.picks_by_key(),
            refresh_at: warming.then(|| now + slow_start::STEP),
        }
    }

    /// The next endpoint; `None` if none is left, or if the plan prefers failing to panic.
    ///
    /// If all of a level's endpoints are excluded, the other levels are tried.
    pub(super) fn pick(&self, options: PickOptions<'_>, state: &LbState) -> Option<&Arc<Endpoint>> {
        let by = || options.hash.filter(|_| self.by_key).unwrap_or_else(random::random);
        let mut levels = shares::in_order(&self.levels, by).peekable();
        if levels.peek()?.refuses {
            return None;
        }
        levels.find_map(|level| level.pick(options, state))
    }

    /// Whether picks go to a level with too few usable endpoints.
    pub(super) fn panics(&self) -> bool {
        self.levels.iter().any(|(_, level)| level.panics)
    }

    /// How many endpoints are usable, as text: `2 of 6 endpoints are usable`.
    pub(super) fn describe(&self) -> String {
        let words = |(_, level): &(u32, Level)| {
            let shares::UsableCount { usable, all } = level.count;
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

    /// When to rebuild the table because an endpoint is in slow start.
    pub(super) fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }
}

/// The pick candidate for a member at `now`.
fn candidate(plan: &ClusterPlan, member: &Member, now: Instant) -> Candidate {
    let used = member.endpoint.usable_for(now);
    let warmth = match (slow_start::plan(plan), used) {
        (Some(plan), Some(used)) => slow_start::warmth(plan, used),
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

/// The levels with their shares, by Envoy's rules: a level panics only if all levels together
/// cannot carry the picks; if all panic, they share by size.
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
        // A level without a share is a fallback for when all others were tried, with its usable
        // endpoints.
        (share, Level::new(plan, priority, members, panics && share > 0))
    };
    priorities.iter().zip(shares.into_iter().zip(panics)).map(level).collect()
}

/// The hash of a key that decides which endpoint it belongs to: xxHash64 without a seed, as in
/// Envoy.
/// Whether picks depend on the load of all endpoints together.
fn counts_load(plan: &ClusterPlan) -> bool {
    plan.lb_policy.picks_by_key() && plan.hash.bounded_load.is_some()
}

fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

impl Cluster {
    /// The hash of a client's key, for policies that pick by key: xxHash64, as in Envoy.
    pub fn hash(key: &[u8]) -> u64 {
        hash(key)
    }

    /// The hash of a client's address, if the cluster picks by key.
    pub fn hash_client(&self, client: std::net::IpAddr) -> Option<u64> {
        self.picks_by_key().then(|| Self::hash(client.to_string().as_bytes()))
    }

    /// Whether endpoints are picked by key.
    pub fn picks_by_key(&self) -> bool {
        self.plan().lb_policy.picks_by_key()
    }
}

#[cfg(test)]
mod tests;
