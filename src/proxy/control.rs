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
    /// Those of log files.
    logs: Arc<[Sink]>,
    /// What the next process may take.
    offer: Arc<Offer>,
    stage: Arc<Stage>,
}

/// How far a drain has come.
#[derive(Default)]
struct Stage {
    asked: AtomicBool,
    begun: AtomicBool,
    /// Ends the wait before the drain when it is dropped.
    wait: Mutex<Option<Sender<()>>>,
}

impl Control {
    pub(super) fn new(
        inboxes: Arc<[UnboundedSender<Message>]>,
        plan: Arc<Plan>,
        logs: Vec<Sink>,
        offer: Arc<Offer>,
    ) -> Self {
        Self { inboxes, plan, logs: logs.into(), offer, stage: Arc::default() }
    }

    /// What runs.
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
        if self.stage.asked.swap(true, SeqCst) {
            return;
        }
        self.offer.give_way();
        let Some(wait) = self.plan.drain_wait else { return self.begin() };
        tracing::info!(
            ?wait,
            "not ready any more, and still accepting: the drain begins after drain.wait"
        );
        let (end, ended) = channel::<()>();
        *self.wait() = Some(end);
        let control = self.clone();
        let waits = thread::Builder::new().name("drain-wait".into()).spawn(move || {
            // Nothing is sent: this ends in time, or when the other end is dropped.
            let _ = ended.recv_timeout(wait);
            control.begin();
        });
        if waits.is_err() {
            self.begin();
        }
    }

    /// Begins a drain that waits for `drain.wait`. Returns `false` if none waits.
    pub fn end_wait(&self) -> bool {
        // Held until the answer is known: dropping it begins the drain on another thread.
        let wait = self.wait().take();
        wait.is_some() && !self.stage.begun.load(SeqCst)
    }

    /// Drains without waiting first.
    pub(super) fn drain_at_once(&self) {
        self.stage.asked.store(true, SeqCst);
        self.begin();
    }

    /// Whether the proxy reports ready.
    pub fn is_ready(&self) -> bool {
        !self.stage.asked.load(SeqCst)
    }

    /// Reopens log files, for log rotation.
    pub fn reopen_logs(&self) {
        self.logs.iter().for_each(Sink::reopen);
    }

    fn begin(&self) {
        if self.stage.begun.swap(true, SeqCst) {
            return;
        }
        tracing::info!(timeout = ?self.plan.drain_timeout, "draining");
        self.offer.leave();
        for inbox in self.inboxes.iter() {
            // A worker that has ended needs no message.
            let _ = inbox.send(Message::Drain(self.plan.drain_timeout));
        }
    }

    fn wait(&self) -> std::sync::MutexGuard<'_, Option<Sender<()>>> {
        self.stage.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
