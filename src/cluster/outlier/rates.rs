//! Who stands out among the endpoints of a cluster, by what an interval's operations came to.

use super::{Detector, tally::Window};
use crate::config::plan::{OutlierPlan, RateDetector};

/// Who stands out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Suspect {
    /// Its place among those looked at.
    pub(super) index: usize,
    pub(super) detector: Detector,
    /// How many of a hundred such ejections are carried out.
    pub(super) enforcing: u8,
    /// In words.
    pub(super) reason: String,
}

/// Rates are compared with this much tolerance, in percent, so that rounding makes no outlier.
const EPSILON: f64 = 1e-9;

/// Those that stand out, the worst first.
pub(super) fn suspects(plan: &OutlierPlan, windows: &[&Window]) -> Vec<Suspect> {
    let mut found = by_success_rate(plan, windows);
    found.extend(by_failure_percentage(plan, windows));
    found
}

/// Ejected when the rate of successes is below `mean − factor × stdev`, as Envoy has it.
fn by_success_rate(plan: &OutlierPlan, windows: &[&Window]) -> Vec<Suspect> {
    let rates = comparable(plan.success_rate, windows);
    if rates.is_empty() {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - plan.stdev_factor * variance.sqrt();
    let low = rates.into_iter().filter(|(_, rate)| *rate < threshold - EPSILON);
    let suspect = |(index, rate)| Suspect {
        index,
        detector: Detector::SuccessRate,
        enforcing: plan.success_rate.enforcing,
        reason: format!(
            "success rate {rate:.1} % is below {threshold:.1} % \
             (mean {mean:.1} %, {} standard deviations below it)",
            plan.stdev_factor
        ),
    };
    low.map(suspect).collect()
}

fn by_failure_percentage(plan: &OutlierPlan, windows: &[&Window]) -> Vec<Suspect> {
    let rates = comparable(plan.failure_percentage, windows);
    let limit = f64::from(plan.failure_threshold);
    let high = rates.into_iter().filter(|(_, rate)| 100.0 - rate >= limit - EPSILON);
    let suspect = |(index, rate): (usize, f64)| Suspect {
        index,
        detector: Detector::FailurePercentage,
        enforcing: plan.failure_percentage.enforcing,
        reason: format!("{:.1} % of operations failed; {limit} % are too many", 100.0 - rate),
    };
    high.map(suspect).collect()
}

/// The rates of successes of those with enough operations, the lowest first; none if those are too
/// few to compare.
fn comparable(detector: RateDetector, windows: &[&Window]) -> Vec<(usize, f64)> {
    let enough = |window: &Window| window.volume() >= u64::from(detector.minimum_operations);
    let rated = windows.iter().enumerate().filter(|(_, window)| enough(window));
    let mut rates: Vec<_> = rated.filter_map(|(i, w)| Some((i, w.success_rate()?))).collect();
    if rates.len() < detector.minimum_endpoints as usize {
        return Vec::new();
    }
    rates.sort_by(|a, b| a.1.total_cmp(&b.1));
    rates
}
