//! A worker: one thread, one single-threaded runtime, and one of everything that is hot.

mod sessions;

use crate::{
    connection::{
        self, Accepted, Parcel,
        session::{Choice, Report, Session},
    },
    listener::{self, Local, Socket},
    policy::access_log::Lines,
    relay::Buffers,
};
use metrics::Gauge;
pub use sessions::{Busy, Sessions};
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
pub const STACK: usize = 4 << 20;

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
        .thread_stack_size(STACK)
        .build_local(LocalOptions::default())
}

/// What a worker is told.
pub enum Message {
    /// Accept connections here, and hand them out.
    Listen(Socket),
    /// Serve this connection of the listener with this number.
    Serve(usize, Parcel),
    /// Have every connection look at what its endpoint wishes.
    Nudge,
    /// Tell of these connections.
    Tell(Choice, UnboundedSender<Vec<Report>>),
    /// End the connection with this number, and tell whether it is here.
    Kill(u64, UnboundedSender<bool>),
    /// Stop accepting, let operations end, and leave after this long at the latest.
    Drain(Duration),
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes new connections.
    Working,
    /// Its connections close as soon as they come to a rest.
    Draining,
    /// Its connections close now.
    Leaving,
}

/// What the connections of one worker share.
pub struct Worker {
    /// Which worker this is, from 0.
    pub index: usize,
    /// Buffers, lent while bytes are in hand.
    pub buffers: Buffers,
    phase: Cell<Phase>,
    /// Who has to be woken when the phase changes.
    connections: RefCell<Slab<Open>>,
    leaving: Notify,
    nudges: Cell<u64>,
    alive: Cell<usize>,
    /// The same, for all to see.
    open: Gauge,
    emptied: Notify,
    /// Whether [`pace`] runs, and whether it has reason to go on.
    paced: Cell<bool>,
    busy: Cell<bool>,
}

/// A connection that is open.
struct Open {
    session: Rc<Session>,
    waker: Waker,
}

/// How often a worker that takes connections wakes for [`pace`].
const PACE: Duration = Duration::from_millis(100);

impl Worker {
    /// Worker number `index`, at work.
    pub fn new(index: usize) -> Rc<Self> {
        Self::counted(index, Gauge::noop())
    }

    /// The same; `open` tells how many connections it serves.
    pub fn counted(index: usize, open: Gauge) -> Rc<Self> {
        Rc::new(Self {
            index,
            buffers: Buffers::default(),
            phase: Cell::new(Phase::Working),
            connections: RefCell::default(),
            leaving: Notify::new(),
            nudges: Cell::new(0),
            alive: Cell::new(0),
            open,
            emptied: Notify::new(),
            paced: Cell::new(false),
            busy: Cell::new(false),
        })
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Ends when the worker leaves.
    pub async fn leaving(&self) {
        while self.phase() != Phase::Leaving {
            self.leaving.notified().await;
        }
    }

    /// Notes a connection. Returns its place.
    pub fn enter(&self, session: &Rc<Session>) -> usize {
        let (session, waker) = (Rc::clone(session), Waker::noop().clone());
        self.connections.borrow_mut().insert(Open { session, waker })
    }

    /// Notes the task of the connection at this place, to be woken when the phase changes.
    pub fn wakes(&self, place: usize, waker: &Waker) {
        if let Some(open) = self.connections.borrow_mut().get_mut(place) {
            open.waker.clone_from(waker);
        }
    }

    /// Tells of connections.
    fn tell(&self, choice: &Choice) -> Vec<Report> {
        let connections = self.connections.borrow();
        choice.of(connections.iter().map(|(_, open)| &open.session), Instant::now())
    }

    /// Has a connection end. Tells whether it is here.
    fn kill(&self, id: u64) -> bool {
        let connections = self.connections.borrow();
        let Some((_, open)) = connections.iter().find(|(_, open)| open.session.kill(id)) else {
            return false;
        };
        open.waker.wake_by_ref();
        true
    }

    /// Forgets the connection at this place.
    pub fn leave(&self, place: usize) {
        self.connections.borrow_mut().try_remove(place);
    }

    /// Starts serving a connection.
    pub fn serve(self: &Rc<Self>, local: &Rc<Local>, accepted: Accepted) {
        let (worker, local) = (Rc::clone(self), Rc::clone(local));
        let alive = Alive::new(self);
        self.busy.set(true);
        if !self.paced.replace(true) {
            spawn_local(pace(Rc::clone(self)));
        }
        spawn_local(async move {
            connection::serve(worker, local, accepted).await;
            drop(alive);
        });
    }

    /// How often connections were told to look at what has changed.
    pub fn nudges(&self) -> u64 {
        self.nudges.get()
    }

    /// Has every connection look at what has changed.
    fn nudge(&self) {
        self.nudges.set(self.nudges.get() + 1);
        for (_, open) in self.connections.borrow().iter() {
            open.waker.wake_by_ref();
        }
    }

    fn turn(&self, phase: Phase) {
        self.phase.set(phase);
        self.nudge();
        if phase == Phase::Leaving {
            self.leaving.notify_waiters();
        }
    }

    async fn emptied(&self) {
        while self.alive.get() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Lets operations end, for as long as `patience`.
    async fn drain(&self, patience: Duration) {
        self.turn(Phase::Draining);
        if tokio::time::timeout(patience, self.emptied()).await.is_err() {
            tracing::warn!(
                worker = self.index,
                connections = self.alive.get(),
                "drain_timeout is over: closing what is left"
            );
            self.turn(Phase::Leaving);
            self.emptied().await;
        }
    }
}

/// Counts a connection for as long as its task lives, however that ends.
struct Alive(Rc<Worker>);

impl Alive {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.alive.set(worker.alive.get() + 1);
        worker.open.increment(1.0);
        Self(Rc::clone(worker))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let worker = &self.0;
        worker.alive.set(worker.alive.get() - 1);
        worker.open.decrement(1.0);
        if worker.alive.get() == 0 {
            worker.emptied.notify_one();
        }
    }
}

/// Serves a connection that another worker accepted.
fn serve(worker: &Rc<Worker>, locals: &[Rc<Local>], listener: usize, parcel: Parcel) {
    if let (Some(local), Ok(accepted)) = (locals.get(listener), parcel.unpack()) {
        worker.serve(local, accepted);
    }
}

/// Has every connection look at what its endpoint wishes, those to clients and those that rest.
fn nudge(worker: &Rc<Worker>, locals: &[Rc<Local>]) {
    worker.nudge();
    locals.iter().for_each(|local| local.upstreams().look());
}

/// Keeps a timer running that is due before any that a new connection sets, for as long as new
/// ones come. To set the soonest timer of all costs the runtime a write to its own wake-up
/// descriptor and a turn of its loop, and a connection would do so twice.
async fn pace(worker: Rc<Worker>) {
    while worker.busy.replace(false) {
        tokio::time::sleep(PACE).await;
    }
    worker.paced.set(false);
}

/// Works until drained.
///
/// # Errors
/// When a listener can't be accepted on.
pub async fn work(
    worker: Rc<Worker>,
    locals: Vec<Rc<Local>>,
    crew: listener::Crew,
    lines: Option<Rc<Lines>>,
    mut inbox: UnboundedReceiver<Message>,
) -> io::Result<()> {
    let mut accepting = JoinSet::new();
    loop {
        let message = tokio::select! {
            biased;
            message = inbox.recv() => message,
            Some(ended) = accepting.join_next() => return Err(no_ears(ended)),
        };
        let Some(message) = message else {
            // Nothing can be told any more, and nothing was told to end.
            accepting.detach_all();
            break;
        };
        match message {
            Message::Listen(socket) => {
                let Some(local) = locals.get(socket.listener) else { continue };
                let (worker, local) = (Rc::clone(&worker), Rc::clone(local));
                accepting.spawn_local(listener::accept(worker, local, socket, crew.clone()));
            }
            Message::Serve(listener, parcel) => {
                serve(&worker, &locals, listener, parcel);
            }
            Message::Nudge => nudge(&worker, &locals),
            Message::Tell(choice, answer) => drop(answer.send(worker.tell(&choice))),
            Message::Kill(id, answer) => drop(answer.send(worker.kill(id))),
            Message::Drain(patience) => {
                accepting.shutdown().await;
                locals.iter().for_each(|local| local.upstreams().close());
                // What was handed over before the word to drain still counts as accepted, and
                // workers that have yet to hear it may hand over more.
                let mut drain = pin!(worker.drain(patience));
                loop {
                    tokio::select! {
                        biased;
                        Some(message) = inbox.recv() => {
                            match message {
                                Message::Serve(listener, parcel) => {
                                    serve(&worker, &locals, listener, parcel);
                                }
                                Message::Nudge => nudge(&worker, &locals),
                                Message::Tell(choice, answer) => {
                                    drop(answer.send(worker.tell(&choice)));
                                }
                                Message::Kill(id, answer) => drop(answer.send(worker.kill(id))),
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
fn no_ears(ended: Result<io::Error, JoinError>) -> io::Error {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(error) => error,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(aborted)) => io::Error::other(aborted),
    }
}

#[cfg(test)]
mod tests;
