//! Operations that wait because the cluster is paused.
//!
//! Each pool follows the pause in a task on its own worker. What an operation asks is thus a plain flag, and
//! what was taken before the flag was set is counted when the cluster learns that it is set.

use super::{ConnectionPool, TakeOptions};
use crate::{
    Cluster, PauseError,
    count::Count,
    cutover::{Cutover, Hold},
};
use std::{cell::Cell, rc::Rc, sync::Arc};
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

/// What a pool holds back.
pub(super) struct Pausing {
    cutover: Arc<Cutover>,
    hold: Cell<Hold>,
    /// Notified when less is held back.
    released: Notify,
    /// Operations of this pool that wait.
    waiting: Count,
}

impl Pausing {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let cutover = Arc::clone(&cluster.cutover);
        cutover.pool_holds(None, Some(Hold::Nothing));
        Self { cutover, hold: Cell::default(), released: Notify::new(), waiting: Count::default() }
    }
}

impl Drop for Pausing {
    fn drop(&mut self) {
        self.cutover.pool_holds(Some(self.hold.get()), None);
    }
}

impl ConnectionPool {
    /// Whether the operation has to wait for the end of a pause.
    pub(super) fn is_held_back(&self, options: &TakeOptions) -> bool {
        match self.pausing.hold.get() {
            Hold::Nothing => false,
            Hold::New => !options.continues_state,
            Hold::All => true,
        }
    }

    /// Follows the pauses of the cluster.
    pub(super) async fn follow_pauses(self: Rc<Self>) {
        let mut holds = self.cluster.cutover.follow();
        loop {
            let hold = holds.now();
            let before = self.pausing.hold.replace(hold);
            if before != hold {
                if hold == Hold::Nothing {
                    self.pausing.released.notify_waiters();
                } else {
                    // They wait for the end of the pause, unless they may go on.
                    self.release_waiters(|_| true);
                }
                self.pausing.cutover.pool_holds(Some(before), Some(hold));
            }
            if !holds.changed().await {
                return;
            }
        }
    }

    /// Waits until the operation is not held back any more.
    ///
    /// # Errors
    /// The pause goes on at the deadline, or too many operations wait.
    pub(super) async fn wait_while_paused(
        &self,
        options: &TakeOptions,
        deadline: Instant,
    ) -> Result<(), PauseError> {
        let (waiting, began) = (self.pausing.waiting.get(), Instant::now());
        if waiting >= self.plan().wait_queue_size {
            return Err(PauseError::QueueFull(waiting));
        }
        let _counted = self.pausing.cutover.begin_waiting();
        let _waiting = self.pausing.waiting.add();
        while self.is_held_back(options) {
            let released = self.pausing.released.notified();
            let released = time::timeout_at(deadline, released).await;
            released.map_err(|_| PauseError::TimedOut(began.elapsed()))?;
        }
        Ok(())
    }
}
