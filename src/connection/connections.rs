//! The open connections of one worker, and what they share.

use super::session_info::{SessionInfo, SessionQuery, SessionReport};
use crate::listener::{Drain, DrainOptions, WorkerListener};
use operation::Close;
use relay::Buffers;
use session::Phase;
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Instant,
};
use tls::ServerTls;
use tokio::{
    sync::{Notify, Semaphore},
    task::yield_now,
};

/// The most steps of TLS handshakes in one turn of a worker: each keeps its core busy for up to half a
/// millisecond.
const MAX_HANDSHAKE_STEPS: usize = 16;

/// The open connections of one worker, and what they share.
pub struct Connections {
    /// Buffers, lent to connections while they process bytes.
    pub buffers: Rc<Buffers>,
    /// Bounds the steps of TLS handshakes in one turn of the worker.
    pub handshakes: Semaphore,
    drain: Drain,
    /// Open connections, to be woken when the phase changes.
    open: RefCell<Slab<Registered>>,
    closing: Notify,
    generation: Cell<u64>,
}

/// An open connection.
struct Registered {
    session: Rc<SessionInfo>,
    waker: Waker,
}

impl Default for Connections {
    /// No connections, on a worker that is running.
    fn default() -> Self {
        Self {
            buffers: Rc::default(),
            handshakes: Semaphore::new(MAX_HANDSHAKE_STEPS),
            drain: Drain::default(),
            open: RefCell::default(),
            closing: Notify::new(),
            generation: Cell::new(0),
        }
    }
}

impl Connections {
    /// The phase of a connection: that of its worker, or that of its listener, whichever is further.
    pub fn phase_of(&self, session: &SessionInfo) -> Phase {
        let worker = self.drain.phase_of(session.id);
        worker.max(session.listener().drain().phase_of(session.id))
    }

    /// Completes when the worker closes its connections.
    pub async fn closing(&self) {
        while self.drain.phase() != Phase::Closing {
            self.closing.notified().await;
        }
    }

    /// Registers a connection. Returns its key.
    pub fn register(&self, session: &Rc<SessionInfo>) -> usize {
        let (session, waker) = (Rc::clone(session), Waker::noop().clone());
        self.open.borrow_mut().insert(Registered { session, waker })
    }

    /// Sets the waker of the connection with this key, for when the phase changes.
    pub fn set_waker(&self, key: usize, waker: &Waker) {
        if let Some(open) = self.open.borrow_mut().get_mut(key) {
            open.waker.clone_from(waker);
        }
    }

    /// Removes the connection with this key.
    pub fn deregister(&self, key: usize) {
        self.open.borrow_mut().try_remove(key);
    }

    /// Reports the selected connections.
    pub fn list(&self, query: &SessionQuery) -> Vec<SessionReport> {
        let connections = self.open.borrow();
        query.select(connections.iter().map(|(_, open)| &open.session), Instant::now())
    }

    /// Requests the close of the connection with this id. Returns whether it is on this worker.
    pub fn kill(&self, id: u64) -> bool {
        let connections = self.open.borrow();
        let Some((_, open)) = connections.iter().find(|(_, open)| open.session.id == id) else {
            return false;
        };
        open.session.kill(Close::Killed);
        open.waker.wake_by_ref();
        true
    }

    /// Verifies the clients' certificates of a listener again, and closes the connections of those that are
    /// no longer accepted. Each takes up to a millisecond, so other tasks have their turns in between.
    pub async fn close_revoked(self: Rc<Self>, server: Arc<ServerTls>) {
        for (key, session) in self.sessions_of(&server) {
            if session.tls.get().is_some_and(|tls| !server.accepts(&tls.chain)) {
                session.kill(Close::CertificateRevoked);
                // The key may be another connection's by now, which is woken in vain.
                self.wake(key);
            }
            yield_now().await;
        }
    }

    /// The open connections of a listener, with their keys.
    fn sessions_of(&self, server: &Arc<ServerTls>) -> Vec<(usize, Rc<SessionInfo>)> {
        let open = self.open.borrow();
        let sessions =
            open.iter().map(|(key, open)| (key, &open.session)).filter(|(_, session)| {
                session.listener().plan().tls.as_ref().is_some_and(|tls| Arc::ptr_eq(tls, server))
            });
        sessions.map(|(key, session)| (key, Rc::clone(session))).collect()
    }

    fn wake(&self, key: usize) {
        if let Some(open) = self.open.borrow().get(key) {
            open.waker.wake_by_ref();
        }
    }

    /// Incremented whenever connections must check for changes.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Wakes every connection to check for changes.
    pub fn notify(&self) {
        self.generation.set(self.generation.get() + 1);
        for (_, open) in self.open.borrow().iter() {
            open.waker.wake_by_ref();
        }
    }

    /// Lets connections close when they are idle.
    pub async fn drain(&self, options: DrainOptions) {
        self.drain.run(options, || self.notify()).await;
    }

    /// Lets the connections of a listener close when they are idle. Those that are open after the time-out are
    /// closed.
    pub async fn drain_listener(&self, listener: &WorkerListener, options: DrainOptions) {
        let end = tokio::time::Instant::now() + options.timeout;
        listener.drain().run(options, || self.notify()).await;
        tokio::time::sleep_until(end).await;
        listener.drain().enter(Phase::Closing);
        self.notify();
    }

    /// Closes every connection now.
    pub fn close(&self) {
        self.drain.enter(Phase::Closing);
        self.notify();
        self.closing.notify_waiters();
    }
}
