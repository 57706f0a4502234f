//! The accept loop, which dispatches connections to the workers.

use super::{
    Worker,
    message::{Dispatcher, Message},
};
use crate::{
    connection::Accepted,
    listener::{ListenSocket, WorkerListener, is_due},
};
use rustix::io::Errno;
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

/// The first and the longest pause when the process is out of descriptors.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Accepts and dispatches connections until cancelled. Returns only if it can't start.
pub(super) async fn accept(
    worker: Rc<Worker>,
    listener: Rc<WorkerListener>,
    socket: ListenSocket,
    dispatcher: Dispatcher,
) -> io::Error {
    let name = &*listener.plan().name;
    let socket = match TcpListener::from_std(socket.socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = name, %error, "can't accept");
            return error;
        }
    };
    let mut pause = PAUSES.0;
    let last_logged = Cell::default();
    loop {
        let accepted = if listener.shared().fits_another(&dispatcher.budget) {
            socket.accept().await
        } else {
            Err(Errno::MFILE.into())
        };
        let error = match accepted {
            Ok((connection, peer)) => {
                pause = PAUSES.0;
                dispatch(&worker, &listener, &dispatcher, connection, peer);
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
                listener = name,
                %error,
                "out of file descriptors: new connections wait until one is free; \
                 raise the limit (ulimit -n, LimitNOFILE=) or lower max_connections"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn dispatch(
    worker: &Rc<Worker>,
    listener: &Rc<WorkerListener>,
    dispatcher: &Dispatcher,
    socket: TcpStream,
    peer: SocketAddr,
) {
    let Some((to, slot)) = listener.shared().take_slot(&dispatcher.budget, worker.index) else {
        listener.count_full();
        tracing::debug!(listener = &*listener.plan().name, %peer, "refused: at max_connections");
        return;
    };
    let accepted = Accepted { socket, peer, at: Instant::now(), slot };
    if to == worker.index {
        worker.serve(listener, accepted);
    } else if let (Some(inbox), Ok(hand_off)) = (dispatcher.inboxes.get(to), accepted.detach()) {
        // A worker that has ended drops the message, which closes the connection.
        let _ = inbox.send(Message::Serve(listener.shared().index, hand_off));
    }
}
