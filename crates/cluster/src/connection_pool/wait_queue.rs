//! The queue of operations that wait for a connection: first come, first served, among those with the
//! same key; keys take turns.

use std::collections::VecDeque;

/// Entries that wait, in the order of their turns.
#[derive(Debug)]
pub(super) struct WaitQueue<T> {
    /// The keys in the order of their turns, each with its entries, oldest first. No list is empty.
    turns: VecDeque<(u64, VecDeque<T>)>,
    len: usize,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), len: 0 }
    }
}

impl<T> WaitQueue<T> {
    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry, the last one of its key.
    pub(super) fn push(&mut self, key: u64, entry: T) {
        self.len += 1;
        match self.turns.iter_mut().find(|(known, _)| *known == key) {
            Some((_, entries)) => entries.push_back(entry),
            None => self.turns.push_back((key, VecDeque::from([entry]))),
        }
    }

    /// Removes the entry whose turn it is. Its key gets the last turn.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (key, mut entries) = self.turns.pop_front()?;
        let entry = entries.pop_front();
        if !entries.is_empty() {
            self.turns.push_back((key, entries));
        }
        self.len -= usize::from(entry.is_some());
        entry
    }

    /// Removes the entries for which `keep` returns `false`.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for (_, entries) in &mut self.turns {
            entries.retain(&keep);
        }
        self.turns.retain(|(_, entries)| !entries.is_empty());
        self.len = self.turns.iter().map(|(_, entries)| entries.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(queue: &mut WaitQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn one_key_is_served_in_order() {
        let mut queue = WaitQueue::default();
        for entry in ["a", "b", "c"] {
            queue.push(0, entry);
        }
        assert_eq!(queue.len(), 3);
        assert_eq!(popped(&mut queue), ["a", "b", "c"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn keys_take_turns() {
        let mut queue = WaitQueue::default();
        for entry in ["a1", "a2", "a3", "a4"] {
            queue.push(1, entry);
        }
        for entry in ["b1", "b2"] {
            queue.push(2, entry);
        }
        assert_eq!(popped(&mut queue), ["a1", "b1", "a2", "b2", "a3", "a4"]);
    }

    #[test]
    fn entries_that_are_not_kept_lose_their_turn() {
        let mut queue = WaitQueue::default();
        for entry in ["a1", "a2"] {
            queue.push(1, entry);
        }
        queue.push(2, "b1");
        queue.retain(|entry| !entry.starts_with('a'));
        assert_eq!(queue.len(), 1);
        assert_eq!(popped(&mut queue), ["b1"]);
    }
}
