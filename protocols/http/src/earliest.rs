//! The earliest of several deadlines.

use std::time::{Duration, Instant};

/// The earliest of the deadlines that were added, and what its expiry means.
pub(crate) struct Earliest<T>(Option<(Instant, T)>);

impl<T> Default for Earliest<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Earliest<T> {
    /// Adds a deadline: `timeout` after `since`. There is none if one of them is absent. Of equal
    /// ones the first counts.
    pub(crate) fn add(
        &mut self,
        since: Option<Instant>,
        timeout: Option<Duration>,
        meaning: impl FnOnce(Duration) -> T,
    ) {
        if let (Some(since), Some(timeout)) = (since, timeout) {
            let due = since + timeout;
            if self.is_earlier(due) {
                self.0 = Some((due, meaning(timeout)));
            }
        }
    }

    /// Adds a deadline at this time.
    pub(crate) fn add_at(&mut self, due: Instant, meaning: T) {
        if self.is_earlier(due) {
            self.0 = Some((due, meaning));
        }
    }

    fn is_earlier(&self, due: Instant) -> bool {
        self.0.as_ref().is_none_or(|(earliest, _)| due < *earliest)
    }

    /// The earliest; `None` if none was added.
    pub(crate) fn take(self) -> Option<(Instant, T)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_counts() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut next = Earliest::default();
        next.add(Some(now), Some(2 * second), |_| "later");
        next.add(Some(now), Some(second), |_| "earliest");
        next.add(Some(now), Some(second), |_| "equal");
        next.add_at(now + second, "equal too");
        next.add(None, Some(Duration::ZERO), |_| "without a start");
        next.add(Some(now), None, |_| "without a timeout");
        assert_eq!(next.take(), Some((now + second, "earliest")));
        assert_eq!(Earliest::<()>::default().take(), None);
    }
}
