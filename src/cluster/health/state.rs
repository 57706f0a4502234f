//! What an endpoint is taken for, check after check.

use crate::config::plan::HealthCheckPlan;
use std::time::Duration;

/// What an endpoint is taken for.
#[derive(Debug)]
pub(super) struct State {
    healthy: bool,
    /// It was checked before.
    checked: bool,
    /// How many checks in a row told otherwise than `healthy`.
    otherwise: u32,
}

impl State {
    /// Before the first check.
    pub(super) fn new(healthy: bool) -> Self {
        Self { healthy, checked: false, otherwise: 0 }
    }

    /// Takes note of a check. What it is taken for from now on, if that is something else than
    /// before.
    pub(super) fn note(&mut self, plan: &HealthCheckPlan, good: bool) -> Option<bool> {
        let threshold = match (self.checked, good) {
            (false, _) => 1,
            (true, true) => plan.healthy_threshold,
            (true, false) => plan.unhealthy_threshold,
        };
        self.checked = true;
        if good == self.healthy {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        if self.otherwise < threshold {
            return None;
        }
        self.healthy = good;
        self.otherwise = 0;
        Some(good)
    }

    /// How long until the next check; `share` is random, from 0 to 1.
    pub(super) fn pause(&self, plan: &HealthCheckPlan, share: f64) -> Duration {
        let pause = if self.otherwise > 0 { plan.edge_interval } else { plan.interval };
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
            ..HealthCheckPlan::default()
        }
    }

    /// What the state becomes with each of these checks.
    fn after(initial: bool, checks: &[bool]) -> Vec<Option<bool>> {
        let mut state = State::new(initial);
        checks.iter().map(|good| state.note(&plan(), *good)).collect()
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
    fn a_check_that_confirms_the_state_begins_the_count_anew() {
        let checks = [true, false, false, true, false, false, true, false, false];
        assert_eq!(after(true, &checks), [None; 9]);
        assert_eq!(after(false, &[false, true, false, true, false]), [None; 5]);
    }

    #[test]
    fn the_next_check_comes_sooner_while_the_last_one_told_otherwise() {
        let (plan, mut state) = (plan(), State::new(true));
        state.note(&plan, true);
        assert_eq!(state.pause(&plan, 0.0), Duration::from_secs(10));
        assert_eq!(state.pause(&plan, 0.5), Duration::from_millis(10_500));
        state.note(&plan, false);
        assert_eq!(state.pause(&plan, 0.0), Duration::from_secs(2));
        assert_eq!(state.pause(&plan, 1.0), Duration::from_millis(2_200));
        state.note(&plan, false);
        state.note(&plan, false);
        // Decided: no hurry.
        assert_eq!(state.pause(&plan, 0.0), Duration::from_secs(10));
    }
}
