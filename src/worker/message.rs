//! Messages to workers.

use crate::{
    connection::{
        HandOff,
        session_info::{SessionQuery, SessionReport},
    },
    listener::{ConnectionBudget, DrainOptions, ListenSocket},
};
use shapes::WorkerReport;
use std::{collections::BTreeMap, rc::Rc, sync::Arc};
use tls::ServerTls;
use tokio::sync::mpsc::UnboundedSender;

/// A message to a worker.
pub enum Message {
    /// Accept on this socket and dispatch the connections.
    Listen(ListenSocket),
    /// Accept what waits at the socket with this number, and close it.
    StopListening(u64),
    /// Serve this connection of the listener with this id.
    Serve(u64, HandOff),
    /// The config was reloaded: make the listeners again.
    ConfigChanged(Arc<ConfigChange>),
    /// Endpoints or policies changed: every connection checks whether it must close.
    EndpointsChanged,
    /// The rules for clients' certificates of this listener changed: its connections are verified again.
    ClientRulesChanged(Arc<ServerTls>),
    /// Report how many connections are open.
    CountConnections(UnboundedSender<usize>),
    /// Report these connections.
    ListSessions(SessionQuery, UnboundedSender<Vec<SessionReport>>),
    /// Close the connection with this id, and report whether it is on this worker.
    KillSession(u64, UnboundedSender<bool>),
    /// Report the query shapes that were counted.
    ListShapes(UnboundedSender<WorkerReport>),
    /// Forget the query shapes, and report that it is done.
    ResetShapes(UnboundedSender<()>),
    /// Stop accepting, let operations finish, and close everything after some time.
    Drain(DrainOptions),
}

/// What a reload of the config does to connections that are open.
#[derive(Clone, Debug, Default)]
pub struct ConfigChange {
    /// The listeners whose connections end, by id. The connections of others go on with the config that they
    /// began with.
    pub drains: BTreeMap<u64, DrainOptions>,
}

impl ConfigChange {
    /// How the connections of a listener end, if they do.
    pub(super) fn drains(&self, listener: u64) -> Option<DrainOptions> {
        self.drains.get(&listener).copied()
    }
}

/// The workers that connections are dispatched to.
#[derive(Clone)]
pub struct Dispatcher {
    /// One inbox per worker.
    pub inboxes: Rc<[UnboundedSender<Message>]>,
    /// The connection budget of the whole proxy.
    pub budget: Arc<ConnectionBudget>,
}
