//! Places are taken, waited for and given back, and none is lost or made up.

use super::*;
use std::{
    sync::atomic::AtomicI64,
    task::{Context, Poll, Waker},
    thread,
};

fn semaphore(limit: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LimitMode::Fixed(limit)))
}

/// A place in the queue that the test polls itself.
struct Asked(std::pin::Pin<Box<dyn Future<Output = ()>>>);

impl Asked {
    fn new(waiting: QueuePosition) -> Self {
        Self(Box::pin(waiting.acquired()))
    }

    fn is_granted(&mut self) -> bool {
        self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }
}

#[test]
fn slots_are_granted_in_queue_order_before_new_callers() {
    let semaphore = semaphore(1);
    assert!(semaphore.try_acquire());
    let mut first = Asked::new(semaphore.enqueue(2).unwrap());
    let mut second = Asked::new(semaphore.enqueue(2).unwrap());
    assert!(semaphore.enqueue(2).is_none(), "the queue is full");
    assert!(!first.is_granted());
    semaphore.release();
    assert!(!semaphore.try_acquire(), "the place is spoken for");
    assert!(!second.is_granted());
    assert!(first.is_granted());
    semaphore.release();
    assert!(second.is_granted());
    semaphore.release();
    assert!(semaphore.is_idle());
}

#[test]
fn a_cancelled_wait_leaves_the_queue_and_releases_its_slot() {
    let semaphore = semaphore(1);
    assert!(semaphore.try_acquire());
    let [first, second, third] = [(); 3].map(|()| semaphore.enqueue(3).unwrap());
    drop(second);
    assert!(semaphore.enqueue(3).is_some(), "its room in the queue is free again");
    semaphore.release();
    // Granted, and never polled.
    drop(first);
    let mut third = Asked::new(third);
    assert!(third.is_granted());
    semaphore.release();
    assert!(semaphore.is_idle());
}

#[test]
fn a_free_slot_is_granted_without_waiting() {
    let semaphore = semaphore(1);
    let mut waiting = Asked::new(semaphore.enqueue(1).unwrap());
    assert!(waiting.is_granted());
    assert!(!semaphore.try_acquire());
}

#[test]
fn threads_share_places_and_wake_each_other() {
    let semaphore = semaphore(3);
    let inside = AtomicI64::new(0);
    let work = |seed: u64| {
        let (semaphore, inside) = (&semaphore, &inside);
        move || {
            let mut random = crate::testing::Random(seed);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for _ in 0..5000 {
                if !semaphore.try_acquire() {
                    let Some(waiting) = semaphore.enqueue(2) else { continue };
                    if random.below(4) == 0 {
                        drop(waiting);
                        continue;
                    }
                    runtime.block_on(waiting.acquired());
                }
                assert!(inside.fetch_add(1, SeqCst) < 3);
                inside.fetch_sub(1, SeqCst);
                semaphore.release();
            }
        }
    };
    thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(work(seed));
        }
    });
    assert!(semaphore.is_idle(), "{:?}", semaphore.count);
}

#[test]
fn an_adaptive_limit_grows_while_all_is_well() {
    let plan = gradient::Plan { min: 1, max: 50, initial: 2, tolerance: 1.5, smoothing: 0.2 };
    let semaphore = Arc::new(Semaphore::new(LimitMode::Adaptive(plan)));
    let start = Instant::now();
    assert!(semaphore.try_acquire() && semaphore.try_acquire() && !semaphore.try_acquire());
    let mut waiting = Asked::new(semaphore.enqueue(1).unwrap());
    for step in 1..200 {
        let now = start + Duration::from_millis(20) * step;
        semaphore.release_after(Duration::from_millis(5), now);
        if step == 1 {
            assert!(waiting.is_granted());
            continue;
        }
        assert!(semaphore.try_acquire());
    }
    let room = (0..100).take_while(|_| semaphore.try_acquire()).count();
    assert!((1..=48).contains(&room), "{room}");
}
