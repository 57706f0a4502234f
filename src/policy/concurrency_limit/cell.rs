//! The operations under way that share a limit, on all workers, and those that wait for a place.
//!
//! How many are under way and how many wait is one number, so that whoever ends sees whoever
//! waits, or the other way round. Only where somebody waits is there a lock.

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
pub(super) struct Cell {
    /// How many are under way, and in the upper half how many wait.
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
pub(super) enum Size {
    Fixed(usize),
    Adaptive(gradient::Plan),
}

impl Cell {
    pub(super) fn new(size: Size) -> Self {
        let (limit, gradient) = match size {
            Size::Fixed(limit) => (limit, None),
            Size::Adaptive(plan) => (plan.initial, Some(Mutex::new(Gradient::new(plan)))),
        };
        let (count, queue) = (AtomicU64::new(0), Mutex::default());
        Self { count, limit: AtomicUsize::new(limit), gradient, queue }
    }

    /// Whether nothing is under way, and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Takes a place, unless there is none or others were here first.
    pub(super) fn enter(&self) -> bool {
        let enter = |count| (count < WAITING && self.has_room(count)).then_some(count + 1);
        self.count.fetch_update(SeqCst, SeqCst, enter).is_ok()
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        if self.count.fetch_sub(1, SeqCst) >= WAITING {
            self.admit_waiting(&mut self.lock());
        }
    }

    /// Gives a place back, and tells how long it was held.
    pub(super) fn leave_after(&self, took: Duration, now: Instant) {
        let busy = under_way(self.count.load(SeqCst));
        self.leave();
        // Where another worker is telling already, one sample more or less is nothing.
        let gradient = self.gradient.as_ref().and_then(|gradient| gradient.try_lock().ok());
        let Some(mut gradient) = gradient else { return };
        gradient.took(took, busy, now);
        let limit = gradient.limit();
        drop(gradient);
        if self.limit.swap(limit, Relaxed) < limit && self.count.load(SeqCst) >= WAITING {
            self.admit_waiting(&mut self.lock());
        }
    }

    /// Waits for a place, at the end of the queue; `None` if as many wait as may.
    pub(super) fn wait(self: &Arc<Self>, most: usize) -> Option<Waiting> {
        let mut queue = self.lock();
        if queue.waiting.len() >= most {
            return None;
        }
        let (granted, place) = oneshot::channel();
        queue.last += 1;
        let number = queue.last;
        queue.waiting.push_back((number, granted));
        self.count.fetch_add(WAITING, SeqCst);
        // A place may have become free before this one could be seen to wait.
        self.admit_waiting(&mut queue);
        drop(queue);
        Some(Waiting { cell: Arc::clone(self), number, place, took: false })
    }

    /// Gives places that are free to those that wait, in order.
    fn admit_waiting(&self, queue: &mut Queue) {
        while let Some((number, granted)) = queue.waiting.pop_front() {
            let enter = |count| self.has_room(count).then_some(count + 1 - WAITING);
            if self.count.fetch_update(SeqCst, SeqCst, enter).is_err() {
                queue.waiting.push_front((number, granted));
                return;
            }
            // Who is gone meanwhile finds the place when it looks for it, and gives it back.
            if granted.send(()).is_err() {
                self.count.fetch_sub(1, SeqCst);
            }
        }
    }

    fn has_room(&self, count: u64) -> bool {
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
pub(super) struct Waiting {
    cell: Arc<Cell>,
    number: u64,
    place: oneshot::Receiver<()>,
    took: bool,
}

impl Waiting {
    /// Ready when there is a place, which is then whoever's asked.
    pub(super) async fn granted(mut self) {
        // The other end stays until it grants.
        self.took = (&mut self.place).await.is_ok();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.took {
            return;
        }
        let mut queue = self.cell.lock();
        let at = queue.waiting.iter().position(|(number, _)| *number == self.number);
        if let Some(at) = at {
            queue.waiting.remove(at);
            self.cell.count.fetch_sub(WAITING, SeqCst);
            return;
        }
        drop(queue);
        self.place.close();
        if self.place.try_recv().is_ok() {
            self.cell.leave();
        }
    }
}

#[cfg(test)]
mod tests;
