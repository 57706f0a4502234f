//! The listeners of a worker, which reloads of the config change.

use crate::listener::WorkerListener;
use shapes::WorkerShapes;
use std::{
    cell::{Ref, RefCell},
    rc::Rc,
};

/// The listeners of a worker.
#[derive(Default)]
pub(super) struct Listeners {
    current: RefCell<Vec<Rc<WorkerListener>>>,
    /// As they were before reloads changed or removed them, while they have connections.
    ended: RefCell<Vec<Rc<WorkerListener>>>,
}

impl Listeners {
    /// Those of the newest config.
    pub(super) fn current(&self) -> Ref<'_, Vec<Rc<WorkerListener>>> {
        self.current.borrow()
    }

    /// Those of older configs, while they have connections.
    pub(super) fn ended(&self) -> Ref<'_, Vec<Rc<WorkerListener>>> {
        self.ended.borrow()
    }

    /// The listener with this id; if the config does not have it any more, as it was: a worker that does not know
    /// that yet may hand over a connection.
    pub(super) fn find(&self, id: u64) -> Option<Rc<WorkerListener>> {
        let has_id = |listener: &&Rc<WorkerListener>| listener.state().id == id;
        let current = self.current.borrow().iter().find(has_id).cloned();
        current.or_else(|| self.ended.borrow().iter().rev().find(has_id).cloned())
    }

    /// Replaces all.
    pub(super) fn replace(&self, listeners: Vec<Rc<WorkerListener>>) {
        let before = self.current.replace(listeners);
        let (current, mut ended) = (self.current.borrow(), self.ended.borrow_mut());
        // The last reference is this list's, so it has no connection.
        ended.retain(|listener| Rc::strong_count(listener) > 1);
        let is_current = |one: &Rc<WorkerListener>| current.iter().any(|it| Rc::ptr_eq(it, one));
        ended.extend(before.into_iter().filter(|it| !is_current(it)));
    }

    /// The worker's table of query shapes, which its listeners share; `None` if no listener counts them.
    pub(super) fn shapes(&self) -> Option<Rc<WorkerShapes>> {
        self.current.borrow().iter().find_map(|listener| listener.gate().shapes().cloned())
    }
}
