//! How an endpoint that has come into use comes to its full share.
//!
//! Those that are there when the proxy starts come in together, so none of them is spared at
//! another's cost: shares are relative. Policies that pick by key do not warm up, as keys would
//! move with every step.

use crate::{
    cluster::Cluster,
    config::plan::{ClusterPlan, SlowStartPlan},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// How often the shares of what warms up are worked out anew.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// How an endpoint warms up in this cluster, if it does.
pub(super) fn plan(plan: &ClusterPlan) -> Option<SlowStartPlan> {
    plan.slow_start.filter(|_| !plan.lb_policy.picks_by_key())
}

/// How much of its weight counts, of an endpoint that has been in use for so long: up to 1, which
/// is reached after the window. Envoy's formula.
pub(super) fn warmth(plan: SlowStartPlan, used: Duration) -> f64 {
    if used >= plan.window {
        return 1.0;
    }
    let elapsed = used.as_secs_f64() / plan.window.as_secs_f64();
    let grown = elapsed.powf(1.0 / plan.aggression);
    grown.max(f64::from(plan.min_weight) / 100.0).min(1.0)
}

impl Cluster {
    /// Keeps the shares of endpoints that warm up growing, until dropped. Ends at once if they
    /// have their full share from the beginning.
    pub async fn warm_up(self: Arc<Self>) {
        self.warm_up_by(async |due: Instant| time::sleep_until(due.into()).await).await;
    }

    /// …where `sleep_until` does the waiting.
    pub(super) async fn warm_up_by(&self, sleep_until: impl AsyncFn(Instant)) {
        if plan(&self.plan).is_none() {
            return;
        }
        loop {
            let stale = self.set.load().table.stale();
            sleep_until(stale.unwrap_or_else(|| Instant::now() + STEP)).await;
            if stale.is_some() {
                self.refresh();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percents(aggression: f64) -> [u32; 6] {
        let plan = SlowStartPlan { window: Duration::from_secs(60), aggression, min_weight: 10 };
        [0, 6, 15, 30, 59, 60]
            .map(|s| (100.0 * warmth(plan, Duration::from_secs(s))).round() as u32)
    }

    #[test]
    fn warmth_grows_by_the_formula() {
        assert_eq!(percents(1.0), [10, 10, 25, 50, 98, 100]);
        // More at first: elapsed^(1/2).
        assert_eq!(percents(2.0), [10, 32, 50, 71, 99, 100]);
        assert_eq!(percents(0.5), [10, 10, 10, 25, 97, 100]);
    }

    #[test]
    fn a_window_of_nothing_is_no_window() {
        let plan = SlowStartPlan { window: Duration::ZERO, aggression: 1.0, min_weight: 10 };
        assert!((warmth(plan, Duration::ZERO) - 1.0).abs() < f64::EPSILON);
    }
}
