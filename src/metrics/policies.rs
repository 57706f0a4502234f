//! What policies did, over all listeners.

use super::{
    Labels, Metrics,
    cells::Series,
    table::{
        BENT_OPERATIONS_TOTAL, DRY_RUN_BENT_OPERATIONS_TOTAL, DRY_RUN_REFUSALS_TOTAL,
        REFUSALS_TOTAL,
    },
};
use serde::Serialize;

/// What a policy did since the start, or would have done (`dry_run`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Operations and connections that it refused.
    pub refused: u64,
    /// Operations that it let go on, but on terms.
    pub bent: u64,
    /// Operations and connections that it would have refused.
    pub would_refuse: u64,
    /// Operations that it would have let go on, but on terms.
    pub would_bend: u64,
}

impl Metrics {
    /// What the policy of this name did.
    pub fn effects(&self, policy: &str) -> Effects {
        Effects {
            refused: self.total_of(REFUSALS_TOTAL, policy),
            bent: self.total_of(BENT_OPERATIONS_TOTAL, policy),
            would_refuse: self.total_of(DRY_RUN_REFUSALS_TOTAL, policy),
            would_bend: self.total_of(DRY_RUN_BENT_OPERATIONS_TOTAL, policy),
        }
    }

    fn total_of(&self, metric: &str, policy: &str) -> u64 {
        let Some(family) = self.family(metric) else { return 0 };
        let names = family.metric.labels;
        let own = family
            .all()
            .into_iter()
            .filter(|(values, _)| Labels { names, values }.get("policy") == Some(policy));
        own.map(|(_, series)| match &*series {
            Series::Counter(cells) => cells.total(),
            Series::Gauge(_) | Series::Histogram(_) => 0,
        })
        .sum()
    }
}
