//! Outliers among a cluster's endpoints, by the statistics of an interval.

use super::{Detector, stats::IntervalStats};
use crate::plan::{FailurePercentagePlan, OutlierPlan, RateDetector, SuccessRatePlan};

/// An endpoint that stands out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlier {
    /// Its index among the compared endpoints.
    pub(super) index: usize,
    pub(super) detector: Detector,
    /// The percentage of such ejections that are enforced.
    pub(super) enforcing: u8,
    /// The reason as text.
    pub(super) reason: String,
}

/// Rates are compared with this tolerance, in percent, so that rounding makes no outlier.
const EPSILON: f64 = 1e-9;

/// The outliers, the worst first.
pub(super) fn outliers(plan: &OutlierPlan, windows: &[&IntervalStats]) -> Vec<Outlier> {
    let mut found = Vec::new();
    found.extend(plan.success_rate.iter().flat_map(|it| by_success_rate(it, windows)));
    found.extend(plan.failure_percentage.iter().flat_map(|it| by_failure_percentage(it, windows)));
    found
}

/// Those whose success rate is below `mean − factor × stdev`, as in Envoy.
fn by_success_rate(plan: &SuccessRatePlan, windows: &[&IntervalStats]) -> Vec<Outlier> {
    let rates = comparable(plan.detector, windows);
    if rates.is_empty() {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - plan.stdev_factor * variance.sqrt();
    let low = rates.into_iter().filter(|(_, rate)| *rate < threshold - EPSILON);
    let suspect = |(index, rate)| Outlier {
        index,
        detector: Detector::SuccessRate,
        enforcing: plan.detector.enforcing,
        reason: format!(
            "success rate {rate:.1} % is below {threshold:.1} % \
             (mean {mean:.1} %, {} standard deviations below it)",
            plan.stdev_factor
        ),
    };
    low.map(suspect).collect()
}

fn by_failure_percentage(plan: &FailurePercentagePlan, windows: &[&IntervalStats]) -> Vec<Outlier> {
    let rates = comparable(plan.detector, windows);
    let limit = f64::from(plan.threshold);
    let high = rates.into_iter().filter(|(_, rate)| 100.0 - rate >= limit - EPSILON);
    let suspect = |(index, rate): (usize, f64)| Outlier {
        index,
        detector: Detector::FailurePercentage,
        enforcing: plan.detector.enforcing,
        reason: format!("{:.1} % of operations failed; {limit} % are too many", 100.0 - rate),
    };
    high.map(suspect).collect()
}

/// The success rates of endpoints with enough operations, the lowest first; empty if too few to
/// compare.
fn comparable(detector: RateDetector, windows: &[&IntervalStats]) -> Vec<(usize, f64)> {
    let enough = |window: &IntervalStats| window.volume() >= u64::from(detector.minimum_operations);
    let rated = windows.iter().enumerate().filter(|(_, window)| enough(window));
    let mut rates: Vec<_> = rated.filter_map(|(i, w)| Some((i, w.success_rate()?))).collect();
    if rates.len() < detector.minimum_endpoints as usize {
        return Vec::new();
    }
    rates.sort_by(|a, b| a.1.total_cmp(&b.1));
    rates
}
