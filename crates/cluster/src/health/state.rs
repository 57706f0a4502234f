//! The health state of an endpoint, from one check to the next.

use crate::plan::HealthCheckPlan;
use std::time::Duration;

/// The health state of an endpoint.
#[derive(Debug)]
pub(super) struct HealthState {
    healthy: bool,
    /// At least one check was made.
    checked: bool,
    /// How many checks in a row contradicted `healthy`.
    contrary_streak: u32,
}

impl HealthState {
    /// Before the first check.
    pub(super) fn new(healthy: bool) -> Self {
        Self { healthy, checked: false, contrary_streak: 0 }
    }

    /// Records a check. Returns the new health if it changed.
    pub(super) fn record(&mut self, plan: &HealthCheckPlan, good: bool) -> Option<bool> {
        let threshold = match (self.checked, good) {
            (false, _) => 1,
            (true, true) => plan.healthy_threshold,
            (true, false) => plan.unhealthy_threshold,
        };
        self.checked = true;
        if good == self.healthy {
            self.contrary_streak = 0;
            return None;
        }
        self.contrary_streak += 1;
        if self.contrary_streak < threshold {
            return None;
        }
        self.healthy = good;
        self.contrary_streak = 0;
        Some(good)
    }

    /// The pause before the next check; `share` is random, from 0 to 1.
    pub(super) fn pause(&self, plan: &HealthCheckPlan, share: f64) -> Duration {
        let pause = if self.contrary_streak > 0 { plan.edge_interval } else { plan.interval };
        pause + pause.mul_f64(share * f64::from(plan.jitter) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> HealthCheckPlan {
        HealthCheckPlan {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            edge_interval: Duration::from_secs(2),
            healthy_threshold: 2,
            ..HealthCheckPlan::new(std::sync::Arc::new(crate::tests::Connects))
        }
    }

    /// What the state becomes with each of these checks.
    fn after(initial: bool, checks: &[bool]) -> Vec<Option<bool>> {
        let mut state = HealthState::new(initial);
        checks.iter().map(|good| state.record(&plan(), *good)).collect()
    }

    #[test]
    fn the_first_check_of_all_decides_alone() {
        assert_eq!(after(false, &[true]), [Some(true)]);
        assert_eq!(after(true, &[false]), [Some(false)]);
        assert_eq!(after(true, &[true]), [None]);
        assert_eq!(after(false, &[false]), [None]);
    }

    #[test]
    fn later_it_takes_as_many_in_a_row_as_the_threshold_says() {
        let n = None;
        assert_eq!(after(true, &[true, false, false, false]), [n, n, n, Some(false)]);
        assert_eq!(after(false, &[false, true, true]), [n, n, Some(true)]);
    }

    #[test]
    fn a_check_that_confirms_the_state_restarts_the_count() {
        let checks = [true, false, false, true, false, false, true, false, false];
        assert_eq!(after(true, &checks), [None; 9]);
        assert_eq!(after(false, &[false, true, false, true, false]), [None; 5]);
    }

    #[test]
    fn the_next_check_is_sooner_after_an_unexpected_result() {
        let (plan, mut state) = (plan(), HealthState::new(true));
        state.record(&plan, true);
        assert_eq!(state.pause(&plan, 0.0), Duration::from_secs(10));
        assert_eq!(state.pause(&plan, 0.5), Duration::from_millis(10_500));
        state.record(&plan, false);
        assert_eq!(state.pause(&plan, 0.0), Duration::from_secs(2));
        assert_eq!(state.pause(&plan, 1.0), Duration::from_millis(2_200));
        state.record(&plan, false);
        state.record(&plan, false);
        // The state has changed: no extra checks are needed.
        assert_eq!(state.pause(&plan, 0.0), Duration::from_secs(10));
    }
}
