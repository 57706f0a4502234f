//! Checks of health checks, outlier detection and slow start.

use super::{Check, MINUTE, SECOND, given, number, or};
use crate::file::{FailurePercentage, HealthCheck, OutlierDetection, SlowStart, SuccessRate};
use cluster::{
    FailurePercentagePlan, HealthCheckPlan, OutlierPlan, ProbeConfig, RateDetector, SlowStartPlan,
    SuccessRatePlan,
};
use protocols::{Pooling, ProbePlan, UncheckedProbe};
use std::{sync::Arc, time::Duration};
use values::{Count, Factor, OrOff, duration_text};
use values::{
    MapOrOff, Span,
    spanned::{Opt, Spanned},
};

impl Check<'_> {
    pub(super) fn health_check(
        &mut self,
        cluster: &str,
        pooling: &Pooling,
        Spanned { at, value }: Spanned<HealthCheck>,
    ) -> Option<HealthCheckPlan> {
        let check = value?;
        let usual = HealthCheckPlan::new(Arc::new(ProbePlan::default()));
        let interval = or(check.interval, usual.interval);
        let probe = match check.probe {
            Some(probe) => probe.value.and_then(|written| self.probe(cluster, pooling, &*written)),
            None => self.default_probe(cluster, pooling, at),
        };
        Some(HealthCheckPlan {
            interval,
            timeout: self.within("timeout", check.timeout, usual.timeout, interval),
            jitter: number(check.jitter, usual.jitter),
            edge_interval: self.within(
                "edge_interval",
                check.edge_interval,
                usual.edge_interval,
                interval,
            ),
            healthy_threshold: number(check.healthy_threshold, usual.healthy_threshold),
            unhealthy_threshold: number(check.unhealthy_threshold, usual.unhealthy_threshold),
            initial: or(check.initial, usual.initial),
            reuse_connection: self.reuse_connection(check.reuse_connection, probe.as_ref()),
            close_connections_on_unhealthy: bool_or(check.close_connections_on_unhealthy, false),
            probe: Arc::new(probe?),
        })
    }

    /// A time of at most `interval`; so is its default.
    fn within(
        &mut self,
        key: &str,
        written: Opt<Duration>,
        default: Duration,
        interval: Duration,
    ) -> Duration {
        let Some(Spanned { at, value: Some(time) }) = written else { return default.min(interval) };
        if time.0 > interval {
            let interval = duration_text(interval);
            let message = format!("`{key}` is longer than the interval of {interval}");
            self.report.add(at, message, format!("at most `{interval}`, or a longer `interval`"));
        }
        time.0
    }

    /// Not every probe can find the end of an answer.
    fn reuse_connection(
        &mut self,
        written: Option<Spanned<bool>>,
        probe: Option<&ProbePlan>,
    ) -> bool {
        let reuses = probe.is_none_or(ProbePlan::reuses_connections);
        let Some(Spanned { at, value: Some(wanted) }) = written else { return reuses };
        if wanted && !reuses {
            let name = probe.map_or("", ProbeConfig::name);
            let message = format!("the probe `{name}` needs a new connection for each check");
            self.report.add(
                at,
                message,
                "leave it out: the probe can't find the end of a response",
            );
        }
        wanted
    }

    fn probe(
        &mut self,
        cluster: &str,
        pooling: &Pooling,
        written: &dyn UncheckedProbe,
    ) -> Option<ProbePlan> {
        match written.plan(cluster, pooling) {
            Ok(plan) => Some(plan),
            Err(errors) => {
                for error in errors {
                    let mut path = vec!["clusters", cluster, "health_check", "probe"];
                    path.extend(error.path.iter().map(String::as_str));
                    self.report.add_diagnostic(self.tree.place(&path), error);
                }
                None
            }
        }
    }

    /// The probe of the protocol that the cluster's listeners have.
    fn default_probe(&mut self, cluster: &str, pooling: &Pooling, at: Span) -> Option<ProbePlan> {
        let cluster_probes =
            self.cluster_probes.get(cluster).map(Vec::as_slice).unwrap_or_default();
        match cluster_probes {
            [] => Some(ProbePlan::default()),
            [one] => one.plan(cluster, pooling).ok(),
            several => {
                let names: Vec<_> = several.iter().map(|probe| probe.name()).collect();
                let message =
                    format!("listeners of `{cluster}` speak {}: what is asked?", names.join(", "));
                let probes: Vec<_> = names.iter().map(|name| format!("`probe: {name}`")).collect();
                self.report.add(at, message, format!("write {}", probes.join(" or ")));
                None
            }
        }
    }

    pub(super) fn outlier_detection(
        &mut self,
        written: Spanned<OutlierDetection>,
    ) -> Option<OutlierPlan> {
        let written = written.value?;
        let default = OutlierPlan::default();
        let (base_ejection_time, max_ejection_time) = self.ordered(
            ("base_ejection_time", written.base_ejection_time),
            ("max_ejection_time", written.max_ejection_time),
            (30 * SECOND, 5 * MINUTE),
        );
        Some(OutlierPlan {
            consecutive_failures: times(
                &written.consecutive_failures,
                default.consecutive_failures,
            ),
            consecutive_local_failures: times(
                &written.consecutive_local_failures,
                default.consecutive_local_failures,
            ),
            session_failures: or(written.session_failures, default.session_failures),
            interval: or(written.interval, default.interval),
            base_ejection_time,
            max_ejection_time,
            max_ejection_percent: number(
                written.max_ejection_percent,
                default.max_ejection_percent,
            ),
            success_rate: map(written.success_rate, success_rate),
            failure_percentage: map(written.failure_percentage, failure_percentage),
            enforcing_consecutive: number(
                written.enforcing_consecutive,
                default.enforcing_consecutive,
            ),
        })
    }
}

/// A number of consecutive events; 0 is never.
fn times(written: &Opt<OrOff<Count>>, default: u32) -> u32 {
    let times = given(written);
    times.map_or(default, |times| times.and_then(|it| it.0.try_into().ok()).unwrap_or(0))
}

/// The plan of a map that is on by default; `None` for `off`.
fn map<T: Default, P>(written: Option<Spanned<MapOrOff<T>>>, plan: fn(T) -> P) -> Option<P> {
    match written.and_then(|it| it.value) {
        None => Some(plan(T::default())),
        Some(MapOrOff::Off) => None,
        Some(MapOrOff::Map(keys)) => Some(plan(keys)),
    }
}

fn success_rate(keys: SuccessRate) -> SuccessRatePlan {
    let SuccessRatePlan { detector, stdev_factor } = SuccessRatePlan::default();
    SuccessRatePlan {
        detector: RateDetector {
            minimum_endpoints: number(keys.minimum_endpoints, detector.minimum_endpoints),
            minimum_operations: number(keys.minimum_operations, detector.minimum_operations),
            enforcing: number(keys.enforcing, detector.enforcing),
        },
        stdev_factor: or(keys.stdev_factor, Factor(stdev_factor)).get(),
    }
}

fn failure_percentage(keys: FailurePercentage) -> FailurePercentagePlan {
    let FailurePercentagePlan { detector, threshold } = FailurePercentagePlan::default();
    FailurePercentagePlan {
        detector: RateDetector {
            minimum_endpoints: number(keys.minimum_endpoints, detector.minimum_endpoints),
            minimum_operations: number(keys.minimum_operations, detector.minimum_operations),
            enforcing: number(keys.enforcing, detector.enforcing),
        },
        threshold: number(keys.threshold, threshold),
    }
}

pub(super) fn slow_start(written: SlowStart) -> SlowStartPlan {
    SlowStartPlan {
        window: or(written.window, 30 * SECOND),
        aggression: or(written.aggression, Factor(1.0)).0,
        min_weight: number(written.min_weight, 10),
    }
}

fn bool_or(written: Option<Spanned<bool>>, default: bool) -> bool {
    written.and_then(|it| it.value).unwrap_or(default)
}
