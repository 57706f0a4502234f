//! Starts the tracer, if the plan has one.

use anyhow::Context;
use arc_swap::ArcSwapOption;
use config::plan::Plan;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::Metrics;
use traces::Tracer;

/// The tracer in force, which gates look up whenever their policies are built.
pub(super) type TracerSlot = Arc<ArcSwapOption<Tracer>>;

/// The time limit for handing the last spans to the collector.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(700);

/// The tracer of a plan.
///
/// # Errors
/// Its thread can't start.
pub(super) fn start_tracer(plan: &Plan, metrics: &Metrics) -> anyhow::Result<TracerSlot> {
    let start = |tracing| Tracer::start(tracing, metrics).context("can't start the tracer");
    Ok(Arc::new(ArcSwapOption::new(plan.tracing.clone().map(start).transpose()?)))
}

/// Hands the last spans over. All workers have ended.
pub(super) fn close_tracer(slot: &TracerSlot) {
    if let Some(tracer) = slot.swap(None) {
        tracer.close(Instant::now() + FLUSH_TIMEOUT);
    }
}
