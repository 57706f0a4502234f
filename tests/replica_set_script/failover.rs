//! What is left of a load after members stepped down and crashed under it.

use crate::{
    drivers::rust,
    support::replica_set::{Counters, ReplicaSet},
    three,
};
use bson::{Document, doc};
use futures_util::{StreamExt, future::join_all};
use mongodb::{Client, Collection};
use std::sync::atomic::{AtomicBool, Ordering};

/// How many clients write at once.
const WRITERS: usize = 8;
const FAILOVERS: usize = 6;

/// Lets the primary step down, then crash, then step down, …, each after some writes; then says that
/// it is over.
fn fail_over(set: &ReplicaSet, command: &str, over: &AtomicBool) {
    let total = |all: &[Counters]| all.iter().map(|it| it.operations(command)).sum::<usize>();
    for round in 0..FAILOVERS {
        let before = set.operations(command).iter().sum::<usize>();
        set.wait("some writes", |all| total(all) > before + 50);
        if round % 2 == 0 {
            set.step_down(Some(next(set)));
        } else {
            crash(set);
        }
    }
    over.store(true, Ordering::Relaxed);
}

/// The member after the primary.
fn next(set: &ReplicaSet) -> usize {
    (set.primary().unwrap() + 1) % 3
}

/// Kills the primary, elects the next one, and starts the first again.
fn crash(set: &ReplicaSet) {
    let (primary, next) = (set.primary().unwrap(), next(set));
    set.kill(primary);
    set.elect(Some(next));
    set.start_again(primary);
}

/// Runs `write` in each of the writers, again and again while members fail, and returns how often
/// each did it.
fn under_failovers(
    set: &ReplicaSet,
    command: &str,
    write: impl AsyncFn(&Client, &Collection<Document>, usize, usize),
    check: impl AsyncFn(&Collection<Document>, &[usize]),
) {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| fail_over(set, command, &over));
        rust(set, "heartbeatFrequencyMS=500", async |client, all| {
            let writers = (0..WRITERS).map(async |writer| {
                let mut times = 0;
                while !over.load(Ordering::Relaxed) {
                    write(client, &all, writer, times).await;
                    times += 1;
                }
                times
            });
            let times = join_all(writers).await;
            check(&all, &times).await;
        });
    });
}

#[test]
fn acknowledged_writes_are_done_once() {
    let Some(set) = three() else { return };
    under_failovers(
        &set,
        "update",
        async |_, all, writer, _| {
            let one = doc! { "$inc": { "times": 1 } };
            let update = all.update_one(doc! { "_id": writer as i32 }, one).upsert(true);
            update.await.expect("the driver repeats it");
        },
        async |all, times| {
            for (writer, times) in times.iter().enumerate() {
                let found = all.find_one(doc! { "_id": writer as i32 }).await.unwrap().unwrap();
                assert_eq!(found.get_i32("times").unwrap() as usize, *times);
            }
        },
    );
    let interrupted: usize = (0..3).map(|member| set.counters(member).refusals(11602)).sum();
    assert!(interrupted > 0, "no step-down came while a write was under way");
}

#[test]
fn committed_transactions_are_whole_and_done_once() {
    let Some(set) = three() else { return };
    under_failovers(
        &set,
        "commitTransaction",
        async |client, all, writer, times| {
            let mut session = client.start_session().await.unwrap();
            let transaction = session.start_transaction();
            let halves = async |session: &mut mongodb::ClientSession| {
                for half in ["first", "second"] {
                    let document =
                        doc! { "writer": writer as i32, "times": times as i32, "half": half };
                    all.insert_one(document).session(&mut *session).await?;
                }
                Ok(())
            };
            transaction.and_run2(halves).await.expect("the driver repeats it");
        },
        async |all, times| {
            for (writer, times) in times.iter().enumerate() {
                for half in ["first", "second"] {
                    let filter = doc! { "writer": writer as i32, "half": half };
                    let found = all.distinct("times", filter.clone()).await.unwrap();
                    let count = all.count_documents(filter).await.unwrap();
                    assert_eq!((found.len(), count), (*times, *times as u64));
                }
            }
        },
    );
}

#[test]
fn a_change_stream_shows_each_write_once() {
    let Some(set) = three() else { return };
    rust(&set, "heartbeatFrequencyMS=500", async |_, all| {
        all.insert_one(doc! { "_id": -1 }).await.unwrap();
        let mut stream = all.watch().await.unwrap();
        for round in 0..3 {
            all.insert_one(doc! { "_id": round }).await.unwrap();
            let event = stream.next().await.unwrap().unwrap();
            assert_eq!(event.document_key, Some(doc! { "_id": round }));
            crash(&set);
        }
    });
}
