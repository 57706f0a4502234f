//! What happens to operations when an endpoint of a pool fails.

use super::{Check, given, or};
use crate::file::FailoverConfig;
use cluster::FailoverPlan;
use values::{Size, spanned::Spanned};

impl Check<'_> {
    /// The failover of a cluster; `None` without a pool.
    pub(super) fn failover(
        &mut self,
        cluster: &str,
        written: Option<Spanned<FailoverConfig>>,
        has_pool: bool,
    ) -> Option<FailoverPlan> {
        if let Some(written) = written.as_ref().filter(|_| !has_pool) {
            let message = "operations can't be held or sent again without a `pool`: each client has an \
                           upstream connection of its own";
            self.report.add(written.at, message, "add `pool: {}`, or leave `failover` out");
        }
        let usual = FailoverPlan::default();
        let plan = match written.and_then(|it| it.value) {
            None => usual,
            Some(failover) => FailoverPlan {
                hold: given(&failover.hold).map_or(usual.hold, |it| it),
                replay: failover.replay.and_then(|it| it.value).unwrap_or(usual.replay),
                replay_max: self.replay_max(&failover.replay_max, usual.replay_max),
                retryable_writes: or(failover.retryable_writes, usual.retryable_writes),
                lost: or(failover.lost, usual.lost),
                orphan_grace: given(&failover.orphan_grace).map_or(usual.orphan_grace, |it| it),
                cancel_grace: given(&failover.cancel_grace).map_or(usual.cancel_grace, |it| it),
            },
        };
        self.failovers.insert(cluster.into(), plan);
        has_pool.then_some(plan)
    }

    fn replay_max(&mut self, written: &values::spanned::Opt<Size>, usual: usize) -> usize {
        let Some(size) = given(written) else { return usual };
        let most = FailoverPlan::MAX_REPLAY;
        let size = usize::try_from(size.0).unwrap_or(usize::MAX);
        if size > most
            && let Some(written) = written
        {
            let message =
                format!("a copy of each request of up to {size} bytes is too much to keep");
            self.report.add(written.at, message, format!("at most `{}KiB`", most / 1024));
        }
        size.min(most)
    }
}
