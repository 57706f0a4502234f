//! A concurrency limit on one worker, for one listener: who goes on, who waits, who is refused.

use super::{
    Plan,
    cell::{Cell, Waiting},
    cells::{Cells, Shared},
};
use crate::{
    policy::{Decision, PolicyEnv, Rule, SeriesPolicy, Settled, WorkerPolicy, key::Group},
    series::SeriesKey,
};
use foldhash::HashMap;
use operation::{Operation, RejectReason, Rejection};
use std::{
    cell::{self, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A concurrency limit on one worker, for one listener.
pub(super) struct Limit {
    listener: Arc<str>,
    own: Rc<Own>,
}

/// What all series have in common.
struct Own {
    plan: Arc<Plan>,
    no: Rejection,
    /// How many may wait: where nothing is done but counted, nobody.
    queue: usize,
    cells: Cells,
    places: RefCell<HashMap<u64, Place>>,
    last: cell::Cell<u64>,
}

/// What an operation has, by the number that is its memo.
enum Place {
    /// It is under way, since then.
    Held(Arc<Cell>, Instant),
    /// It waits.
    Awaited,
}

impl Limit {
    pub(super) fn new(
        plan: &Arc<Plan>,
        cells: &Arc<Shared>,
        rule: &Rule,
        from: &PolicyEnv,
    ) -> Self {
        let message = plan.message.as_deref().map_or_else(
            || format!("the policy `{}` has as many operations under way as it may", rule.name),
            str::to_owned,
        );
        let mut no = Rejection::new(RejectReason::Overloaded, message);
        no.mode = plan.over.manner();
        let own = Own {
            plan: Arc::clone(plan),
            no,
            queue: if rule.dry_run { 0 } else { plan.queue },
            cells: Cells::new(Arc::clone(cells)),
            places: RefCell::default(),
            last: cell::Cell::default(),
        };
        Self { listener: Arc::clone(&from.listener), own: Rc::new(own) }
    }
}

impl WorkerPolicy for Limit {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        let group = self.own.plan.grouping.bind(&self.listener, key);
        Some(Box::new(Series { group, own: Rc::clone(&self.own) }))
    }
}

/// A concurrency limit as it applies to one series.
struct Series {
    group: Group,
    own: Rc<Own>,
}

impl SeriesPolicy for Series {
    fn admit(&self, operation: &Operation<'_>, now: Instant, memo: &mut u64) -> Decision {
        // What waits by design is no load.
        if operation.long_poll {
            return Decision::Admit;
        }
        let own = &self.own;
        let cell = own.cells.find(self.group.of(operation));
        if cell.enter() {
            *memo = own.keep(Place::Held(cell, now));
            return Decision::Admit;
        }
        let Some(waiting) = cell.wait(own.queue) else {
            return Decision::Reject(own.no.clone());
        };
        *memo = own.keep(Place::Awaited);
        let timeout = own.plan.queue_timeout;
        let turn = Turn { number: *memo, own: Rc::clone(own), cell };
        Decision::Pending(Box::pin(turn.comes(waiting, timeout)))
    }

    fn settle(&self, done: &Settled<'_>, memo: u64) {
        // An operation that ends while it waits leaves the queue when nobody asks any more.
        let place = self.own.places.borrow_mut().remove(&memo);
        if let Some(Place::Held(cell, since)) = place {
            let now = done.how.now;
            cell.leave_after(now.saturating_duration_since(since), now);
        }
    }
}

impl Own {
    fn keep(&self, place: Place) -> u64 {
        // 0 stays the memo of what has no place.
        let number = self.last.get() + 1;
        self.last.set(number);
        self.places.borrow_mut().insert(number, place);
        number
    }
}

/// An operation's turn, which is still to come.
struct Turn {
    number: u64,
    own: Rc<Own>,
    cell: Arc<Cell>,
}

impl Turn {
    async fn comes(self, waiting: Waiting, timeout: Duration) -> Decision {
        if tokio::time::timeout(timeout, waiting.granted()).await.is_err() {
            return Decision::Reject(self.own.no.clone());
        }
        let now = tokio::time::Instant::now().into_std();
        match self.own.places.borrow_mut().get_mut(&self.number) {
            Some(place) => *place = Place::Held(Arc::clone(&self.cell), now),
            // It has ended meanwhile.
            None => self.cell.leave(),
        }
        Decision::waited()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut places = self.own.places.borrow_mut();
        if let Some(Place::Awaited) = places.get(&self.number) {
            places.remove(&self.number);
        }
    }
}
