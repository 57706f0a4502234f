//! What a table keeps, and what it may forget.

use super::*;
use crate::testing::Random;
use std::{convert::Infallible, thread};

fn charge(table: &ArrivalTable, key: u64, now: u64, cost: u64) -> bool {
    let updated: Updated<Result<(), Infallible>> =
        table.update(key, now, |time| Ok(((), Nanos::new(time.max(now) + cost))));
    updated.overflow
}

#[test]
fn a_key_stays_until_its_bucket_is_full_again() {
    let table = ArrivalTable::new(8);
    let mut random = Random(1);
    assert!(!charge(&table, 7, 100, 50));
    for _ in 0..1000 {
        charge(&table, random.below(u64::MAX), 149, 1);
    }
    assert_eq!(table.time(7, 149), 150);
    for _ in 0..1000 {
        charge(&table, random.below(u64::MAX), 150, 1);
    }
    assert_ne!(table.time(7, 150), 150);
}

#[test]
fn keys_without_a_place_share_the_overflow_bucket() {
    let table = ArrivalTable::new(8);
    let mut random = Random(2);
    let crowd = (0..100).filter(|_| charge(&table, random.below(u64::MAX), 10, 1000)).count();
    assert!(crowd >= 84, "{crowd} of 100 found no room among 16");
    // One after the other in the same bucket.
    assert_eq!(table.time(random.below(u64::MAX), 10), 10 + 1000 * crowd as u64);
    assert!(!charge(&table, 7, 1010, 5), "there is room again");
}

#[test]
fn as_many_keys_as_promised_find_room() {
    let table = ArrivalTable::new(100_000);
    let mut random = Random(3);
    let crowd = (0..100_000).filter(|_| charge(&table, random.below(u64::MAX), 10, 1000)).count();
    assert!(crowd < 10, "{crowd} of 100000 found no room");
    assert!((2_300_000..2_450_000).contains(&table.bytes()), "{}", table.bytes());
}

#[test]
fn a_table_takes_memory_for_the_keys_that_it_has() {
    let table = ArrivalTable::new(100_000);
    let mut random = Random(6);
    assert_eq!(table.time(random.below(u64::MAX), 10), 0);
    let at_rest = table.bytes();
    assert!(at_rest < 40_000, "{at_rest}");
    for keys in [1, 9, 90, 900] {
        (0..keys).for_each(|_| assert!(!charge(&table, random.below(u64::MAX), 10, 1000)));
        let (bytes, more) = (table.bytes(), keys as usize * 1024);
        assert!(bytes > at_rest && bytes <= at_rest + more + more / 8, "{keys}: {bytes}");
    }
    // The same keys come back, and take their old slots.
    let before = table.bytes();
    let mut random = Random(6);
    (0..1000).for_each(|_| assert!(!charge(&table, random.below(u64::MAX), 2000, 1000)));
    assert_eq!(table.bytes(), before);
}

#[test]
fn nothing_is_lost_or_forgotten_between_threads() {
    // Two keys that never rest, in a table that a crowd of others passes through.
    let table = ArrivalTable::new(8);
    let rounds = 20_000;
    let hammer = |seed| {
        let (table, mut random) = (&table, Random(seed));
        move || {
            for now in 0..rounds {
                charge(table, 1, now, 10);
                charge(table, 2, now, 10);
                charge(table, random.below(u64::MAX), now, 1);
            }
        }
    };
    charge(&table, 1, 0, 10);
    charge(&table, 2, 0, 10);
    thread::scope(|scope| {
        scope.spawn(hammer(4));
        scope.spawn(hammer(5));
    });
    let each = 10 * (2 * rounds + 1);
    assert_eq!([table.time(1, 0), table.time(2, 0)], [each, each]);
}
