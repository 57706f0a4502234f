//! Messages to workers.

use crate::{
    connection::{
        HandOff,
        session_info::{SessionQuery, SessionReport},
    },
    listener::{ConnectionBudget, ListenSocket},
};
use shapes::WorkerReport;
use std::{rc::Rc, sync::Arc, time::Duration};
use tls::ServerTls;
use tokio::sync::mpsc::UnboundedSender;

/// A message to a worker.
pub enum Message {
    /// Accept on this socket and dispatch the connections.
    Listen(ListenSocket),
    /// Serve this connection of the listener with this index.
    Serve(usize, HandOff),
    /// Endpoints or policies changed: every connection checks whether it must close.
    EndpointsChanged,
    /// The rules for clients' certificates of this listener changed: its connections are verified again.
    ClientRulesChanged(Arc<ServerTls>),
    /// Report these connections.
    ListSessions(SessionQuery, UnboundedSender<Vec<SessionReport>>),
    /// Close the connection with this id, and report whether it is on this worker.
    KillSession(u64, UnboundedSender<bool>),
    /// Report the query shapes that were counted.
    ListShapes(UnboundedSender<WorkerReport>),
    /// Forget the query shapes, and report that it is done.
    ResetShapes(UnboundedSender<()>),
    /// Stop accepting, let operations finish, and close everything after this time.
    Drain(Duration),
}

/// The workers that connections are dispatched to.
#[derive(Clone)]
pub struct Dispatcher {
    /// One inbox per worker.
    pub inboxes: Rc<[UnboundedSender<Message>]>,
    /// The connection budget of the whole proxy.
    pub budget: Arc<ConnectionBudget>,
}
