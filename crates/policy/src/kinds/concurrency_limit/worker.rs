//! A concurrency limit on one worker, for one listener: admits, queues or rejects.

use super::{
    Plan,
    semaphore::{QueuePosition, Semaphore},
    semaphores::{SharedSemaphores, WorkerSemaphores},
};
use crate::{
    Decision, PolicyEnv, Rule, SeriesPolicy, Settled, WorkerPolicy, key::KeyHasher,
    series::SeriesKey,
};
use foldhash::HashMap;
use operation::{Operation, RejectReason, Rejection};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A concurrency limit on one worker, for one listener.
pub(super) struct WorkerConcurrencyLimit {
    listener: Arc<str>,
    state: Rc<WorkerState>,
}

/// The state that all series share.
struct WorkerState {
    plan: Arc<Plan>,
    rejection: Rejection,
    /// How many operations may wait; 0 for a dry run.
    queue: usize,
    semaphores: WorkerSemaphores,
    admissions: RefCell<HashMap<u64, Admission>>,
    last: Cell<u64>,
}

/// The state of an admitted operation; its policy state is the key.
enum Admission {
    /// It is in flight, since this time.
    Running(Arc<Semaphore>, Instant),
    /// It waits.
    Queued,
}

impl WorkerConcurrencyLimit {
    pub(super) fn new(
        plan: &Arc<Plan>,
        semaphores: &Arc<SharedSemaphores>,
        rule: &Rule,
        from: &PolicyEnv,
    ) -> Self {
        let message = plan.message.as_deref().map_or_else(
            || format!("the policy `{}` has as many operations under way as it may", rule.name),
            str::to_owned,
        );
        let mut rejection = Rejection::new(RejectReason::Overloaded, message);
        rejection.mode = plan.over.reject_mode();
        let state = WorkerState {
            plan: Arc::clone(plan),
            rejection,
            queue: if rule.dry_run { 0 } else { plan.queue },
            semaphores: WorkerSemaphores::new(Arc::clone(semaphores)),
            admissions: RefCell::default(),
            last: Cell::default(),
        };
        Self { listener: Arc::clone(&from.listener), state: Rc::new(state) }
    }
}

impl WorkerPolicy for WorkerConcurrencyLimit {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        let key_hasher = self.state.plan.key_spec.hasher(&self.listener, key);
        Some(Box::new(ConcurrencySeries { key_hasher, state: Rc::clone(&self.state) }))
    }
}

/// A concurrency limit as it applies to one series.
struct ConcurrencySeries {
    key_hasher: KeyHasher,
    state: Rc<WorkerState>,
}

impl SeriesPolicy for ConcurrencySeries {
    fn admit(&self, operation: &Operation<'_>, now: Instant, id: &mut u64) -> Decision {
        // What waits by design is no load.
        if operation.long_poll {
            return Decision::Admit;
        }
        let state = &self.state;
        let semaphore = state.semaphores.find(self.key_hasher.key(operation));
        if semaphore.try_acquire() {
            *id = state.keep(Admission::Running(semaphore, now));
            return Decision::Admit;
        }
        let Some(waiting) = semaphore.enqueue(state.queue) else {
            return Decision::Reject(state.rejection.clone());
        };
        *id = state.keep(Admission::Queued);
        let timeout = state.plan.queue_timeout;
        let queued = QueuedOperation { number: *id, state: Rc::clone(state), semaphore };
        Decision::Pending(Box::pin(queued.wait_for_slot(waiting, timeout)))
    }

    fn settle(&self, done: &Settled<'_>, id: u64) {
        // An operation that ends while it waits leaves the queue when its future is dropped.
        let admission = self.state.admissions.borrow_mut().remove(&id);
        if let Some(Admission::Running(semaphore, since)) = admission {
            let now = done.how.now;
            semaphore.release_after(now.saturating_duration_since(since), now);
        }
    }
}

impl WorkerState {
    fn keep(&self, admission: Admission) -> u64 {
        // 0 remains the state of operations without a permit.
        let number = self.last.get() + 1;
        self.last.set(number);
        self.admissions.borrow_mut().insert(number, admission);
        number
    }
}

/// An operation's turn, which is still to come.
struct QueuedOperation {
    number: u64,
    state: Rc<WorkerState>,
    semaphore: Arc<Semaphore>,
}

impl QueuedOperation {
    async fn wait_for_slot(self, waiting: QueuePosition, timeout: Duration) -> Decision {
        if tokio::time::timeout(timeout, waiting.acquired()).await.is_err() {
            return Decision::Reject(self.state.rejection.clone());
        }
        let now = tokio::time::Instant::now().into_std();
        match self.state.admissions.borrow_mut().get_mut(&self.number) {
            Some(admission) => *admission = Admission::Running(Arc::clone(&self.semaphore), now),
            // It has ended meanwhile.
            None => self.semaphore.release(),
        }
        Decision::waited()
    }
}

impl Drop for QueuedOperation {
    fn drop(&mut self) {
        let mut admissions = self.state.admissions.borrow_mut();
        if let Some(Admission::Queued) = admissions.get(&self.number) {
            admissions.remove(&self.number);
        }
    }
}
