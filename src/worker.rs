//! A worker: one thread with a single-threaded runtime and its own copy of all hot state.

mod accept;
mod listeners;
mod message;
mod sessions;

use crate::{
    connection::{self, Accepted, Connections},
    listener::{DrainOptions, WorkerListener},
    threads::STACK_BYTES,
};
use accept::Accepting;
use listeners::Listeners;
pub use message::{ConfigChange, Dispatcher, Message};
use metrics::Gauge;
use policy::access_log::LineBuffer;
use session::Phase;
pub use sessions::{ConnectionCounts, QueryShapes, Sessions, WorkerTimeout};
use std::{cell::Cell, io, pin::pin, rc::Rc, time::Duration};
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{Notify, mpsc::UnboundedReceiver},
    task::spawn_local,
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

    /// Lets the connections of a listener that was changed or removed end, if the config change says so.
    fn drain_listener(self: &Rc<Self>, listener: &Rc<WorkerListener>, change: &ConfigChange) {
        let Some(options) = change.drains(listener.state().id) else { return };
        if listener.drain().phase() != Phase::Running {
            return;
        }
        let (worker, listener) = (Rc::clone(self), Rc::clone(listener));
        spawn_local(async move {
            worker.connections.drain_listener(&listener, options).await;
        });
    }

    async fn drained(&self) {
        while self.active.get() > 0 {
            self.drained.notified().await;
        }
    }

    /// Lets connections close when they are idle, each at its turn, and waits up to the time-out for them. Then
    /// closes the rest.
    async fn drain(&self, options: DrainOptions) {
        let timeout = options.timeout;
        let turns = async {
            self.connections.drain(options).await;
            std::future::pending::<()>().await;
        };
        // The turns do not hold up a worker that has no connection left.
        let drained = async {
            tokio::select! {
                () = turns => {}
                () = self.drained() => {}
            }
        };
        if tokio::time::timeout(timeout, drained).await.is_err() {
            tracing::warn!(
                worker = self.index,
                connections = self.active.get(),
                "drain_timeout has expired: closing the remaining connections"
            );
            self.connections.close();
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

/// Makes client connections and idle pooled connections check their endpoints.
fn endpoints_changed(worker: &Worker, listeners: &Listeners) {
    worker.connections.notify();
    listeners.current().iter().for_each(|listener| listener.upstreams().close_unwanted());
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

/// Makes the listeners of a worker as the newest config says; those that are unchanged are the same.
pub type MakeListeners = Box<dyn FnMut() -> Vec<Rc<WorkerListener>>>;

/// Runs the worker with these listeners until it has drained. `make_listeners` is called after each reload of the
/// config.
///
/// # Errors
/// A listener can't accept.
pub async fn work(
    worker: Rc<Worker>,
    first: Vec<Rc<WorkerListener>>,
    mut make_listeners: MakeListeners,
    dispatcher: Dispatcher,
    lines: Option<Rc<LineBuffer>>,
    mut inbox: UnboundedReceiver<Message>,
) -> io::Result<()> {
    let listeners = Rc::new(Listeners::default());
    listeners.replace(first);
    let mut accepting = Accepting::default();
    loop {
        let message = tokio::select! {
            biased;
            message = inbox.recv() => message,
            error = accepting.failed() => return Err(error),
        };
        let Some(message) = message else {
            // All senders are gone without a drain request.
            accepting.detach();
            break;
        };
        match message {
            Message::Listen(socket) => accepting.begin(&worker, &listeners, socket, &dispatcher),
            Message::StopListening(socket) => accepting.end(socket),
            Message::ConfigChanged(change) => {
                listeners.replace(make_listeners());
                listeners.ended().iter().for_each(|it| worker.drain_listener(it, &change));
                worker.connections.notify();
            }
            Message::Drain(options) => {
                accepting.end_all().await;
                listeners.current().iter().for_each(|listener| listener.upstreams().close());
                drain(&worker, &listeners, &mut inbox, options).await;
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

/// Waits until the worker's connections have ended, as long as `options` say.
///
/// Connections handed over before the drain are served, and workers that have not received the drain
/// message may hand over more.
async fn drain(
    worker: &Rc<Worker>,
    listeners: &Listeners,
    inbox: &mut UnboundedReceiver<Message>,
    options: DrainOptions,
) {
    let mut drained = pin!(worker.drain(options));
    loop {
        tokio::select! {
            biased;
            Some(message) = inbox.recv() => handle(worker, listeners, message),
            () = &mut drained => break,
        }
    }
    // What is handed over from now on is served by the worker that has accepted it.
    inbox.close();
    while let Some(message) = inbox.recv().await {
        handle(worker, listeners, message);
    }
    worker.drain(options).await;
}

/// Handles a message that means the same whether the worker drains or not. The others have no effect:
/// a worker that drains accepts nothing, and drains once.
fn handle(worker: &Rc<Worker>, listeners: &Listeners, message: Message) {
    match message {
        Message::Serve(id, hand_off) => {
            if let (Some(listener), Ok(accepted)) = (listeners.find(id), hand_off.attach()) {
                worker.serve(&listener, accepted);
            }
        }
        Message::EndpointsChanged => endpoints_changed(worker, listeners),
        Message::ClientRulesChanged(server) => {
            spawn_local(Rc::clone(&worker.connections).close_revoked(server));
        }
        Message::CountConnections(answer) => drop(answer.send(worker.active.get())),
        Message::ListSessions(choice, answer) => {
            drop(answer.send(worker.connections.list(&choice)))
        }
        Message::KillSession(id, answer) => drop(answer.send(worker.connections.kill(id))),
        Message::ListShapes(answer) => {
            let report = listeners.shapes().map(|shapes| shapes.report()).unwrap_or_default();
            drop(answer.send(report));
        }
        Message::ResetShapes(answer) => {
            listeners.shapes().into_iter().for_each(|shapes| shapes.reset());
            let _ = answer.send(());
        }
        Message::Listen(_)
        | Message::StopListening(_)
        | Message::ConfigChanged(_)
        | Message::Drain(_) => {}
    }
}

#[cfg(test)]
mod tests;
