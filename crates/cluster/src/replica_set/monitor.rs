//! One task for each member: it asks the member for its state over one connection, again and again.

use super::SEEDS_AGAIN_AFTER;
use crate::{
    Cluster, Endpoint,
    connect::{connect_without_client, describe},
    exchange,
    plan::ReplicaSetPlan,
};
use bytes::BytesMut;
use net::Stream;
use operation::{MemberState, Monitor, MonitorStep, Role};
use std::{collections::BTreeMap, io, panic::resume_unwind, sync::Arc, time::Duration};
use tokio::{
    task::{AbortHandle, JoinError, JoinSet},
    time::{self, Instant},
};

/// The pause before a member that could not be asked is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// How often a member that is in doubt again and again is asked. What waits for its answer can't go faster:
/// drivers may repeat a commit without a pause.
const RECHECK_AFTER: Duration = Duration::from_millis(200);

/// How long the first answer on a new connection may take.
const FIRST_ANSWER: Duration = Duration::from_secs(4);

/// The longest reply that is read, in bytes.
const MAX_REPLY: usize = 64 * 1024;

/// The weight of a new round-trip time in the smoothed one (specification `server-selection`).
const RTT_WEIGHT: f64 = 0.2;

impl Cluster {
    /// Follows the members of the replica set until dropped, as long as the endpoints are one.
    pub async fn monitor_members(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        let mut tasks = JoinSet::new();
        let mut monitored: BTreeMap<MonitorKey, AbortHandle> = BTreeMap::new();
        let mut last_known = Instant::now();
        loop {
            let plan = self.replica_set();
            let endpoints = plan.iter().flat_map(|plan| {
                self.endpoints().into_iter().map(|endpoint| (Arc::clone(plan), endpoint))
            });
            let before = std::mem::take(&mut monitored);
            for (plan, endpoint) in endpoints {
                let key = (Arc::as_ptr(&plan), Arc::as_ptr(&endpoint));
                let known = before.get(&key).filter(|task| !task.is_finished());
                let task = known.cloned().unwrap_or_else(|| {
                    let cluster = Arc::clone(&self);
                    tasks.spawn(MemberMonitor { cluster, endpoint, plan, rtt: None }.run())
                });
                monitored.insert(key, task);
            }
            for (_, gone) in before.iter().filter(|(key, _)| !monitored.contains_key(*key)) {
                gone.abort();
            }
            if self.set.load().endpoints().any(|it| it.role() != Role::Unknown) {
                last_known = Instant::now();
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = time::sleep_until(last_known + SEEDS_AGAIN_AFTER), if plan.is_some() => {
                    self.add_seeds();
                    last_known = Instant::now();
                }
                Some(ended) = tasks.join_next() => {
                    // A monitor that panicked must not go unnoticed.
                    if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                        resume_unwind(panic);
                    }
                }
            }
        }
    }
}

/// A member of a replica set: the address of another one may be the same.
type MonitorKey = (*const ReplicaSetPlan, *const Endpoint);

/// The monitor of one member.
struct MemberMonitor {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    plan: Arc<ReplicaSetPlan>,
    /// The smoothed round-trip time.
    rtt: Option<Duration>,
}

impl MemberMonitor {
    async fn run(mut self) {
        self.endpoint.show_unknown_role();
        loop {
            let stream = match self.connect().await {
                Ok(stream) => stream,
                Err(words) => {
                    self.cluster.member_lost(&self.endpoint, &words, false);
                    time::sleep(RETRY).await;
                    continue;
                }
            };
            let endpoint = Arc::clone(&self.endpoint);
            let began = Instant::now();
            tokio::select! {
                // The member is in doubt: a new connection shows what it is now.
                () = endpoint.recheck.notified() => time::sleep_until(began + RECHECK_AFTER).await,
                failed = self.follow(stream) => {
                    self.cluster.member_lost(&self.endpoint, &failed.words, failed.is_silent);
                    if !failed.may_ask_at_once {
                        time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Stream, String> {
        let plan = self.cluster.plan.load_full();
        let (destination, name) = (self.cluster.destination.load(), self.endpoint.server_name());
        let address = self.endpoint.address();
        let connected = connect_without_client(&plan, address, &name, destination.tls.as_deref());
        match time::timeout(plan.connect_timeout, connected).await {
            Ok(connected) => connected.map_err(|error| describe(&error)),
            Err(_) => Err(format!("no connection within {:?}", plan.connect_timeout)),
        }
    }

    /// Asks until the member can't be asked any more. Returns why.
    async fn follow(&mut self, mut stream: Stream) -> Failed {
        let mut monitor = self.plan.monitor.begin();
        let mut answered = false;
        loop {
            // The first answer is not awaited.
            let awaited = if answered { monitor.max_await() } else { FIRST_ANSWER };
            let limit = awaited + self.cluster.plan().connect_timeout;
            let began = Instant::now();
            let asked = time::timeout(limit, ask(&mut stream, &mut *monitor)).await;
            let step = match asked {
                Ok(Ok(step)) => step,
                Ok(Err(error)) => {
                    // A member that answered has closed the connection: it may be there again.
                    let words = describe(&error);
                    return Failed { words, may_ask_at_once: answered, is_silent: false };
                }
                Err(_) => {
                    let words = format!("no answer within {limit:?}");
                    return Failed { words, may_ask_at_once: false, is_silent: true };
                }
            };
            let (state, is_round_trip, pause) = match step {
                MonitorStep::State { state, is_round_trip, pause } => (state, is_round_trip, pause),
                MonitorStep::Failed(words) => return Failed::by_answer(words),
                MonitorStep::NeedMore => {
                    let words = format!("no end of the answer within {} KiB", MAX_REPLY / 1024);
                    return Failed::by_answer(words);
                }
            };
            if is_round_trip {
                self.record_rtt(began.elapsed());
            }
            answered = true;
            self.report(state);
            time::sleep(pause).await;
        }
    }

    fn report(&self, state: MemberState) {
        self.cluster.member_reported(&self.endpoint, state, self.rtt);
    }

    fn record_rtt(&mut self, new: Duration) {
        let smooth = |old: Duration| old.mul_f64(1.0 - RTT_WEIGHT) + new.mul_f64(RTT_WEIGHT);
        self.rtt = Some(self.rtt.map_or(new, smooth));
    }
}

/// Why a member can't be asked any more.
struct Failed {
    words: String,
    /// No pause is needed before it is asked again.
    may_ask_at_once: bool,
    /// It keeps its connection open, and answers nothing on it.
    is_silent: bool,
}

impl Failed {
    /// Its answer is not one that can be used.
    fn by_answer(words: String) -> Self {
        Self { words, may_ask_at_once: false, is_silent: false }
    }
}

/// Sends the next request, and reads until the reply is complete.
pub(crate) async fn ask(stream: &mut Stream, monitor: &mut dyn Monitor) -> io::Result<MonitorStep> {
    let mut bytes = BytesMut::new();
    monitor.write_request(&mut bytes);
    exchange::send(stream, &mut bytes).await?;
    loop {
        exchange::read_more(stream, &mut bytes, "the connection ended before the answer did")
            .await?;
        match monitor.read_reply(&bytes) {
            MonitorStep::NeedMore if bytes.len() < MAX_REPLY => {}
            step => return Ok(step),
        }
    }
}
