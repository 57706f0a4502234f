//! Control of a running proxy: drain, and reopen logs.

use crate::{handover::Offer, worker::Message};
use config::plan::Plan;
use process::log_file::Sink;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    thread,
};
use tokio::sync::mpsc::UnboundedSender;

/// A handle to drain a proxy; cheap to clone.
#[derive(Clone)]
pub struct Control {
    inboxes: Arc<[UnboundedSender<Message>]>,
    plan: Arc<Plan>,
    /// The sinks of the log files.
    logs: Arc<[Sink]>,
    /// The sockets that the next process may take over.
    offer: Arc<Offer>,
    drain: Arc<DrainState>,
}

/// The progress of a drain.
#[derive(Default)]
struct DrainState {
    requested: AtomicBool,
    begun: AtomicBool,
    /// Dropped to end the wait before the drain.
    wait: Mutex<Option<Sender<()>>>,
}

impl Control {
    pub(super) fn new(
        inboxes: Arc<[UnboundedSender<Message>]>,
        plan: Arc<Plan>,
        logs: Vec<Sink>,
        offer: Arc<Offer>,
    ) -> Self {
        Self { inboxes, plan, logs: logs.into(), offer, drain: Arc::default() }
    }

    /// The configuration.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The workers' inboxes.
    pub(super) fn inboxes(&self) -> &[UnboundedSender<Message>] {
        &self.inboxes
    }

    /// Reports not ready. After `drain.wait`, if set, stops accepting, lets operations finish, and closes
    /// idle connections. Repeated calls have no effect.
    pub fn drain(&self) {
        if self.drain.requested.swap(true, SeqCst) {
            return;
        }
        self.offer.set_unready();
        let Some(wait) = self.plan.drain_wait else { return self.begin() };
        tracing::info!(
            ?wait,
            "reports not ready and still accepts connections: the drain begins after drain.wait"
        );
        let (end, ended) = channel::<()>();
        *self.wait() = Some(end);
        let control = self.clone();
        let spawned = thread::Builder::new().name("drain-wait".into()).spawn(move || {
            // Nothing is sent: this returns after `wait`, or when the sender is dropped.
            let _ = ended.recv_timeout(wait);
            control.begin();
        });
        if spawned.is_err() {
            self.begin();
        }
    }

    /// Begins the drain now if it waits for `drain.wait`. Returns `false` if none waits.
    pub fn skip_wait(&self) -> bool {
        // Held until the return value is known: dropping it begins the drain on another thread.
        let wait = self.wait().take();
        wait.is_some() && !self.drain.begun.load(SeqCst)
    }

    /// Drains without `drain.wait`.
    pub(super) fn drain_now(&self) {
        self.drain.requested.store(true, SeqCst);
        self.begin();
    }

    /// Whether the proxy reports ready.
    pub fn is_ready(&self) -> bool {
        !self.drain.requested.load(SeqCst)
    }

    /// Reopens log files, for log rotation.
    pub fn reopen_logs(&self) {
        self.logs.iter().for_each(Sink::reopen);
    }

    fn begin(&self) {
        if self.drain.begun.swap(true, SeqCst) {
            return;
        }
        tracing::info!(timeout = ?self.plan.drain_timeout, "draining");
        self.offer.begin_drain();
        for inbox in self.inboxes.iter() {
            // A worker that has ended needs no message.
            let _ = inbox.send(Message::Drain(self.plan.drain_timeout));
        }
    }

    fn wait(&self) -> std::sync::MutexGuard<'_, Option<Sender<()>>> {
        self.drain.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
