//! Who shares a limit: cells by key.
//!
//! A worker asks the others for a key's cell when it sees the key for the first time, and keeps
//! it then. Cells at rest are let go when there are many.

use super::cell::{Cell, Size};
use foldhash::HashMap;
use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// How many cells a worker keeps before it lets go of those at rest.
const MANY: usize = 1024;

/// The cells of all workers.
#[derive(Debug)]
pub(super) struct Shared {
    size: Size,
    cells: Mutex<(HashMap<u64, Weak<Cell>>, usize)>,
}

impl Shared {
    pub(super) fn new(size: Size) -> Self {
        Self { size, cells: Mutex::new((HashMap::default(), MANY)) }
    }

    fn find(&self, key: u64) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let (cells, many) = &mut *cells;
        if let Some(cell) = cells.get(&key).and_then(Weak::upgrade) {
            return cell;
        }
        if cells.len() >= *many {
            cells.retain(|_, cell| cell.strong_count() > 0);
            *many = MANY.max(2 * cells.len());
        }
        let cell = Arc::new(Cell::new(self.size));
        cells.insert(key, Arc::downgrade(&cell));
        cell
    }
}

/// The cells that a worker has seen.
pub(super) struct Cells {
    shared: Arc<Shared>,
    /// And at how many it looks for those at rest.
    known: RefCell<(HashMap<u64, Arc<Cell>>, usize)>,
}

impl Cells {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, known: RefCell::new((HashMap::default(), MANY)) }
    }

    /// The cell of a key.
    pub(super) fn find(&self, key: u64) -> Arc<Cell> {
        let mut known = self.known.borrow_mut();
        let (known, many) = &mut *known;
        if let Some(cell) = known.get(&key) {
            return Arc::clone(cell);
        }
        if known.len() >= *many {
            known.retain(|_, cell| !cell.is_idle());
            *many = MANY.max(2 * known.len());
        }
        let cell = self.shared.find(key);
        known.insert(key, Arc::clone(&cell));
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_cell_and_keep_it_while_it_is_in_use() {
        let shared = Arc::new(Shared::new(Size::Fixed(1)));
        let (one, two) = (Cells::new(Arc::clone(&shared)), Cells::new(Arc::clone(&shared)));
        assert!(one.find(0).enter());
        for key in 1..100_000 {
            one.find(key);
        }
        assert!(!two.find(0).enter(), "the other worker's counts");
        assert!(one.known.borrow().0.len() <= MANY);
        let held = shared.cells.lock().unwrap().0.len();
        assert!(held <= 3 * MANY, "{held}");
        two.find(0).leave();
        assert!(one.find(0).enter());
    }
}
