//! Retry budget: retries are limited to a share of the requests in flight, so that a failing
//! service does not get a multiple of its load.

use std::{cell::Cell, rc::Rc};

/// Limit of concurrent retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Percentage of requests in flight that may be retries. Default: 20.
    pub percent: u32,
    /// Number of retries that are always allowed. Default: 3.
    pub min: usize,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min: 3 }
    }
}

/// Requests of one route in flight on one worker.
#[derive(Debug, Default)]
pub(crate) struct RouteLoad {
    active: Cell<usize>,
    retrying: Cell<usize>,
}

impl RouteLoad {
    /// Counts one more request until the result is dropped.
    pub(crate) fn begin(self: &Rc<Self>) -> RequestInFlight {
        self.active.set(self.active.get().saturating_add(1));
        RequestInFlight { load: Rc::clone(self), retrying: false }
    }

    /// Requests in flight.
    #[cfg(test)]
    pub(crate) fn active(&self) -> usize {
        self.active.get()
    }

    /// Those that are retried or wait for a retry.
    #[cfg(test)]
    pub(crate) fn retrying(&self) -> usize {
        self.retrying.get()
    }
}

/// A counted request; released on drop.
#[derive(Debug)]
pub struct RequestInFlight {
    load: Rc<RouteLoad>,
    retrying: bool,
}

impl RequestInFlight {
    /// Whether this request may be retried. Called before each retry; once allowed, a request stays
    /// allowed.
    pub fn may_retry(&mut self, budget: &RetryBudget) -> bool {
        let RouteLoad { active, retrying } = &*self.load;
        let percent = usize::try_from(budget.percent).unwrap_or(usize::MAX);
        let share = active.get().saturating_mul(percent) / 100;
        if !self.retrying && retrying.get() < share.max(budget.min) {
            retrying.set(retrying.get() + 1);
            self.retrying = true;
        }
        self.retrying
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        let RouteLoad { active, retrying } = &*self.load;
        active.set(active.get().saturating_sub(1));
        if self.retrying {
            retrying.set(retrying.get().saturating_sub(1));
        }
    }
}
