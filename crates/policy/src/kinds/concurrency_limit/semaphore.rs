//! The operations of all workers that share a limit: those in flight, and those that wait for a permit.
//!
//! The running and the waiting are counted in one number, so that an operation that ends sees
//! those that wait, and the other way round. The lock is taken only if some wait.

use super::gradient::{self, Gradient};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// One that waits, in the upper half of the count.
const WAITING: u64 = 1 << 32;

/// The operations that share a limit.
#[derive(Debug)]
pub(super) struct Semaphore {
    /// The number in flight in the lower half, and the number that wait in the upper half.
    count: AtomicU64,
    limit: AtomicUsize,
    gradient: Option<Mutex<Gradient>>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// How large a limit is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LimitMode {
    Fixed(usize),
    Adaptive(gradient::Plan),
}

impl Semaphore {
    pub(super) fn new(mode: LimitMode) -> Self {
        let (limit, gradient) = match mode {
            LimitMode::Fixed(limit) => (limit, None),
            LimitMode::Adaptive(plan) => (plan.initial, Some(Mutex::new(Gradient::new(plan)))),
        };
        let (count, queue) = (AtomicU64::new(0), Mutex::default());
        Self { count, limit: AtomicUsize::new(limit), gradient, queue }
    }

    /// Whether no operation runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Takes a place, unless there is none or others were here first.
    pub(super) fn try_acquire(&self) -> bool {
        let try_acquire =
            |count| (count < WAITING && self.has_capacity(count)).then_some(count + 1);
        self.count.fetch_update(SeqCst, SeqCst, try_acquire).is_ok()
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        if self.count.fetch_sub(1, SeqCst) >= WAITING {
            self.grant_waiting(&mut self.lock());
        }
    }

    /// Releases a slot that was held for `took`, which the adaptive limit samples.
    pub(super) fn release_after(&self, took: Duration, now: Instant) {
        let busy = under_way(self.count.load(SeqCst));
        self.release();
        // While another worker records, this sample is dropped: one more or less makes no difference.
        let gradient = self.gradient.as_ref().and_then(|gradient| gradient.try_lock().ok());
        let Some(mut gradient) = gradient else { return };
        gradient.record(took, busy, now);
        let limit = gradient.limit();
        drop(gradient);
        if self.limit.swap(limit, Relaxed) < limit && self.count.load(SeqCst) >= WAITING {
            self.grant_waiting(&mut self.lock());
        }
    }

    /// Waits for a place, at the end of the queue; `None` if as many wait as may.
    pub(super) fn enqueue(self: &Arc<Self>, most: usize) -> Option<QueuePosition> {
        let mut queue = self.lock();
        if queue.waiting.len() >= most {
            return None;
        }
        let (granted, admission) = oneshot::channel();
        queue.last += 1;
        let number = queue.last;
        queue.waiting.push_back((number, granted));
        self.count.fetch_add(WAITING, SeqCst);
        // A place may have become free before this one could be seen to wait.
        self.grant_waiting(&mut queue);
        drop(queue);
        Some(QueuePosition { semaphore: Arc::clone(self), number, admission, taken: false })
    }

    /// Gives places that are free to those that wait, in order.
    fn grant_waiting(&self, queue: &mut Queue) {
        while let Some((number, granted)) = queue.waiting.pop_front() {
            let try_acquire = |count| self.has_capacity(count).then_some(count + 1 - WAITING);
            if self.count.fetch_update(SeqCst, SeqCst, try_acquire).is_err() {
                queue.waiting.push_front((number, granted));
                return;
            }
            // One that left meanwhile finds the slot when it is dropped, and releases it.
            if granted.send(()).is_err() {
                self.count.fetch_sub(1, SeqCst);
            }
        }
    }

    fn has_capacity(&self, count: u64) -> bool {
        under_way(count) < self.limit.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn under_way(count: u64) -> usize {
    (count % WAITING) as usize
}

/// A place in the queue. Dropped, it is left, with the place that may have been granted meanwhile.
#[derive(Debug)]
pub(super) struct QueuePosition {
    semaphore: Arc<Semaphore>,
    number: u64,
    admission: oneshot::Receiver<()>,
    taken: bool,
}

impl QueuePosition {
    /// Ready when a slot is granted; the caller then holds it.
    pub(super) async fn acquired(mut self) {
        // The other end stays until it grants.
        self.taken = (&mut self.admission).await.is_ok();
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut queue = self.semaphore.lock();
        let at = queue.waiting.iter().position(|(number, _)| *number == self.number);
        if let Some(at) = at {
            queue.waiting.remove(at);
            self.semaphore.count.fetch_sub(WAITING, SeqCst);
            return;
        }
        drop(queue);
        self.admission.close();
        if self.admission.try_recv().is_ok() {
            self.semaphore.release();
        }
    }
}

#[cfg(test)]
mod tests;
