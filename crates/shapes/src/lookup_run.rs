//! Runs of lookups: a program that sends a query for each item of a list.
//!
//! A run is a row of lookups of one shape with pauses below 50 ms. In a loop they follow each other on one
//! connection, after the query for the list; a program that sends them at once spreads them over its
//! connections, where they overlap. Lookups that follow nothing but their own kind are no sign of a loop:
//! a busy service may have only this one query.

use operation::LookupRun;

/// From how many lookups on a run is a finding.
pub(crate) const MIN_LENGTH: u32 = 10;

/// The pause that ends a run, in nanoseconds.
const MAX_PAUSE: u64 = 50_000_000;

/// A run that has ended, and was long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedRun {
    /// The key of its shape.
    pub(crate) key: u64,
    pub(crate) length: u32,
}

/// Continues the run with a lookup of the shape `key` that began and ended at these times, or begins the next
/// one. Returns the run that has ended with it, if `is_long` says that it is a finding.
pub(crate) fn advance(
    run: &mut LookupRun,
    key: u64,
    (began, ended): (u64, u64),
    is_long: impl Fn(&LookupRun) -> bool,
) -> Option<EndedRun> {
    if run.key == key && began.saturating_sub(run.ended) < MAX_PAUSE {
        run.length += 1;
        run.overlapping += u32::from(began < run.ended);
        run.ended = run.ended.max(ended);
        return None;
    }
    let long = is_long(run).then_some(EndedRun { key: run.key, length: run.length });
    let follows_another = run.key != key && run.key != 0;
    let client = run.client;
    *run = LookupRun { key, length: 1, overlapping: 0, follows_another, client, ended };
    long
}

/// Whether the lookups of a connection are a loop.
pub(crate) fn is_loop(run: &LookupRun) -> bool {
    run.length >= MIN_LENGTH && run.follows_another
}

/// Whether the lookups of a client, over its connections on one of `workers` workers, were sent at once.
pub(crate) fn is_burst(run: &LookupRun, workers: usize) -> bool {
    run.length >= min_burst(workers) && run.follows_another && run.overlapping * 2 >= run.length
}

/// From how many lookups on one of `workers` workers a burst is a finding: a client's connections are
/// spread evenly over the workers.
pub(crate) fn min_burst(workers: usize) -> u32 {
    MIN_LENGTH.div_ceil(workers as u32).max(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nanoseconds.
    const MS: u64 = 1_000_000;

    /// Sends lookups, each given by its key, the pause before it and its duration in milliseconds. Returns
    /// the runs that ended, the last one among them.
    fn ended(
        lookups: impl IntoIterator<Item = (u64, u64, u64)>,
        is_long: impl Fn(&LookupRun) -> bool,
    ) -> Vec<EndedRun> {
        let (mut run, mut now, mut all) = (LookupRun::default(), MS, Vec::new());
        let end = (u64::MAX, 1000, 1);
        for (key, pause, took) in lookups.into_iter().chain([end]) {
            let began = now + MS * pause;
            now = began + MS * took;
            all.extend(advance(&mut run, key, (began, now), &is_long));
        }
        all
    }

    #[test]
    fn a_loop_after_another_query_is_found_with_its_length() {
        let lookups = [(1, 0, 5)].into_iter().chain([(2, 1, 2); 20]).chain([(3, 1, 1)]);
        assert_eq!(ended(lookups, is_loop), [EndedRun { key: 2, length: 20 }]);
    }

    #[test]
    fn short_runs_and_pauses_are_no_loop() {
        let short = [(1, 0, 1)].into_iter().chain([(2, 1, 1); 9]);
        let slow = [(1, 0, 1)].into_iter().chain([(2, 50, 1); 100]);
        let pause = [(2, 1, 1); 9].into_iter().chain([(2, 60, 1)]).chain([(2, 1, 1); 8]);
        let broken = [(1, 0, 1)].into_iter().chain(pause);
        for lookups in [short.collect::<Vec<_>>(), slow.collect(), broken.collect()] {
            assert_eq!(ended(lookups, is_loop), []);
        }
    }

    #[test]
    fn the_only_query_of_a_busy_service_is_no_loop() {
        assert_eq!(ended([(2, 1, 1); 1000], is_loop), []);
    }

    #[test]
    fn lookups_sent_at_once_are_a_burst_and_a_loop_is_none() {
        let mut run = LookupRun { key: 1, ..LookupRun::default() };
        let began = MS;
        for reply in 0..20 {
            assert_eq!(advance(&mut run, 2, (began, began + MS * (3 + reply)), is_loop), None);
        }
        assert!(is_burst(&run, 1) && is_burst(&run, 2));
        let one_by_one = [(1, 0, 1)].into_iter().chain([(2, 1, 1); 20]);
        assert_eq!(ended(one_by_one, |run| is_burst(run, 1)), []);
    }

    #[test]
    fn a_client_on_several_workers_needs_fewer_lookups_on_each() {
        let run = |length| LookupRun {
            length,
            overlapping: length,
            follows_another: true,
            ..LookupRun::default()
        };
        assert!(!is_burst(&run(9), 1) && is_burst(&run(10), 1));
        assert!(!is_burst(&run(5), 2) && is_burst(&run(6), 2));
        assert!(!is_burst(&run(5), 100) && is_burst(&run(6), 100));
    }
}
