//! Refuses operations of a cluster that has as many under way as it may.

use super::{Bound, Decision, Materials, Policy, Settled};
use crate::{
    cluster::{Cluster, OperationPermit},
    metrics::table as names,
    series::Key,
};
use metrics::Counter;
use operation::{Operation, Reason};
use std::{cell::RefCell, rc::Rc, sync::Arc};

/// What it is called in metrics.
const NAME: &str = "circuit_breaker";

/// A cluster's limit of operations, as one listener's worker sees it.
pub struct Breaker {
    inner: Rc<Inner>,
}

struct Inner {
    cluster: Arc<Cluster>,
    refusals: Counter,
    /// What is said to who is refused.
    message: Rc<str>,
    /// One for each operation under way. They are all alike.
    permits: RefCell<Vec<OperationPermit>>,
}

impl Breaker {
    /// `None` where operations are not limited.
    pub fn new(from: &Materials<'_>) -> Option<Self> {
        if !from.cluster.limits_operations() {
            return None;
        }
        let reason = Reason::Overloaded.as_str();
        let labels = [("listener", &**from.listener), ("policy", NAME), ("reason", reason)];
        Some(Self {
            inner: Rc::new(Inner {
                cluster: Arc::clone(from.cluster),
                message: from.cluster.overloaded().into(),
                refusals: from.metrics.counter(names::REFUSALS_TOTAL, &labels),
                permits: RefCell::default(),
            }),
        })
    }
}

impl Policy for Breaker {
    fn bind(&self, _: &Key) -> Option<Box<dyn Bound>> {
        Some(Box::new(Rc::clone(&self.inner)))
    }
}

impl Bound for Rc<Inner> {
    fn admit(&self, operation: &Operation<'_>) -> Decision {
        // What waits by design is no load.
        if operation.awaits {
            return Decision::Admit;
        }
        match self.cluster.admit_operation() {
            Some(permit) => {
                self.permits.borrow_mut().push(permit);
                Decision::Admit
            }
            None => {
                self.refusals.increment(1);
                let message = Rc::clone(&self.message);
                Decision::Refuse { reason: Reason::Overloaded, message }
            }
        }
    }

    fn settle(&self, done: &Settled<'_>) {
        if !done.awaits {
            self.permits.borrow_mut().pop();
        }
    }
}
