//! The pause of a cluster: new work waits, and what is under way ends.

use super::state::Hold;
use crate::{
    Cluster, Endpoint,
    events::{CutoverStep, Event},
};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// How often it is looked whether work has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long operations under way have to end after the transactions and cursors were cut.
const LAST_OPERATIONS: Duration = Duration::from_millis(500);

/// How a cluster is paused.
#[derive(Clone, Copy, Debug)]
pub struct PauseOptions {
    /// How long transactions and cursors may go on. After that their operations wait, too.
    pub drain_timeout: Duration,
    /// When the cluster resumes by itself.
    pub resume_after: Duration,
}

/// The result of a pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PauseReport {
    /// Nothing is under way at the endpoints any more.
    pub drained: bool,
    /// What has not ended.
    pub left: PausedWork,
    /// How long it took.
    pub took: Duration,
}

/// What has not ended when a cluster is paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PausedWork {
    /// Operations under way.
    pub operations: usize,
    /// Transactions that are open. A switch loses them.
    pub transactions: usize,
    /// Cursors that are open. A switch loses them.
    pub cursors: usize,
    /// Cursors whose clients wait for news. They have no end, so that nothing waits for it. A switch loses
    /// them.
    pub change_streams: usize,
    /// Connections that belong to one client each. Their operations can't be held back. A switch closes
    /// them.
    pub own_connections: usize,
}

impl Cluster {
    /// Pauses the cluster: new operations and connections wait. Returns when what is under way has ended,
    /// with transactions and cursors, or after `drain_timeout`. A cluster that is paused is drained again,
    /// and its pause lasts from now.
    pub async fn pause(&self, options: PauseOptions) -> PauseReport {
        let _request = self.cutover.requests.acquire().await;
        let began = Instant::now();
        self.cutover.begin(began + options.resume_after);
        let deadline = began + options.drain_timeout;
        let pools_hold = |hold| self.until(deadline, move || self.cutover.all_pools_hold(hold));
        pools_hold(Hold::New).await;
        self.until(deadline, || self.paused_work().may_end_at_once()).await;
        // Nothing begins or goes on from here.
        self.cutover.set_hold(Hold::All);
        let last = deadline.max(Instant::now() + LAST_OPERATIONS);
        self.until(last, || {
            self.cutover.all_pools_hold(Hold::All) && self.paused_work().operations == 0
        })
        .await;
        let left = self.paused_work();
        let is_held = self.cutover.all_pools_hold(Hold::All);
        let drained = is_held && left.operations == 0 && left.own_connections == 0;
        let took = began.elapsed();
        let PauseOptions { resume_after, .. } = options;
        let end = if drained { "drained" } else { "not drained" };
        let reason = format!(
            "an operator said so: {end} after {took:.0?}; it resumes by itself after {resume_after:?}"
        );
        self.events.report(&Event::Cutover { step: CutoverStep::Paused, reason: &reason });
        PauseReport { drained, left, took }
    }

    /// Waits until this is so, or until the deadline, or the end of the pause.
    async fn until(&self, deadline: Instant, is_so: impl Fn() -> bool) {
        while !is_so() && Instant::now() < deadline && self.cutover.current().is_some() {
            time::sleep(LOOK).await;
        }
    }

    /// What has not ended.
    pub(super) fn paused_work(&self) -> PausedWork {
        let open = self.open_states();
        let own_connections = self.cutover.own_connections.count();
        let endpoints = self.endpoints_with_leaving();
        let pooled = |endpoint: &Arc<Endpoint>| endpoint.pool().active + endpoint.pool().waiting;
        let active = |endpoint: &Arc<Endpoint>| endpoint.active_operations();
        // Operations on connections of clients' own always go on.
        let operations = match own_connections {
            0 => endpoints.iter().map(|it| pooled(it).max(active(it))).sum(),
            _ => endpoints.iter().map(pooled).sum(),
        };
        PausedWork {
            operations,
            transactions: open.transactions,
            cursors: open.cursors,
            change_streams: open.tails,
            own_connections,
        }
    }
}

impl PausedWork {
    /// Whether nothing is left whose end is worth waiting for.
    fn may_end_at_once(&self) -> bool {
        let Self { operations, transactions, cursors, .. } = *self;
        (operations, transactions, cursors) == (0, 0, 0)
    }
}
