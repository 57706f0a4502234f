//! How many there are of something on one worker.

use std::{cell::Cell, rc::Rc};

/// A number of things that are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    /// Counts one more, until the result is dropped.
    pub(crate) fn add(&self) -> Counted {
        self.0.set(self.0.get() + 1);
        Counted(self.clone())
    }

    /// How many there are now.
    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        let Count(count) = &self.0;
        count.set(count.get() - 1);
    }
}
