//! What all workers share, and what runs now: a reload of the config replaces that as a whole.

use super::tracer::TracerSlot;
use crate::{
    listener::{ConnectionBudget, ListenSocket, Listener},
    worker::Message,
};
use arc_swap::ArcSwap;
use cluster::Cluster;
use config::plan::Plan;
use policy::{Live, access_log::LiveAccessLog, live_tap::LiveTap};
use shapes::SharedShapes;
use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::mpsc::UnboundedSender;
use tollgate_metrics::Metrics;

/// The inboxes of all workers.
pub(super) type Inboxes = Arc<[UnboundedSender<Message>]>;

/// What all workers share.
pub(super) struct SharedState {
    pub(super) metrics: Metrics,
    pub(super) workers: usize,
    /// The policies in force.
    pub(super) live: Arc<Live>,
    pub(super) access_log: Arc<LiveAccessLog>,
    /// The last operations, while there is a watcher.
    pub(super) tap: Arc<LiveTap>,
    pub(super) tracer: TracerSlot,
    pub(super) budget: Arc<ConnectionBudget>,
    /// How many connections the process has descriptors for.
    pub(super) fit: usize,
    /// Open cursors and findings, for listeners that count query shapes.
    pub(super) shapes: Arc<SharedShapes>,
    pub(super) running: ArcSwap<Running>,
}

/// What runs now.
pub(super) struct Running {
    pub(super) plan: Arc<Plan>,
    pub(super) listeners: Vec<RunningListener>,
    pub(super) clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
}

/// A listener with its socket.
#[derive(Clone)]
pub(super) struct RunningListener {
    pub(super) listener: Arc<Listener>,
    pub(super) socket: RunningSocket,
}

/// A socket on which a worker accepts.
#[derive(Clone)]
pub(super) struct RunningSocket {
    /// Identifies it among all that this process has had.
    pub(super) number: u64,
    /// The bound address.
    pub(super) address: SocketAddr,
    copies: Arc<Mutex<SocketCopies>>,
}

/// Copies of a socket's descriptor.
struct SocketCopies {
    /// For another listener with the same address, and for the next process; closed by a drain.
    kept: Option<TcpListener>,
    /// For the worker that accepts, until it has that.
    for_worker: Option<TcpListener>,
}

impl SharedState {
    /// What runs now.
    pub(super) fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }
}

impl RunningSocket {
    /// A bound socket on which no worker accepts yet.
    ///
    /// # Errors
    /// There are too few descriptors.
    pub(super) fn new(socket: TcpListener) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let address = socket.local_addr()?;
        let copies = SocketCopies { kept: Some(socket.try_clone()?), for_worker: Some(socket) };
        let number = NEXT.fetch_add(1, Relaxed);
        Ok(Self { number, address, copies: Arc::new(Mutex::new(copies)) })
    }

    /// The same socket, for another listener.
    ///
    /// # Errors
    /// There are too few descriptors, or the proxy drains.
    pub(super) fn moved(&self) -> io::Result<Self> {
        Self::new(self.copy()?)
    }

    /// A copy of the descriptor.
    ///
    /// # Errors
    /// There are too few descriptors, or the proxy drains.
    pub(super) fn copy(&self) -> io::Result<TcpListener> {
        let copies = self.copies();
        let kept = copies.kept.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        kept.try_clone()
    }

    /// Closes the copy, since the proxy drains and the workers have stopped accepting.
    pub(super) fn close(&self) {
        *self.copies() = SocketCopies { kept: None, for_worker: None };
    }

    fn copies(&self) -> MutexGuard<'_, SocketCopies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a worker accept on it, for the listener with this id, unless one does.
    pub(super) fn listen(&self, listener: u64, inboxes: &Inboxes) {
        let Some(socket) = self.copies().for_worker.take() else { return };
        let message = Message::Listen(ListenSocket { number: self.number, listener, socket });
        // A worker that has ended accepts nothing.
        self.acceptor(inboxes).map(|inbox| inbox.send(message));
    }

    /// Makes its worker accept what waits there, and stop.
    pub(super) fn stop_listening(&self, inboxes: &Inboxes) {
        let message = Message::StopListening(self.number);
        self.acceptor(inboxes).map(|inbox| inbox.send(message));
    }

    /// The worker that accepts.
    fn acceptor<'i>(&self, inboxes: &'i Inboxes) -> Option<&'i UnboundedSender<Message>> {
        let workers = inboxes.len().max(1) as u64;
        inboxes.get(usize::try_from(self.number % workers).unwrap_or_default())
    }
}
