//! A worker: one thread with a single-threaded runtime and its own copy of all hot state.

mod sessions;

use crate::{
    connection::{
        self, Accepted, HandOff,
        session_info::{SessionInfo, SessionQuery, SessionReport},
    },
    listener::{self, ListenSocket, WorkerListener},
    policy::access_log::LineBuffer,
};
use metrics::Gauge;
use relay::Buffers;
use session::Phase;
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
/// Every recursive parser has a depth limit: protobuf and JSON messages 100 levels, query parameters
/// 32 names. The deepest needs less than 1 MiB, also in a debug build; their tests check this. Unused
/// stack pages cost no memory.
pub const STACK_BYTES: usize = 4 << 20;

/// The runtime of a worker.
///
/// Long work, such as parsing a large JSON body, runs on one more thread (`spawn_blocking`), so that
/// the worker's other connections do not wait. Each worker has one such thread: large bodies queue,
/// which bounds memory and cores.
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

/// A message to a worker.
pub enum Message {
    /// Accept on this socket and dispatch the connections.
    Listen(ListenSocket),
    /// Serve this connection of the listener with this index.
    Serve(usize, HandOff),
    /// Endpoints or policies changed: every connection checks whether it must close.
    EndpointsChanged,
    /// Report these connections.
    ListSessions(SessionQuery, UnboundedSender<Vec<SessionReport>>),
    /// Close the connection with this id, and report whether it is on this worker.
    KillSession(u64, UnboundedSender<bool>),
    /// Stop accepting, let operations finish, and close everything after this time.
    Drain(Duration),
}

/// What the connections of one worker share.
pub struct Worker {
    /// Which worker this is, from 0.
    pub index: usize,
    /// Buffers, lent to connections while they process bytes.
    pub buffers: Rc<Buffers>,
    phase: Cell<Phase>,
    /// Open connections, to be woken when the phase changes.
    connections: RefCell<Slab<Registered>>,
    closing: Notify,
    generation: Cell<u64>,
    active: Cell<usize>,
    /// The same, as a metric.
    active_gauge: Gauge,
    drained: Notify,
    /// Whether [`keep_timer_running`] runs, and whether a connection was served in its last period.
    timer_running: Cell<bool>,
    served_lately: Cell<bool>,
}

/// An open connection.
struct Registered {
    session: Rc<SessionInfo>,
    waker: Waker,
}

/// The period of [`keep_timer_running`].
const TIMER_PERIOD: Duration = Duration::from_millis(100);

impl Worker {
    /// Worker number `index`, running.
    pub fn new(index: usize) -> Rc<Self> {
        Self::with_gauge(index, Gauge::noop())
    }

    /// The same; the gauge counts its connections.
    pub fn with_gauge(index: usize, open: Gauge) -> Rc<Self> {
        Rc::new(Self {
            index,
            buffers: Rc::default(),
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

    /// Its phase.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Completes when the worker closes its connections.
    pub async fn closing(&self) {
        while self.phase() != Phase::Closing {
            self.closing.notified().await;
        }
    }

    /// Registers a connection. Returns its key.
    pub fn register(&self, session: &Rc<SessionInfo>) -> usize {
        let (session, waker) = (Rc::clone(session), Waker::noop().clone());
        self.connections.borrow_mut().insert(Registered { session, waker })
    }

    /// Sets the waker of the connection with this key, for when the phase changes.
    pub fn set_waker(&self, place: usize, waker: &Waker) {
        if let Some(open) = self.connections.borrow_mut().get_mut(place) {
            open.waker.clone_from(waker);
        }
    }

    /// Reports the selected connections.
    fn list_sessions(&self, choice: &SessionQuery) -> Vec<SessionReport> {
        let connections = self.connections.borrow();
        choice.select(connections.iter().map(|(_, open)| &open.session), Instant::now())
    }

    /// Requests the close of a connection. Returns whether it is on this worker.
    fn kill_session(&self, id: u64) -> bool {
        let connections = self.connections.borrow();
        let Some((_, open)) = connections.iter().find(|(_, open)| open.session.kill(id)) else {
            return false;
        };
        open.waker.wake_by_ref();
        true
    }

    /// Removes the connection with this key.
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

    /// Incremented whenever connections must check for changes.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Wakes every connection to check for changes.
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

    /// Waits up to `patience` for operations to finish, then closes the rest.
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

/// Counts a connection while its task lives; decrements on drop, also after a panic.
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

/// Makes client connections and idle pooled connections check their endpoints.
fn endpoints_changed(worker: &Rc<Worker>, listeners: &[Rc<WorkerListener>]) {
    worker.notify_connections();
    listeners.iter().for_each(|listener| listener.upstreams().close_unwanted());
}

/// Keeps a timer running that is due before the timers of new connections, while new connections
/// arrive. Setting the earliest timer costs the runtime a write to its wake-up descriptor and one more
/// loop, twice per connection.
async fn keep_timer_running(worker: Rc<Worker>) {
    while worker.served_lately.replace(false) {
        tokio::time::sleep(TIMER_PERIOD).await;
    }
    worker.timer_running.set(false);
}

/// Runs the worker until it has drained.
///
/// # Errors
/// A listener can't accept.
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
            // All senders are gone without a drain request.
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
            Message::Drain(patience) => {
                accepting.shutdown().await;
                listeners.iter().for_each(|listener| listener.upstreams().close());
                drain(&worker, &listeners, &mut inbox, patience).await;
                break;
            }
            other => handle(&worker, &listeners, other),
        }
    }
    if let Some(lines) = lines {
        lines.flush();
    }
    Ok(())
}

/// Waits until the worker's connections have ended, `patience` at most.
///
/// Connections handed over before the drain are served, and workers that have not received the drain
/// message may hand over more.
async fn drain(
    worker: &Rc<Worker>,
    listeners: &[Rc<WorkerListener>],
    inbox: &mut UnboundedReceiver<Message>,
    patience: Duration,
) {
    let mut drained = pin!(worker.drain(patience));
    loop {
        tokio::select! {
            biased;
            Some(message) = inbox.recv() => handle(worker, listeners, message),
            () = &mut drained => return,
        }
    }
}

/// Handles a message that means the same whether the worker drains or not. The others have no effect:
/// a worker that drains accepts nothing, and drains once.
fn handle(worker: &Rc<Worker>, listeners: &[Rc<WorkerListener>], message: Message) {
    match message {
        Message::Serve(index, hand_off) => serve(worker, listeners, index, hand_off),
        Message::EndpointsChanged => endpoints_changed(worker, listeners),
        Message::ListSessions(choice, answer) => drop(answer.send(worker.list_sessions(&choice))),
        Message::KillSession(id, answer) => drop(answer.send(worker.kill_session(id))),
        Message::Listen(_) | Message::Drain(_) => {}
    }
}

/// The error of an ended accept task. The proxy must not continue as if the listener were ready.
fn accept_error(ended: Result<io::Error, JoinError>) -> io::Error {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(error) => error,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(aborted)) => io::Error::other(aborted),
    }
}

#[cfg(test)]
mod tests;
