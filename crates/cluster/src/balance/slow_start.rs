//! Slow start: how an endpoint that has become usable gets to its full share.
//!
//! Shares are relative, so endpoints that start together with the proxy all get their full share.
//! Policies that pick by key have no slow start, since keys would move with every step.

use crate::{
    Cluster,
    plan::{ClusterPlan, SlowStartPlan},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// How often the shares of endpoints in slow start are recomputed.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// The slow-start settings of this cluster, if it has any in effect.
pub(super) fn plan(plan: &ClusterPlan) -> Option<SlowStartPlan> {
    plan.slow_start.filter(|_| !plan.lb_policy.picks_by_key())
}

/// Which part of an endpoint's weight counts after `used` in use: up to 1, reached at the end of
/// the window. Envoy's formula.
pub(super) fn warmth(plan: SlowStartPlan, used: Duration) -> f64 {
    if used >= plan.window {
        return 1.0;
    }
    let elapsed = used.as_secs_f64() / plan.window.as_secs_f64();
    let grown = elapsed.powf(1.0 / plan.aggression);
    grown.max(f64::from(plan.min_weight) / 100.0).min(1.0)
}

impl Cluster {
    /// Recomputes the shares of endpoints in slow start, until dropped. Returns at once if the
    /// cluster has no slow start.
    pub async fn warm_up(self: Arc<Self>) {
        self.warm_up_with(async |due: Instant| time::sleep_until(due.into()).await).await;
    }

    /// Like `warm_up`, with `sleep_until` as the clock.
    pub(super) async fn warm_up_with(&self, sleep_until: impl AsyncFn(Instant)) {
        if plan(&self.plan()).is_none() {
            return;
        }
        loop {
            let stale = self.set.load().table.refresh_at();
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
