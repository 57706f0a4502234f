//! Exemplars: one trace for each histogram, which shows what a slow operation did.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// How long a slow operation stands for its series before a faster one may replace it.
const LIFETIME: Duration = Duration::from_secs(60);

/// The exemplar of one series: the slowest operation of the last minute whose trace is recorded.
#[derive(Debug, Default)]
pub struct ExemplarSlot(Mutex<Option<Exemplar>>);

/// An operation that took this long, and where its trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) took: Duration,
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) at: SystemTime,
}

impl ExemplarSlot {
    /// Records an operation, unless a slower one of the last minute is there. Does not wait: if
    /// another thread records or reads, that one counts.
    pub fn record(&self, took: Duration, (trace_id, span_id): (u128, u64), at: SystemTime) {
        let Ok(mut slot) = self.0.try_lock() else { return };
        let is_slower = |held: Exemplar| {
            held.took > took && at.duration_since(held.at).is_ok_and(|age| age < LIFETIME)
        };
        if !slot.is_some_and(is_slower) {
            *slot = Some(Exemplar { took, trace_id, span_id, at });
        }
    }

    pub(crate) fn get(&self) -> Option<Exemplar> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exemplar {
    /// Appends it to the line of its bucket. The names and values of its labels have 63 characters, of
    /// at most 128 (OpenMetrics 1.0, "Exemplars").
    pub(crate) fn write(&self, out: &mut String) {
        let Self { took, trace_id, span_id, at } = self;
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (at.as_secs(), at.subsec_millis());
        let _ = write!(
            out,
            " # {{trace_id=\"{trace_id:032x}\",span_id=\"{span_id:016x}\"}} {} {seconds}.{millis:03}",
            took.as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_minute_stays() {
        let slot = ExemplarSlot::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let record = |millis, seconds| {
            slot.record(Duration::from_millis(millis), (1, millis), at(seconds));
            slot.get().unwrap().span_id
        };
        assert_eq!(record(5, 100), 5);
        assert_eq!(record(3, 159), 5);
        assert_eq!(record(9, 159), 9);
        assert_eq!(record(3, 218), 9);
        assert_eq!(record(3, 219), 3, "a minute has passed");
    }
}
