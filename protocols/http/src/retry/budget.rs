//! How many attempts may be made again at once: a share of what is under way, so that a service in
//! trouble is not asked a multiple of what it was asked before.

use std::{cell::Cell, rc::Rc};

/// A limit of attempts after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// How many in a hundred requests under way may be in such an attempt. Default: 20.
    pub percent: u32,
    /// How many may be in any case. Default: 3.
    pub min: usize,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min: 3 }
    }
}

/// What one worker has under way for one route.
#[derive(Debug, Default)]
pub struct RouteLoad {
    active: Cell<usize>,
    retrying: Cell<usize>,
}

impl RouteLoad {
    /// One more request, until what is returned is dropped.
    pub fn begin(self: &Rc<Self>) -> RequestInFlight {
        self.active.set(self.active.get().saturating_add(1));
        RequestInFlight { load: Rc::clone(self), retrying: false }
    }

    /// How many requests are under way.
    pub fn active(&self) -> usize {
        self.active.get()
    }

    /// How many of them are in an attempt after the first, or wait for it.
    pub fn retrying(&self) -> usize {
        self.retrying.get()
    }
}

/// A request under way, until dropped.
#[derive(Debug)]
pub struct RequestInFlight {
    load: Rc<RouteLoad>,
    retrying: bool,
}

impl RequestInFlight {
    /// Whether another attempt may follow one that failed. It is asked before each; who was
    /// allowed one is allowed the next.
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
