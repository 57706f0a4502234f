//! The accept loop, which dispatches connections to the workers.

use super::{
    Worker,
    listeners::Listeners,
    message::{Dispatcher, Message},
};
use crate::{
    connection::Accepted,
    listener::{ListenSocket, is_due, prepare},
};
use rustix::io::Errno;
use socket2::SockRef;
use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    panic::resume_unwind,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::error::SendError,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// The first and the longest pause when the process is out of descriptors.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The sockets on which a worker accepts.
#[derive(Default)]
pub(super) struct Accepting {
    tasks: JoinSet<io::Result<()>>,
    /// Cancelled to close a socket, by its number.
    stops: BTreeMap<u64, CancellationToken>,
}

impl Accepting {
    /// Begins to accept on a socket.
    pub(super) fn begin(
        &mut self,
        worker: &Rc<Worker>,
        listeners: &Rc<Listeners>,
        socket: ListenSocket,
        dispatcher: &Dispatcher,
    ) {
        let stop = CancellationToken::new();
        self.stops.insert(socket.number, stop.clone());
        let (worker, listeners) = (Rc::clone(worker), Rc::clone(listeners));
        let acceptor = Acceptor {
            worker,
            listeners,
            listener: socket.listener,
            dispatcher: dispatcher.clone(),
        };
        self.spawn(acceptor.run(socket.socket, stop));
    }

    pub(super) fn spawn(&mut self, accept: impl Future<Output = io::Result<()>> + 'static) {
        self.tasks.spawn_local(accept);
    }

    /// Accepts what waits at the socket with this number, and closes it.
    pub(super) fn end(&mut self, number: u64) {
        if let Some(stop) = self.stops.remove(&number) {
            stop.cancel();
        }
    }

    /// The same for all sockets. Returns when they are closed.
    pub(super) async fn end_all(&mut self) {
        std::mem::take(&mut self.stops).into_values().for_each(|stop| stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }

    /// Lets the sockets be accepted on as long as the runtime lives.
    pub(super) fn detach(&mut self) {
        self.tasks.detach_all();
    }

    /// The error of a socket on which nothing can be accepted: the proxy must not continue as if the listener were
    /// ready.
    pub(super) async fn failed(&mut self) -> io::Error {
        loop {
            match self.tasks.join_next().await.map(|it| it.map_err(JoinError::try_into_panic)) {
                None => std::future::pending().await,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(Ok(panic))) => resume_unwind(panic),
                Some(Err(Err(aborted))) => return io::Error::other(aborted),
            }
        }
    }
}

/// Accepts and dispatches the connections of one socket.
struct Acceptor {
    worker: Rc<Worker>,
    listeners: Rc<Listeners>,
    /// The listener's id.
    listener: u64,
    dispatcher: Dispatcher,
}

impl Acceptor {
    /// Accepts until `stop`, and what waits then.
    ///
    /// # Errors
    /// It can't start.
    async fn run(self, socket: std::net::TcpListener, stop: CancellationToken) -> io::Result<()> {
        let socket = TcpListener::from_std(socket).inspect_err(|error| {
            let listener = self.listeners.find(self.listener);
            let name = listener.as_ref().map(|it| &*it.plan().name);
            tracing::error!(listener = name, %error, "can't accept");
        })?;
        tokio::select! {
            () = self.accept(&socket) => {}
            () = stop.cancelled() => self.empty(socket),
        }
        Ok(())
    }

    /// Accepts and dispatches connections. Ends if the listener is gone.
    async fn accept(&self, socket: &TcpListener) {
        let mut pause = PAUSES.0;
        let last_logged = Cell::default();
        let mut current = self.listeners.find(self.listener);
        while let Some(listener) = self.listeners.find(self.listener) {
            if current.as_ref().is_none_or(|current| !Rc::ptr_eq(current, &listener)) {
                // The options that connections inherit.
                let _ = prepare(SockRef::from(socket), listener.plan().tcp_user_timeout);
                current = Some(Rc::clone(&listener));
            }
            let accepted = if listener.shared().fits_another(&self.dispatcher.budget) {
                socket.accept().await
            } else {
                Err(Errno::MFILE.into())
            };
            let error = match accepted {
                Ok((connection, peer)) => {
                    pause = PAUSES.0;
                    self.dispatch(connection, peer);
                    continue;
                }
                Err(error) => error,
            };
            if !matches!(
                Errno::from_io_error(&error),
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
            ) {
                // Nearly always a client that left before it was accepted. A permanent error must not
                // keep the worker busy.
                tokio::task::yield_now().await;
                continue;
            }
            listener.count_pause();
            if is_due(&last_logged) {
                tracing::error!(
                    listener = &*listener.plan().name,
                    %error,
                    "out of file descriptors: new connections wait until one is free; \
                     raise the limit (ulimit -n, LimitNOFILE=) or lower max_connections"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Dispatches the connections that wait, and closes the socket: the kernel would reset them.
    fn empty(&self, socket: TcpListener) {
        let Ok(socket) = socket.into_std() else { return };
        while let Ok((connection, peer)) = socket.accept() {
            let connection = connection.set_nonblocking(true).map(|()| connection);
            if let Ok(connection) = connection.and_then(TcpStream::from_std) {
                self.dispatch(connection, peer);
            }
        }
    }

    /// Serves the connection on the worker with the fewest of the listener's.
    fn dispatch(&self, socket: TcpStream, peer: SocketAddr) {
        // A reload may have changed it meanwhile.
        let Some(listener) = self.listeners.find(self.listener) else { return };
        let (worker, dispatcher) = (&self.worker, &self.dispatcher);
        let Some((to, slot)) = listener.shared().take_slot(&dispatcher.budget, worker.index) else {
            listener.count_full();
            tracing::debug!(listener = &*listener.plan().name, %peer, "refused: at max_connections");
            return;
        };
        let accepted = Accepted { socket, peer, at: Instant::now(), slot };
        if to == worker.index {
            worker.serve(&listener, accepted);
        } else if let (Some(inbox), Ok(hand_off)) = (dispatcher.inboxes.get(to), accepted.detach())
        {
            // A worker that has drained already takes nothing more.
            if let Err(SendError(Message::Serve(_, back))) =
                inbox.send(Message::Serve(self.listener, hand_off))
                && let Ok(accepted) = back.attach()
            {
                worker.serve(&listener, accepted);
            }
        }
    }
}
