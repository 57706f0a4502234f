//! A Tollgate's part in a shared limit, as one of several machines.

use policy::kinds::rate_limit::shared::{
    AttributeHasher, FallbackLimiter, LimitDecision, OnStoreFailure, PendingDecision, Plan,
    SharedLimitClient, SharedLimitSpec, SharedLimitStore, StorePlan,
};
use std::{
    borrow::Cow,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::LocalRuntime,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tollgate_metrics::Metrics;

/// How long a test waits for what should happen soon.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A process that takes part in a limit.
#[derive(Clone)]
pub struct Machine {
    pub shared: SharedLimitStore,
    metrics: Metrics,
    /// How often its local limiter was asked.
    pub local: Arc<AtomicU64>,
}

/// This many a second for each peer.
pub fn limit(policy: &str, rate: u64, burst: u64) -> SharedLimitSpec {
    let (policy, key) = (policy.into(), vec!["peer".into()]);
    SharedLimitSpec { policy, amount: rate, per: Duration::from_secs(1), burst, key }
}

/// A plan with a time-out.
pub fn plan(store: StorePlan, on_failure: OnStoreFailure, timeout: Duration) -> Plan {
    Plan { store, on_failure, timeout, hasher: AttributeHasher::default(), hash_key_file: None }
}

/// A local limiter that lets every second one through, and counts how often it was asked.
struct Every2nd(Arc<AtomicU64>);

impl FallbackLimiter for Every2nd {
    fn take(&self, _: u64, _: u64, _: Instant) -> LimitDecision {
        match self.0.fetch_add(1, Relaxed) % 2 {
            0 => LimitDecision::Allowed,
            _ => LimitDecision::Limited(None),
        }
    }

    fn spend(&self, _: u64, _: u64, _: Instant) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Machine {
    /// Its local limiter lets every second one through.
    pub fn new(plan: &Plan, limit: &SharedLimitSpec) -> Self {
        let metrics = Metrics::new();
        let local = Arc::new(AtomicU64::new(0));
        let shared =
            SharedLimitStore::new(plan, limit, Arc::new(Every2nd(Arc::clone(&local))), &metrics);
        Self { shared, metrics, local }
    }

    /// The sum of a metric's series with all of these labels.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let mut text = String::new();
        self.metrics.render(&mut text);
        let lines = text.lines().filter(|line| {
            line.starts_with(&format!("{name}{{")) && labels.iter().all(|it| line.contains(it))
        });
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// Round trips that brought an answer.
    pub fn answers(&self) -> u64 {
        self.metric("tollgate_shared_limit_requests_total", &[])
    }

    /// Operations that were decided without the store.
    pub fn fallbacks(&self) -> u64 {
        self.metric("tollgate_shared_limit_fallbacks_total", &[])
    }

    /// Takes `per_tick` every millisecond for a time, from a thread of its own. Returns how many
    /// it got.
    pub fn push(
        &self,
        start: &Arc<Barrier>,
        per_tick: usize,
        span: Duration,
    ) -> thread::JoinHandle<u64> {
        let (machine, start) = (self.clone(), Arc::clone(start));
        thread::spawn(move || {
            start.wait();
            LocalRuntime::new().unwrap().block_on(machine.run(per_tick, span))
        })
    }

    async fn run(self, per_tick: usize, span: Duration) -> u64 {
        let (began, hand) = (Instant::now(), self.shared.client());
        let (mut got, mut waiting) = (0, JoinSet::new());
        let mut tick = interval(Duration::from_millis(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while began.elapsed() < span {
            tick.tick().await;
            for _ in 0..per_tick {
                match hand.take(1, &peer, 1, Instant::now()) {
                    PendingDecision::Now(answer) => {
                        got += u64::from(answer == LimitDecision::Allowed)
                    }
                    PendingDecision::Later(answer) => drop(waiting.spawn_local(answer)),
                }
            }
            while let Some(answer) = waiting.try_join_next() {
                got += u64::from(answer.unwrap() == LimitDecision::Allowed);
            }
        }
        let rest = waiting.join_all().await;
        got + rest.into_iter().filter(|answer| *answer == LimitDecision::Allowed).count() as u64
    }
}

/// The attributes of the operations here.
pub fn peer(name: &str) -> Option<Cow<'static, str>> {
    (name == "peer").then_some(Cow::Borrowed("10.0.0.1"))
}

/// Takes, and waits if it has to.
pub async fn take(hand: &SharedLimitClient, n: u64) -> LimitDecision {
    match hand.take(1, &peer, n, Instant::now()) {
        PendingDecision::Now(answer) => answer,
        PendingDecision::Later(answer) => answer.await,
    }
}

/// Runs what waits for answers.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    LocalRuntime::new().unwrap().block_on(test)
}

/// Takes one a millisecond until `done` says so.
pub async fn take_until(
    hand: &SharedLimitClient,
    what: &str,
    mut done: impl FnMut(LimitDecision) -> bool,
) {
    let mut tick = interval(Duration::from_millis(1));
    let began = Instant::now();
    while !done(take(hand, 1).await) {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        tick.tick().await;
    }
}
