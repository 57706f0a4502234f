//! Refuses operations of a cluster that has as many under way as it may.

use super::{Decision, PolicyEnv, SeriesPolicy, Settled, WorkerPolicy};
use crate::series::SeriesKey;
use cluster::{Cluster, OperationPermit};
use operation::{Operation, RejectReason, Rejection};
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Instant};

/// What it is called in metrics.
pub const NAME: &str = "circuit_breaker";

/// A cluster's limit of operations, as one listener's worker sees it.
pub struct BreakerPolicy {
    state: Rc<BreakerState>,
}

struct BreakerState {
    cluster: Arc<Cluster>,
    /// The error message of a rejection.
    message: Rc<str>,
    /// One for each operation under way. They are all alike.
    permits: RefCell<Vec<OperationPermit>>,
}

impl BreakerPolicy {
    /// `None` where operations are not limited.
    pub fn new(from: &PolicyEnv) -> Option<Self> {
        // A listener with several clusters checks each cluster's limit when it routes.
        let cluster = from.cluster.as_ref().filter(|it| it.limits_operations())?;
        Some(Self {
            state: Rc::new(BreakerState {
                cluster: Arc::clone(cluster),
                message: cluster.overloaded().into(),
                permits: RefCell::default(),
            }),
        })
    }
}

impl WorkerPolicy for BreakerPolicy {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(Rc::clone(&self.state)))
    }
}

impl SeriesPolicy for Rc<BreakerState> {
    fn admit(&self, operation: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        // What waits by design is no load.
        if operation.long_poll {
            return Decision::Admit;
        }
        match self.cluster.admit_operation() {
            Some(permit) => {
                self.permits.borrow_mut().push(permit);
                Decision::Admit
            }
            None => {
                Decision::Reject(Rejection::new(RejectReason::Overloaded, Rc::clone(&self.message)))
            }
        }
    }

    fn settle(&self, done: &Settled<'_>, _: u64) {
        if !done.long_poll {
            self.permits.borrow_mut().pop();
        }
    }
}
