//! What policies of a listener are built from.

use crate::{access_log::LineBuffer, cardinality::CardinalityLimit, live_tap::LiveTap};
use arc_swap::ArcSwapOption;
use cluster::Cluster;
use operation::Protocol;
use shapes::WorkerShapes;
use std::{rc::Rc, sync::Arc};
use tollgate_metrics::Metrics;
use traces::Tracer;

/// What policies are made from, for one listener on one worker.
#[derive(Clone)]
pub struct PolicyEnv {
    /// Where they count.
    pub metrics: Metrics,
    /// The listener's name.
    pub listener: Arc<str>,
    /// What its clients speak.
    pub protocol: &'static Protocol,
    /// Its connections have attributes of TLS, or of PROXY headers.
    pub has_preface: bool,
    /// The cluster that all of the listener's operations go to, if they all go to one.
    pub cluster: Option<Arc<Cluster>>,
    /// The limit of distinct call sites of the listener.
    pub callsites: Arc<CardinalityLimit>,
    /// The worker's table of query shapes, if the listener's operations are counted there.
    pub shapes: Option<Rc<WorkerShapes>>,
    /// The worker's lines of the access log, if there is one.
    pub lines: Option<Rc<LineBuffer>>,
    /// Where operations are recorded while there is a watcher.
    pub tap: Arc<LiveTap>,
    /// What makes spans of operations, if anything does. A gate looks here when its policies are
    /// built.
    pub tracer: Arc<ArcSwapOption<Tracer>>,
}
