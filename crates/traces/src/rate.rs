//! The limit of spans per second, over all workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the spans of each second, without a lock.
#[derive(Debug)]
pub(crate) struct SpanRate {
    max: u32,
    /// The second, and the spans that it has had: 32 bits each.
    state: AtomicU64,
}

impl SpanRate {
    /// At most `max` spans in each second.
    pub(crate) fn new(max: u32) -> Self {
        Self { max, state: AtomicU64::new(0) }
    }

    /// Takes `spans` of this second's; `false` if fewer are left. The spans of one operation go
    /// together.
    pub(crate) fn take(&self, second: u64, spans: u32) -> bool {
        let second = second & u64::from(u32::MAX);
        let taken = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let used = if state >> 32 == second { state as u32 } else { 0 };
            let used = used.checked_add(spans).filter(|used| *used <= self.max)?;
            Some(second << 32 | u64::from(used))
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_spans() {
        let rate = SpanRate::new(3);
        assert!(rate.take(10, 2));
        assert!(!rate.take(10, 2), "one is left");
        assert!(rate.take(10, 1));
        assert!(!rate.take(10, 1));
        assert!(rate.take(11, 3));
        assert!(!rate.take(11, u32::MAX));
    }
}
