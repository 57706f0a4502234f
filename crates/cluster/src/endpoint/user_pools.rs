//! How many connections of an endpoint the operations of each user share.

use super::{
    metrics::EndpointMetrics,
    pool_counts::{PoolCounts, PoolReport},
};
use metrics::Gauge;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// How many users are counted apart; all others are counted together.
const MAX_USERS: usize = 100;

/// The name of all other users.
const OTHER: &str = "other";

/// The connections of one user, over all workers.
pub(crate) struct UserPool {
    counts: PoolCounts,
    /// In the order of [`PoolReport::values`].
    gauges: [Gauge; 5],
}

/// The pooled connections of an endpoint by user; those without a user have an empty name.
#[derive(Debug, Default)]
pub(super) struct UserPools(Mutex<BTreeMap<Arc<str>, Arc<UserPool>>>);

impl fmt::Debug for UserPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)
    }
}

impl UserPool {
    /// Counts what has changed in one worker's pool.
    pub(crate) fn add_change(&self, before: PoolReport, now: PoolReport) {
        self.counts.add_change(before, now, &self.gauges);
    }
}

impl UserPools {
    /// The connections of a user.
    pub(super) fn of(&self, user: &str, metrics: &EndpointMetrics) -> Arc<UserPool> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shown = pools.len() < MAX_USERS || pools.contains_key(user);
        let user = if is_shown { user } else { OTHER };
        if let Some(pool) = pools.get(user) {
            return Arc::clone(pool);
        }
        let pool = UserPool { counts: PoolCounts::default(), gauges: metrics.pool(user) };
        let pool = Arc::new(pool);
        pools.insert(user.into(), Arc::clone(&pool));
        pool
    }

    /// The sums over all users.
    pub(super) fn total(&self) -> PoolReport {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.values().fold(PoolReport::default(), |sum, pool| sum + pool.counts.report())
    }

    /// The users with connections, or with operations that wait for one.
    pub(super) fn users(&self) -> Vec<(Arc<str>, PoolReport)> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = pools.iter().filter(|(user, _)| !user.is_empty());
        let rows = named.map(|(user, pool)| (Arc::clone(user), pool.counts.report()));
        rows.filter(|(_, report)| *report != PoolReport::default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_metrics::Metrics;

    #[test]
    fn users_are_counted_apart_up_to_a_bound() {
        let metrics = EndpointMetrics::new(&"db".into(), "db:1".into(), true, &Metrics::new());
        let pools = UserPools::default();
        let one = PoolReport { idle: 1, ..PoolReport::default() };
        for number in 0..MAX_USERS + 20 {
            let user = pools.of(&format!("user{number}@admin"), &metrics);
            user.add_change(PoolReport::default(), one);
        }
        let users = pools.users();
        assert_eq!(users.len(), MAX_USERS + 1);
        assert_eq!(users.iter().find(|(user, _)| &**user == OTHER).unwrap().1.idle, 20);
        assert_eq!(pools.total().idle, MAX_USERS + 20);
        pools.of("user0@admin", &metrics).add_change(one, PoolReport::default());
        assert_eq!(pools.users().len(), MAX_USERS, "without connections it is not shown");
    }
}
