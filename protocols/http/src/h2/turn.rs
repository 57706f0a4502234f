//! Wake-ups inside a client's HTTP/2 connection: they record whether its frames or its requests
//! have work, and leave the task alone while it runs.
//!
//! Frames wake requests, and requests wake the connection that writes their frames. All are one
//! task, so nearly every such wake-up comes while that task runs. Passed on to the runtime, each
//! would cost another poll of everything.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Wake, Waker},
};

/// The connection has frames to read or to write.
pub(super) const FRAMES: u8 = 1;
/// A request can go on.
pub(super) const REQUESTS: u8 = 2;
/// The task runs.
const RUNNING: u8 = 4;

/// What a connection's task has to do.
pub(super) struct Turn {
    /// The bits above.
    state: AtomicU8,
    task: Mutex<Waker>,
}

/// Wakes one part of the task.
struct PartWaker {
    turn: Arc<Turn>,
    part: u8,
}

impl Turn {
    /// Both parts have work at first.
    pub(super) fn new() -> Arc<Self> {
        let task = Mutex::new(Waker::noop().clone());
        Arc::new(Self { state: AtomicU8::new(FRAMES | REQUESTS), task })
    }

    /// A waker that records work for this part.
    pub(super) fn waker(self: &Arc<Self>, part: u8) -> Waker {
        Arc::new(PartWaker { turn: Arc::clone(self), part }).into()
    }

    /// The task begins to run; `task` wakes it later. Returns the parts with work.
    pub(super) fn begin(&self, task: &Waker) -> u8 {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
        self.take()
    }

    /// The parts that have got work since the last call.
    pub(super) fn take(&self) -> u8 {
        self.state.swap(RUNNING, AcqRel) & !RUNNING
    }

    /// The task ends its poll. `false`: a part has got work meanwhile.
    pub(super) fn end(&self) -> bool {
        self.state.compare_exchange(RUNNING, 0, AcqRel, Acquire).is_ok()
    }

    /// The task ends its poll although these parts have work; it is polled again soon.
    pub(super) fn pause(&self, parts: u8) {
        self.state.fetch_or(parts, AcqRel);
        if self.state.fetch_and(!RUNNING, AcqRel) & !RUNNING != 0 {
            self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

impl Wake for PartWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // With another bit the task runs, or is woken already.
        if self.turn.state.fetch_or(self.part, AcqRel) == 0 {
            self.turn.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn woken(task: &Task) -> usize {
        task.0.swap(0, SeqCst)
    }

    #[test]
    fn a_resting_task_is_woken_once() {
        let (turn, task) = (Turn::new(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        assert_eq!(turn.begin(&waker), FRAMES | REQUESTS);
        assert!(turn.end());
        let (frames, requests) = (turn.waker(FRAMES), turn.waker(REQUESTS));
        frames.wake_by_ref();
        requests.wake_by_ref();
        frames.wake();
        assert_eq!(woken(&task), 1);
        assert_eq!(turn.begin(&waker), FRAMES | REQUESTS);
    }

    #[test]
    fn a_running_task_finds_its_work_without_a_wake_up() {
        let (turn, task) = (Turn::new(), Arc::new(Task::default()));
        turn.begin(&Waker::from(Arc::clone(&task)));
        turn.waker(REQUESTS).wake();
        assert!(!turn.end());
        assert_eq!(turn.take(), REQUESTS);
        assert!(turn.end());
        assert_eq!(woken(&task), 0);
    }

    #[test]
    fn a_task_that_pauses_with_work_is_woken() {
        let (turn, task) = (Turn::new(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        turn.begin(&waker);
        turn.pause(FRAMES);
        assert_eq!(woken(&task), 1);
        assert_eq!(turn.begin(&waker), FRAMES);
        turn.waker(REQUESTS).wake();
        turn.pause(0);
        assert_eq!(woken(&task), 1);
        assert_eq!(turn.begin(&waker), REQUESTS);
    }
}
