//! A worker: one thread with a single-threaded runtime and its own copy of all hot state.

mod accept;
mod message;
mod sessions;

use crate::{
    connection::{self, Accepted, Connections, HandOff},
    listener::WorkerListener,
    threads::STACK_BYTES,
};
use accept::accept;
pub use message::{Dispatcher, Message};
use metrics::Gauge;
use policy::access_log::LineBuffer;
use session::Phase;
pub use sessions::{QueryShapes, Sessions, WorkerTimeout};
use shapes::WorkerShapes;
use std::{cell::Cell, io, panic::resume_unwind, pin::pin, rc::Rc, time::Duration};
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{Notify, mpsc::UnboundedReceiver},
    task::{JoinError, JoinSet, spawn_local},
};

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

/// A worker, with its connections.
pub struct Worker {
    /// Which worker this is, from 0.
    pub index: usize,
    /// Its open connections, and their shared state.
    pub connections: Rc<Connections>,
    active: Cell<usize>,
    /// The same number, as a metric.
    active_gauge: Gauge,
    drained: Notify,
    /// Whether [`keep_timer_running`] runs, and whether a connection was served in its last period.
    timer_running: Cell<bool>,
    served_lately: Cell<bool>,
}

/// The period of [`keep_timer_running`].
const TIMER_PERIOD: Duration = Duration::from_millis(100);

impl Worker {
    /// A running worker with this index.
    pub fn new(index: usize) -> Rc<Self> {
        Self::with_gauge(index, Gauge::noop())
    }

    /// The same, with a gauge that counts its connections.
    pub fn with_gauge(index: usize, open: Gauge) -> Rc<Self> {
        Rc::new(Self {
            index,
            connections: Rc::default(),
            active: Cell::new(0),
            active_gauge: open,
            drained: Notify::new(),
            timer_running: Cell::new(false),
            served_lately: Cell::new(false),
        })
    }

    /// Starts serving a connection.
    pub fn serve(self: &Rc<Self>, listener: &Rc<WorkerListener>, accepted: Accepted) {
        let (connections, listener) = (Rc::clone(&self.connections), Rc::clone(listener));
        let alive = ActiveGuard::new(self);
        self.served_lately.set(true);
        if !self.timer_running.replace(true) {
            spawn_local(keep_timer_running(Rc::clone(self)));
        }
        spawn_local(async move {
            connection::serve(connections, listener, accepted).await;
            drop(alive);
        });
    }

    async fn drained(&self) {
        while self.active.get() > 0 {
            self.drained.notified().await;
        }
    }

    /// Waits up to `timeout` for operations to finish, then closes the rest.
    async fn drain(&self, timeout: Duration) {
        self.connections.enter_phase(Phase::Draining);
        if tokio::time::timeout(timeout, self.drained()).await.is_err() {
            tracing::warn!(
                worker = self.index,
                connections = self.active.get(),
                "drain_timeout has expired: closing the remaining connections"
            );
            self.connections.enter_phase(Phase::Closing);
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
    worker.connections.notify();
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
    dispatcher: Dispatcher,
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
                accepting.spawn_local(accept(worker, listener, socket, dispatcher.clone()));
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
        Message::ClientRulesChanged(server) => {
            spawn_local(Rc::clone(&worker.connections).close_revoked(server));
        }
        Message::ListSessions(choice, answer) => {
            drop(answer.send(worker.connections.list(&choice)))
        }
        Message::KillSession(id, answer) => drop(answer.send(worker.connections.kill(id))),
        Message::ListShapes(answer) => {
            let report = shapes(listeners).map(|shapes| shapes.report()).unwrap_or_default();
            drop(answer.send(report));
        }
        Message::ResetShapes(answer) => {
            shapes(listeners).into_iter().for_each(|shapes| shapes.reset());
            let _ = answer.send(());
        }
        Message::Listen(_) | Message::Drain(_) => {}
    }
}

/// The worker's table of query shapes, which its listeners share; `None` if no listener counts them.
fn shapes(listeners: &[Rc<WorkerListener>]) -> Option<&Rc<WorkerShapes>> {
    listeners.iter().find_map(|listener| listener.gate().shapes())
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
