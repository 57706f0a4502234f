//! Control of a running proxy: drain, reload the config, and reopen logs.

use super::{
    logs::Logs,
    shared::{Inboxes, SharedState},
};
use crate::{
    handover::{self, Offer},
    listener::DrainOptions,
    reload::{ReloadRequest, ReloadSource, ReloadTrigger, Reloader},
    service_manager,
    worker::Message,
};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    thread,
};
use tokio_util::sync::CancellationToken;
use tollgate_metrics::table as names;

/// A handle to control a proxy; cheap to clone.
#[derive(Clone)]
pub struct Control {
    shared: Arc<SharedState>,
    inboxes: Inboxes,
    logs: Arc<Logs>,
    reloader: Reloader,
    /// The sockets that the next process may take over.
    offer: Arc<Offer>,
    drain: Arc<DrainState>,
    /// The hash of the config that is exported.
    config_hash: Arc<Mutex<String>>,
}

/// The progress of a drain.
#[derive(Default)]
struct DrainState {
    requested: AtomicBool,
    begun: AtomicBool,
    /// Cancelled when it is requested.
    notice: CancellationToken,
    /// Dropped to end the wait before the drain.
    wait: Mutex<Option<Sender<()>>>,
}

impl Control {
    pub(super) fn new(
        shared: Arc<SharedState>,
        inboxes: Inboxes,
        logs: Arc<Logs>,
        reloader: Reloader,
        offer: Arc<Offer>,
    ) -> Self {
        let (drain, config_hash) = (Arc::default(), Arc::default());
        Self { shared, inboxes, logs, reloader, offer, drain, config_hash }
    }

    /// What all workers share.
    pub(super) fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }

    /// The workers' inboxes.
    pub(super) fn inboxes(&self) -> &Inboxes {
        &self.inboxes
    }

    /// The logs that are open.
    pub(super) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Requests reloads of the config.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// Reads the config file again, and reopens the logs. Does not wait for it.
    pub fn reload(&self, by: ReloadTrigger) {
        self.reopen_logs();
        let request = ReloadRequest { by, source: ReloadSource::File, dry_run: false, reply: None };
        if let Err(error) = self.reloader.request(request) {
            tracing::warn!(%error, "the config is not reloaded");
        }
    }

    /// Whether another process can take over the sockets.
    pub fn can_be_upgraded(&self) -> bool {
        self.offer.is_open()
    }

    /// Whether another process has taken over the sockets.
    pub fn is_replaced(&self) -> bool {
        self.offer.is_taken()
    }

    /// Offers the sockets to the next process, and notifies the previous one that they are in use.
    ///
    /// # Errors
    /// There are too few descriptors, or the thread can't start.
    pub(super) fn offer_sockets(&self, sockets: handover::Sockets) -> io::Result<()> {
        let control = self.clone();
        self.offer.on_upgrade(move |process| {
            service_manager::main_process(process);
            control.drain_now();
        });
        match sockets.confirm()? {
            Some(rendezvous) => handover::serve(rendezvous, Arc::clone(&self.offer)),
            None => Ok(()),
        }
    }

    /// Removes what the next process would find.
    pub(super) fn end_offer(&self) {
        self.offer.remove_file();
    }

    /// Exports the hash of the config that runs.
    pub(super) fn export_config(&self) {
        let hash = format!("{:016x}", self.shared.running().plan.hash());
        let metrics = &self.shared.metrics;
        let mut known = self.config_hash.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != hash {
            metrics.forget(names::CONFIG_INFO, &[("hash", &known)]);
            metrics.gauge(names::CONFIG_INFO, &[("hash", &hash)]).set(1.0);
            *known = hash;
        }
    }

    /// Offers the sockets of the listeners that run now to the next process.
    pub(super) fn offer_listeners(&self) {
        let running = self.shared.running();
        self.offer.set_listeners(running.listeners.iter().map(|it| it.socket.copy()));
    }

    /// Reports not ready. After `drain.wait`, if set, stops accepting, lets operations finish, and closes
    /// idle connections. Repeated calls have no effect.
    pub fn drain(&self) {
        if self.drain.requested.swap(true, SeqCst) {
            return;
        }
        self.drain.notice.cancel();
        self.offer.set_unready();
        let Some(wait) = self.shared.running().plan.drain_wait else { return self.begin() };
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
        self.drain.notice.cancel();
        self.begin();
    }

    /// Cancelled when a drain is requested.
    pub(super) fn draining(&self) -> CancellationToken {
        self.drain.notice.clone()
    }

    /// Whether the proxy reports ready.
    pub fn is_ready(&self) -> bool {
        !self.drain.requested.load(SeqCst)
    }

    /// Reopens log files, for log rotation.
    pub fn reopen_logs(&self) {
        self.logs.reopen();
    }

    fn begin(&self) {
        if self.drain.begun.swap(true, SeqCst) {
            return;
        }
        let plan = &self.shared.running().plan;
        let timeout = plan.drain_timeout;
        // Clients that another process serves do not all connect again at once.
        let spread = self.offer.is_taken().then_some(plan.drain_spread);
        tracing::info!(?timeout, "draining");
        self.offer.begin_drain();
        self.shared.running().listeners.iter().for_each(|it| it.socket.close());
        for inbox in self.inboxes.iter() {
            // A worker that has ended needs no message.
            let _ = inbox.send(Message::Drain(DrainOptions { timeout, spread }));
        }
    }

    fn wait(&self) -> std::sync::MutexGuard<'_, Option<Sender<()>>> {
        self.drain.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
