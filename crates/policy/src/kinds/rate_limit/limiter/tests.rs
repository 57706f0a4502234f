//! What passes in simulated time.

use super::*;
use crate::testing::Random;
use std::{collections::HashMap, thread};
use values::Rate;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn buckets(amount: u64, burst: u64, keys: usize) -> Arc<Buckets> {
    let allowance = Allowance { rate: Rate { amount, per: SECOND }, burst };
    Arc::new(Buckets::new(allowance, keys, Instant::now()))
}

fn limiter(buckets: &Arc<Buckets>) -> Limiter {
    Limiter::new(Arc::clone(buckets), Counter::noop())
}

/// How many of `tries` pass at this moment.
fn pass(limiter: &Limiter, key: u64, now: Instant, tries: u32) -> usize {
    (0..tries).filter(|_| limiter.take(key, now)).count()
}

#[test]
fn a_burst_passes_at_once_and_then_one_each_interval() {
    let buckets = buckets(100, 5, 10);
    let (limiter, start) = (limiter(&buckets), buckets.epoch);
    assert_eq!(pass(&limiter, 1, start, 10), 5);
    assert_eq!(pass(&limiter, 1, start + 10 * MS - Duration::from_nanos(1), 10), 0);
    assert_eq!(pass(&limiter, 1, start + 10 * MS, 10), 1);
    assert_eq!(pass(&limiter, 1, start + 35 * MS, 10), 2);
    assert_eq!(pass(&limiter, 1, start + 40 * MS, 10), 1, "the half that was left counts");
    // However long the pause.
    assert_eq!(pass(&limiter, 1, start + 3600 * SECOND, 10), 5);
    assert_eq!(pass(&limiter, 2, start, 10), 5, "another key has its own");
}

#[test]
fn a_worker_that_comes_later_finds_the_same_buckets() {
    let buckets = buckets(100, 5, 10);
    let start = buckets.epoch;
    assert_eq!(pass(&limiter(&buckets), 1, start + SECOND, 3), 3);
    assert_eq!(pass(&limiter(&buckets), 1, start + SECOND, 5), 2);
    // Its operation came a moment earlier than the other's, or before the limit was there.
    assert_eq!(pass(&limiter(&buckets), 1, start - SECOND, 5), 0);
}

#[test]
fn it_decides_as_a_simple_model_does() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (amount, burst) = (1 + random.below(1000), 1 + random.below(20));
        let buckets = buckets(amount, burst, 200);
        let limiter = limiter(&buckets);
        let each = 1_000_000_000.0 / amount as f64;
        // How much each key has, and since when.
        let mut model: HashMap<u64, (f64, u64)> = HashMap::new();
        let mut now = 0;
        for step in 0..5000 {
            now += random.below(each as u64 / 2);
            let key = random.below(40);
            let (left, since) = model.entry(key).or_insert((burst as f64, now));
            *left = (*left + (now - *since) as f64 / each).min(burst as f64);
            *since = now;
            // Where the model is not sure of its last digits, either will do.
            if (*left - 1.0).abs() < 1e-6 {
                *left = if limiter.take(key, buckets.epoch + Duration::from_nanos(now)) {
                    *left - 1.0
                } else {
                    *left
                };
                continue;
            }
            let expected = *left >= 1.0;
            *left -= f64::from(u8::from(expected));
            let passed = limiter.take(key, buckets.epoch + Duration::from_nanos(now));
            assert_eq!(passed, expected, "seed {seed}, step {step}, key {key}, {left} left");
        }
    }
}

#[test]
fn many_keys_do_not_evict_a_key_over_its_limit() {
    // One an hour: no bucket fills up again during the test.
    let allowance = Allowance { rate: Rate { amount: 1, per: 3600 * SECOND }, burst: 1 };
    let buckets = Arc::new(Buckets::new(allowance, 1000, Instant::now()));
    let (metrics, name) = (tollgate_metrics::Metrics::new(), "tollgate_rate_limit_overflow_total");
    let limiter = Limiter::new(Arc::clone(&buckets), metrics.counter(name, &[("policy", "it")]));
    let now = buckets.epoch;
    assert!(limiter.take(7, now));
    let mut random = Random(6);
    let passed = (0..1_000_000).filter(|_| limiter.take(random.below(u64::MAX), now)).count();
    assert!(!limiter.take(7, now), "it is remembered");
    // As many as there is room for, and one of all the others.
    assert!((1490..=1505).contains(&passed), "{passed}");
    assert_eq!(pass(&limiter, 8, now, 3), 0, "who comes now shares what is used up");
    let mut overflow = String::new();
    metrics.render(&mut overflow);
    let line = overflow.lines().find(|line| line.starts_with(name)).unwrap();
    let count: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1_000_005 - 1505..=1_000_005 - 1490).contains(&count), "{count}");
}

#[test]
fn places_in_the_queue_go_in_order_and_end_at_the_longest_wait() {
    let buckets = buckets(100, 2, 10);
    let (limiter, start) = (limiter(&buckets), buckets.epoch);
    assert_eq!(pass(&limiter, 1, start, 2), 2);
    let waits: Vec<_> = (0..5).map(|_| limiter.reserve(1, start, 30 * MS)).collect();
    assert_eq!(waits, [Some(10 * MS), Some(20 * MS), Some(30 * MS), None, None]);
    assert!(!limiter.take(1, start + 25 * MS), "what comes in between is spoken for");
    assert_eq!(limiter.reserve(1, start + 25 * MS, 30 * MS), Some(15 * MS));
    // A rejected operation holds no place.
    assert_eq!(limiter.reserve(1, start + 50 * MS, 30 * MS), Some(Duration::ZERO));
}

#[test]
fn a_wait_may_be_shorter_than_the_interval() {
    // One a second; an operation that may wait for up to 300 ms gets it.
    let buckets = buckets(1, 1, 10);
    let (limiter, start) = (limiter(&buckets), buckets.epoch);
    assert!(limiter.take(1, start));
    assert_eq!(limiter.reserve(1, start + 600 * MS, 300 * MS), None);
    assert_eq!(limiter.reserve(1, start + 750 * MS, 300 * MS), Some(250 * MS));
    assert!(!limiter.take(1, start + 1999 * MS));
    assert!(limiter.take(1, start + 2000 * MS));
}

#[test]
fn a_debt_is_paid_before_anything_else_passes() {
    // 1000 a second, 500 at once.
    let buckets = buckets(1000, 500, 10);
    let (limiter, start) = (limiter(&buckets), buckets.epoch);
    assert_eq!(limiter.debt(1, start), Duration::ZERO);
    limiter.charge(1, 499, start);
    assert_eq!(limiter.debt(1, start), Duration::ZERO, "there is one left");
    limiter.charge(1, 2001, start);
    // 2000 too many: those take two seconds, and a nanosecond for something to give.
    assert_eq!(limiter.debt(1, start), 2 * SECOND + Duration::from_nanos(1));
    assert_eq!(limiter.debt(1, start + 2 * SECOND), Duration::from_nanos(1));
    assert_eq!(limiter.debt(1, start + 2 * SECOND + Duration::from_nanos(1)), Duration::ZERO);
    assert_eq!(limiter.debt(2, start), Duration::ZERO, "another key owes nothing");
}

#[test]
fn bytes_that_take_less_than_a_nanosecond_are_counted_too() {
    let buckets = buckets(4 << 30, 1, 10);
    let (limiter, start) = (limiter(&buckets), buckets.epoch);
    for _ in 0..1000 {
        limiter.charge(1, 1 << 20, start);
    }
    let paid = limiter.debt(1, start).as_secs_f64();
    let exact = 1000.0 * f64::from(1 << 20) / (4_u64 << 30) as f64;
    assert!((paid / exact - 1.0).abs() < 1e-5, "{paid} s, exactly {exact} s");
}

#[test]
fn a_huge_debt_does_not_overflow() {
    let buckets = buckets(1, 1, 10);
    let (limiter, start) = (limiter(&buckets), buckets.epoch);
    limiter.charge(1, u64::MAX, start);
    limiter.charge(1, u64::MAX, start);
    assert!(limiter.debt(1, start) > 100 * 365 * 24 * 3600 * SECOND);
}

/// 64 clients on `threads` threads push five times the limit for ten seconds of simulated time.
fn passed(threads: u64, amount: u64, burst: u64) -> u64 {
    let buckets = buckets(amount, burst, 1000);
    let step = Duration::from_secs_f64(64.0 / (5.0 * amount as f64 / threads as f64));
    let worker = |seed| {
        let (limiter, mut random) = (limiter(&buckets), Random(seed));
        let (mut now, end) = (buckets.epoch, buckets.epoch + 10 * SECOND);
        let mut passed = 0;
        while now < end {
            let mut late = [(); 64].map(|()| random.below(step.as_nanos() as u64));
            late.sort_unstable();
            let came = late.iter().map(|late| now + Duration::from_nanos(*late));
            passed += came.filter(|now| limiter.take(1, *now)).count() as u64;
            now += step;
        }
        passed
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|seed| scope.spawn(move || worker(seed))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

#[test]
fn five_times_the_limit_gets_through_at_the_limit() {
    for (threads, amount, burst) in
        [(1, 500, 100), (2, 500, 100), (1, 30_000, 100), (2, 7_777, 500)]
    {
        let passed = passed(threads, amount, burst);
        let exact = (amount * 10 + burst) as f64;
        let off = passed as f64 / exact - 1.0;
        assert!(off.abs() < 0.02, "{threads} threads, {amount}/s: {passed}, exactly {exact}");
    }
}
