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

/// The tracer of a plan; `None`: that has no tracing.
pub(super) type NewTracer = Option<Arc<Tracer>>;

/// The tracer of a plan.
///
/// # Errors
/// Its thread can't start.
pub(super) fn start_tracer(plan: &Plan, metrics: &Metrics) -> anyhow::Result<NewTracer> {
    let start = |tracing| Tracer::start(tracing, metrics).context("can't start the tracer");
    plan.tracing.clone().map(start).transpose()
}

/// The tracer of a changed plan, which is not in use yet; `None` if nothing is to change.
///
/// # Errors
/// Its thread can't start.
pub(super) fn prepare_tracer(
    plan: &Plan,
    before: &Plan,
    metrics: &Metrics,
) -> anyhow::Result<Option<NewTracer>> {
    if plan.has_same_tracing(before) {
        return Ok(None);
    }
    start_tracer(plan, metrics).map(Some)
}

/// Uses a tracer. The one of before exports its last spans and ends.
pub(super) fn replace_tracer(slot: &TracerSlot, tracer: NewTracer) {
    slot.store(tracer);
}

/// Hands the last spans over. All workers have ended.
pub(super) fn close_tracer(slot: &TracerSlot) {
    if let Some(tracer) = slot.swap(None) {
        tracer.close(Instant::now() + FLUSH_TIMEOUT);
    }
}
