//! The state of a pause, as those see it that it holds back.

use super::own_connection::OwnConnections;
use crate::{listener_handshakes::ListenerHandshakes, report::tenth};
use arc_swap::ArcSwapOption;
use metrics::{Counter, Gauge};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tollgate_metrics::{Metrics, table as names};

/// What a paused cluster holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing: it is not paused.
    #[default]
    Nothing,
    /// What begins. Operations that continue a transaction or a cursor go on.
    New,
    /// Everything.
    All,
}

/// A pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    hold: Hold,
    pub(super) since: Instant,
    /// When the cluster resumes by itself.
    pub(super) until: Instant,
}

/// The state of a cluster that operators pause and switch.
pub(crate) struct Cutover {
    pause: watch::Sender<Option<Pause>>,
    /// Whether there is a pause, for those that ask once for each connection.
    is_paused: AtomicBool,
    /// Held while an operator's request is carried out.
    pub(super) requests: Semaphore,
    /// How many pools hold back what, by [`Hold`].
    pools: [AtomicUsize; 3],
    /// Operations and connections that wait.
    waiting: AtomicUsize,
    /// Connections that belong to one client each.
    pub(super) own_connections: OwnConnections,
    /// How often the cluster was switched.
    switches: AtomicU64,
    /// What the cluster was switched to last.
    switched_to: ArcSwapOption<String>,
    /// The listeners whose operations share the cluster's connections.
    pub(super) listeners: ListenerHandshakes,
    /// Made when the cluster is first paused: few ever are.
    metrics: OnceLock<CutoverMetrics>,
    recorder: Metrics,
    cluster: Arc<str>,
}

struct CutoverMetrics {
    paused: Gauge,
    waiting: Gauge,
    expired: Counter,
}

impl Cutover {
    pub(crate) fn new(cluster: &Arc<str>, metrics: &Metrics) -> Self {
        Self {
            pause: watch::Sender::new(None),
            is_paused: AtomicBool::new(false),
            requests: Semaphore::new(1),
            pools: Default::default(),
            waiting: AtomicUsize::new(0),
            own_connections: OwnConnections::default(),
            switches: AtomicU64::new(0),
            switched_to: ArcSwapOption::empty(),
            listeners: ListenerHandshakes::default(),
            metrics: OnceLock::new(),
            recorder: metrics.clone(),
            cluster: Arc::clone(cluster),
        }
    }

    fn metrics(&self) -> &CutoverMetrics {
        self.metrics.get_or_init(|| {
            let labels = [("cluster", &*self.cluster)];
            CutoverMetrics {
                paused: self.recorder.gauge(names::CLUSTER_PAUSED, &labels),
                waiting: self.recorder.gauge(names::PAUSE_WAITING, &labels),
                expired: self.recorder.counter(names::PAUSES_EXPIRED_TOTAL, &labels),
            }
        })
    }

    /// Follows what is held back.
    pub(crate) fn follow(&self) -> HoldFollower {
        HoldFollower(self.pause.subscribe())
    }

    /// A pool holds back something else. `before` is `None` for a new pool, `now` for one that ends.
    pub(crate) fn pool_holds(&self, before: Option<Hold>, now: Option<Hold>) {
        // In this order, so that no pool is missing in between.
        now.into_iter().for_each(|now| _ = self.pools[now as usize].fetch_add(1, SeqCst));
        before.into_iter().for_each(|it| _ = self.pools[it as usize].fetch_sub(1, SeqCst));
    }

    /// Whether every pool holds back this.
    pub(super) fn all_pools_hold(&self, hold: Hold) -> bool {
        self.pools[..hold as usize].iter().all(|pools| pools.load(SeqCst) == 0)
    }

    /// Counts one more operation or connection that waits.
    pub(crate) fn begin_waiting(self: &Arc<Self>) -> PauseWaiter {
        self.waiting.fetch_add(1, Relaxed);
        self.metrics().waiting.increment(1.0);
        PauseWaiter(Arc::clone(self))
    }

    /// Connections that belong to one client each.
    pub(crate) fn own_connections(&self) -> &OwnConnections {
        &self.own_connections
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Whether there is a pause.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Relaxed)
    }

    /// Follows the pause.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Pause>> {
        self.pause.subscribe()
    }

    /// Counts a pause that has ended because its time was over.
    pub(super) fn count_expired(&self) {
        self.metrics().expired.increment(1);
    }

    /// Records a switch.
    pub(super) fn switched(&self, to: String) {
        self.switches.fetch_add(1, Relaxed);
        self.switched_to.store(Some(Arc::new(to)));
    }

    /// The cluster leads where the config says again.
    pub(crate) fn forget_switch(&self) {
        self.switched_to.store(None);
    }

    /// What the cluster was switched to last.
    pub(super) fn switched_to(&self) -> Option<Arc<String>> {
        self.switched_to.load_full()
    }

    /// How often the cluster was switched.
    pub(crate) fn switches(&self) -> u64 {
        self.switches.load(Relaxed)
    }

    /// Sets what is held back. Returns `false` if the cluster is not paused any more.
    pub(super) fn set_hold(&self, hold: Hold) -> bool {
        self.pause.send_if_modified(|pause| match pause {
            Some(pause) => {
                pause.hold = hold;
                true
            }
            None => false,
        })
    }

    pub(super) fn begin(&self, until: Instant) {
        self.is_paused.store(true, SeqCst);
        self.pause.send_modify(|pause| match pause {
            Some(pause) => pause.until = until,
            None => {
                *pause = Some(Pause { hold: Hold::New, since: Instant::now(), until });
                self.metrics().paused.increment(1.0);
            }
        });
    }

    /// Ends the pause. Returns how long it has lasted.
    pub(super) fn end(&self) -> Option<Duration> {
        let pause = self.pause.send_replace(None)?;
        self.is_paused.store(false, SeqCst);
        self.metrics().paused.decrement(1.0);
        Some(pause.since.elapsed())
    }

    pub(super) fn current(&self) -> Option<Pause> {
        *self.pause.borrow()
    }

    /// The JSON for the admin interface; null while the cluster is not paused.
    pub(super) fn report(&self) -> Value {
        let Some(pause) = self.current() else { return Value::Null };
        json!({
            "seconds": tenth(pause.since.elapsed().as_secs_f64()),
            "resumes_in_seconds": tenth(pause.until.saturating_duration_since(Instant::now()).as_secs_f64()),
            "waiting": self.waiting.load(Relaxed),
        })
    }
}

/// Follows what a cluster holds back.
pub(crate) struct HoldFollower(watch::Receiver<Option<Pause>>);

impl HoldFollower {
    /// What is held back now.
    pub(crate) fn now(&mut self) -> Hold {
        self.0.borrow_and_update().map_or(Hold::Nothing, |pause| pause.hold)
    }

    /// Waits for a change. Returns `false` if there can be none.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Counts one operation or connection that waits, until dropped.
pub(crate) struct PauseWaiter(Arc<Cutover>);

impl Drop for PauseWaiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.metrics().waiting.decrement(1.0);
    }
}

impl fmt::Debug for Cutover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutover").field("pause", &self.current()).finish_non_exhaustive()
    }
}
