//! A worker: one thread, one single-threaded runtime, and one of everything that is hot.

mod sessions;

use crate::{
    connection::{
        self, Accepted, HandOff,
        session_info::{SessionInfo, SessionQuery, SessionReport},
    },
    listener::{self, ListenSocket, WorkerListener},
    policy::access_log::LineBuffer,
    relay::Buffers,
};
use metrics::Gauge;
pub use sessions::{Sessions, WorkerTimeout};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    io,
    panic::resume_unwind,
    pin::pin,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    task::{JoinError, JoinSet, spawn_local},
};

/// The stack of a thread that reads what clients send, in bytes.
///
/// Every reader that calls itself stops at a stated depth: messages of protobuf and JSON at 100
/// levels, a query parameter at 32 names. The deepest takes less than 1 MiB, in a debug build too,
/// which their tests hold. A page of stack costs memory only once it is used.
pub const STACK_BYTES: usize = 4 << 20;

/// The runtime of a worker.
///
/// Work that takes long, such as a large JSON body, goes to one more thread (`spawn_blocking`), so
/// that the worker's other connections do not wait for it. There is one such thread for each worker:
/// large bodies wait for each other, and take no more memory and cores than that.
///
/// # Errors
/// The system has no descriptor for it.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_name("worker-aside")
        .thread_stack_size(STACK_BYTES)
        .build_local(LocalOptions::default())
}

/// What a worker is told.
pub enum Message {
    /// Accept connections here, and hand them out.
    Listen(ListenSocket),
    /// Serve this connection of the listener with this number.
    Serve(usize, HandOff),
    /// Have every connection look at what its endpoint wishes.
    EndpointsChanged,
    /// Tell of these connections.
    ListSessions(SessionQuery, UnboundedSender<Vec<SessionReport>>),
    /// End the connection with this number, and tell whether it is here.
    KillSession(u64, UnboundedSender<bool>),
    /// Stop accepting, let operations end, and leave after this long at the latest.
    Drain(Duration),
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes new connections.
    Running,
    /// Its connections close as soon as they come to a rest.
    Draining,
    /// Its connections close now.
    Closing,
}

/// What the connections of one worker share.
pub struct Worker {
    /// Which worker this is, from 0.
    pub index: usize,
    /// Buffers, lent while bytes are in hand.
    pub buffers: Buffers,
    phase: Cell<Phase>,
    /// Who has to be woken when the phase changes.
    connections: RefCell<Slab<Registered>>,
    closing: Notify,
    generation: Cell<u64>,
    active: Cell<usize>,
    /// The same, for all to see.
    active_gauge: Gauge,
    drained: Notify,
    /// Whether [`pace`] runs, and whether it has reason to go on.
    timer_running: Cell<bool>,
    served_lately: Cell<bool>,
}

/// A connection that is open.
struct Registered {
    session: Rc<SessionInfo>,
    waker: Waker,
}

/// How often a worker that takes connections wakes for [`pace`].
const TIMER_PERIOD: Duration = Duration::from_millis(100);

impl Worker {
    /// Worker number `index`, at work.
    pub fn new(index: usize) -> Rc<Self> {
        Self::with_gauge(index, Gauge::noop())
    }

    /// The same; `open` tells how many connections it serves.
    pub fn with_gauge(index: usize, open: Gauge) -> Rc<Self> {
        Rc::new(Self {
            index,
            buffers: Buffers::default(),
            phase: Cell::new(Phase::Running),
            connections: RefCell::default(),
            closing: Notify::new(),
            generation: Cell::new(0),
            active: Cell::new(0),
            active_gauge: open,
            drained: Notify::new(),
            timer_running: Cell::new(false),
            served_lately: Cell::new(false),
        })
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Ends when the worker leaves.
    pub async fn closing(&self) {
        while self.phase() != Phase::Closing {
            self.closing.notified().await;
        }
    }

    /// Notes a connection. Returns its place.
    pub fn register(&self, session: &Rc<SessionInfo>) -> usize {
        let (session, waker) = (Rc::clone(session), Waker::noop().clone());
        self.connections.borrow_mut().insert(Registered { session, waker })
    }

    /// Notes the task of the connection at this place, to be woken when the phase changes.
    pub fn set_waker(&self, place: usize, waker: &Waker) {
        if let Some(open) = self.connections.borrow_mut().get_mut(place) {
            open.waker.clone_from(waker);
        }
    }

    /// Tells of connections.
    fn list_sessions(&self, choice: &SessionQuery) -> Vec<SessionReport> {
        let connections = self.connections.borrow();
        choice.select(connections.iter().map(|(_, open)| &open.session), Instant::now())
    }

    /// Has a connection end. Tells whether it is here.
    fn kill_session(&self, id: u64) -> bool {
        let connections = self.connections.borrow();
        let Some((_, open)) = connections.iter().find(|(_, open)| open.session.kill(id)) else {
            return false;
        };
        open.waker.wake_by_ref();
        true
    }

    /// Forgets the connection at this place.
    pub fn deregister(&self, place: usize) {
        self.connections.borrow_mut().try_remove(place);
    }

    /// Starts serving a connection.
    pub fn serve(self: &Rc<Self>, listener: &Rc<WorkerListener>, accepted: Accepted) {
        let (worker, listener) = (Rc::clone(self), Rc::clone(listener));
        let alive = ActiveGuard::new(self);
        self.served_lately.set(true);
        if !self.timer_running.replace(true) {
            spawn_local(keep_timer_running(Rc::clone(self)));
        }
        spawn_local(async move {
            connection::serve(worker, listener, accepted).await;
            drop(alive);
        });
    }

    /// How often connections were told to look at what has changed.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Has every connection look at what has changed.
    fn notify_connections(&self) {
        self.generation.set(self.generation.get() + 1);
        for (_, open) in self.connections.borrow().iter() {
            open.waker.wake_by_ref();
        }
    }

    fn enter_phase(&self, phase: Phase) {
        self.phase.set(phase);
        self.notify_connections();
        if phase == Phase::Closing {
            self.closing.notify_waiters();
        }
    }

    async fn drained(&self) {
        while self.active.get() > 0 {
            self.drained.notified().await;
        }
    }

    /// Lets operations end, for as long as `patience`.
    async fn drain(&self, patience: Duration) {
        self.enter_phase(Phase::Draining);
        if tokio::time::timeout(patience, self.drained()).await.is_err() {
            tracing::warn!(
                worker = self.index,
                connections = self.active.get(),
                "drain_timeout is over: closing what is left"
            );
            self.enter_phase(Phase::Closing);
            self.drained().await;
        }
    }
}

/// Counts a connection for as long as its task lives, however that ends.
struct ActiveGuard(Rc<Worker>);

impl ActiveGuard {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.active.set(worker.active.get() + 1);
        worker.active_gauge.increment(1.0);
        Self(Rc::clone(worker))
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        let worker = &self.0;
        worker.active.set(worker.active.get() - 1);
        worker.active_gauge.decrement(1.0);
        if worker.active.get() == 0 {
            worker.drained.notify_one();
        }
    }
}

/// Serves a connection that another worker accepted.
fn serve(worker: &Rc<Worker>, listeners: &[Rc<WorkerListener>], index: usize, hand_off: HandOff) {
    if let (Some(listener), Ok(accepted)) = (listeners.get(index), hand_off.attach()) {
        worker.serve(listener, accepted);
    }
}

/// Has every connection look at what its endpoint wishes, those to clients and those that rest.
fn endpoints_changed(worker: &Rc<Worker>, listeners: &[Rc<WorkerListener>]) {
    worker.notify_connections();
    listeners.iter().for_each(|listener| listener.upstreams().close_unwanted());
}

/// Keeps a timer running that is due before any that a new connection sets, for as long as new
/// ones come. To set the soonest timer of all costs the runtime a write to its own wake-up
/// descriptor and a turn of its loop, and a connection would do so twice.
async fn keep_timer_running(worker: Rc<Worker>) {
    while worker.served_lately.replace(false) {
        tokio::time::sleep(TIMER_PERIOD).await;
    }
    worker.timer_running.set(false);
}

/// Works until drained.
///
/// # Errors
/// When a listener can't be accepted on.
pub async fn work(
    worker: Rc<Worker>,
    listeners: Vec<Rc<WorkerListener>>,
    dispatcher: listener::Dispatcher,
    lines: Option<Rc<LineBuffer>>,
    mut inbox: UnboundedReceiver<Message>,
) -> io::Result<()> {
    let mut accepting = JoinSet::new();
    loop {
        let message = tokio::select! {
            biased;
            message = inbox.recv() => message,
            Some(ended) = accepting.join_next() => return Err(accept_error(ended)),
        };
        let Some(message) = message else {
            // Nothing can be told any more, and nothing was told to end.
            accepting.detach_all();
            break;
        };
        match message {
            Message::Listen(socket) => {
                let Some(listener) = listeners.get(socket.listener) else { continue };
                let (worker, listener) = (Rc::clone(&worker), Rc::clone(listener));
                accepting.spawn_local(listener::accept(
                    worker,
                    listener,
                    socket,
                    dispatcher.clone(),
                ));
            }
            Message::Serve(index, hand_off) => {
                serve(&worker, &listeners, index, hand_off);
            }
            Message::EndpointsChanged => endpoints_changed(&worker, &listeners),
            Message::ListSessions(choice, answer) => {
                drop(answer.send(worker.list_sessions(&choice)))
            }
            Message::KillSession(id, answer) => drop(answer.send(worker.kill_session(id))),
            Message::Drain(patience) => {
                accepting.shutdown().await;
                listeners.iter().for_each(|listener| listener.upstreams().close());
                // What was handed over before the word to drain still counts as accepted, and
                // workers that have yet to hear it may hand over more.
                let mut drain = pin!(worker.drain(patience));
                loop {
                    tokio::select! {
                        biased;
                        Some(message) = inbox.recv() => {
                            match message {
                                Message::Serve(index, hand_off) => {
                                    serve(&worker, &listeners, index, hand_off);
                                }
                                Message::EndpointsChanged => endpoints_changed(&worker, &listeners),
                                Message::ListSessions(choice, answer) => {
                                    drop(answer.send(worker.list_sessions(&choice)));
                                }
                                Message::KillSession(id, answer) => drop(answer.send(worker.kill_session(id))),
                                Message::Listen(_) | Message::Drain(_) => {}
                            }
                        }
                        () = &mut drain => break,
                    }
                }
                break;
            }
        }
    }
    if let Some(lines) = lines {
        lines.flush();
    }
    Ok(())
}

/// Why a listener is not accepted on any more. A proxy without it must not go on as if it were ready.
fn accept_error(ended: Result<io::Error, JoinError>) -> io::Error {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(error) => error,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(aborted)) => io::Error::other(aborted),
    }
}

#[cfg(test)]
mod tests;
