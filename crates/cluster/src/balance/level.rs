//! The endpoints of one priority: which can be picked, in which zone first, and whether health
//! counts at all.

use super::{
    LbState,
    pool::{Candidate, Pool},
    random::random,
    shares::{self, UsableCount},
};
use crate::{
    Endpoint, PickOptions,
    plan::{ClusterPlan, OnPanic, PanicPlan},
};
use std::sync::Arc;

/// Panic threshold: the share of usable endpoints in percent below which a level panics by default,
/// with at least `PANIC_MIN` endpoints.
const PANIC_THRESHOLD: u8 = 50;
/// Levels with fewer endpoints panic when none is usable.
const PANIC_MIN: usize = 6;

/// The endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: u8,
    pub(super) count: UsableCount,
    /// Too few are usable: health is ignored, or picks fail.
    pub(super) panics: bool,
    /// It panics, and the plan prefers failing.
    pub(super) refuses: bool,
    /// The local zone comes first. Each with its share of the level's picks, in percent.
    pools: Vec<(u32, Pool)>,
}

impl Level {
    /// The level of these candidates.
    ///
    /// In panic zones are ignored, since the local one may be what failed. They are also ignored
    /// for policies that pick by key, as in Envoy: a key has one endpoint, whichever proxy asks.
    pub(super) fn new(
        plan: &ClusterPlan,
        priority: u8,
        members: &[Candidate],
        panics: bool,
    ) -> Self {
        let refuses = panics && plan.panic.on_panic == OnPanic::Fail;
        let pool = |takes: &dyn Fn(&Candidate) -> bool| {
            let taken = members.iter().filter(|c| (c.usable || panics) && takes(c)).cloned();
            // In panic slow start would shift load to unhealthy endpoints.
            let warmth =
                |c: Candidate| Candidate { warmth: if panics { 1.0 } else { c.warmth }, ..c };
            Pool::new(plan, taken.map(warmth).collect())
        };
        let near = |c: &Candidate| plan.zone.is_some() && c.zone == plan.zone;
        let [local, remote] =
            [true, false].map(|side| count(members.iter().filter(|c| near(c) == side)));
        let pools = if refuses {
            Vec::new()
        } else if local.all == 0 || panics || plan.lb_policy.picks_by_key() {
            vec![(100, pool(&|_| true))]
        } else {
            let shares = shares::by_health(&[local, remote]);
            vec![(shares[0], pool(&near)), (shares[1], pool(&|c| !near(c)))]
        };
        Self { priority, count: count(members.iter()), panics, refuses, pools }
    }

    /// One of its endpoints that is not excluded.
    pub(super) fn pick(&self, options: PickOptions<'_>, state: &LbState) -> Option<&Arc<Endpoint>> {
        shares::in_order(&self.pools, random).find_map(|pool| pool.pick(options, state))
    }
}

/// How many of these are usable.
pub(super) fn count<'a>(members: impl Iterator<Item = &'a Candidate>) -> UsableCount {
    UsableCount::of(members.map(|c| c.usable))
}

/// Whether so few are usable that their health is ignored.
pub(super) fn panics(plan: PanicPlan, count: UsableCount) -> bool {
    match plan.threshold {
        None if count.all < PANIC_MIN => count.usable == 0,
        threshold => {
            100 * count.usable < usize::from(threshold.unwrap_or(PANIC_THRESHOLD)) * count.all
        }
    }
}
