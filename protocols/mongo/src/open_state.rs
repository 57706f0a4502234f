//! Transactions and cursors that clients of a pool have open at servers, and their end when the client
//! vanishes.
//!
//! A driver may continue them on any of its connections, so the connection that touched one last owns it.
//! What no connection has touched since its owner was closed is ended: a transaction holds locks until the server
//! gives it up after a minute, and a cursor holds memory for ten.

use crate::{
    bson_writer::BsonWriter,
    call_sites::fnv1a,
    element::{elements, kind},
    error_reply,
    header::Header,
    placement::{cursor_key, session_key},
};
use bytes::BytesMut;

use operation::{OpenStateCounts, Orphan, Placement};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much open state of a connection is remembered.
const MAX_OPEN: usize = 64;

/// The id of requests that end what was left.
const REQUEST: u32 = 1;

/// Which connection has touched which state last, and how many connections each client process has.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<OwnerTables>);

#[derive(Debug, Default)]
struct OwnerTables {
    /// The owners of open states, by the states' keys.
    owners: HashMap<u64, Owner>,
    /// How many of them there are.
    counts: OpenStateCounts,
    /// How many connections a client process has, by the hash of its address and its metadata.
    connections: HashMap<u64, usize>,
}

impl OwnerTables {
    fn insert(&mut self, key: u64, owner: Owner) {
        *self.count(owner.kind) += 1;
        if let Some(before) = self.owners.insert(key, owner) {
            *self.count(before.kind) -= 1;
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some(owner) = self.owners.remove(&key) {
            *self.count(owner.kind) -= 1;
        }
    }

    fn count(&mut self, kind: StateKind) -> &mut usize {
        match kind {
            StateKind::Transaction => &mut self.counts.transactions,
            StateKind::Cursor => &mut self.counts.cursors,
            StateKind::Tail => &mut self.counts.tails,
        }
    }
}

/// What a connection owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    /// The number of the connection that has touched the state last.
    connection: u32,
    kind: StateKind,
}

/// What an open state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateKind {
    Transaction,
    Cursor,
    /// A cursor without an end, whose client waits for news.
    Tail,
}

impl Owners {
    /// How much is open.
    pub(crate) fn count(&self) -> OpenStateCounts {
        self.lock().counts
    }

    /// Forgets what was open at another service.
    pub(crate) fn forget_states(&self) {
        let mut tables = self.lock();
        tables.owners.clear();
        tables.counts = OpenStateCounts::default();
    }

    fn lock(&self) -> MutexGuard<'_, OwnerTables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the ownership of `connection`. Returns whether it had it.
    fn release(&self, key: u64, connection: u32) -> bool {
        let mut tables = self.lock();
        let owned = tables.owners.get(&key).is_some_and(|owner| owner.connection == connection);
        if owned {
            tables.remove(key);
        }
        owned
    }

    fn has_connections(&self, process: u64) -> bool {
        self.lock().connections.contains_key(&process)
    }
}

/// A client process that a connection belongs to, counted while the connection is open.
#[derive(Debug)]
pub(crate) struct ClientProcess {
    owners: Arc<Owners>,
    key: u64,
}

impl ClientProcess {
    /// The process at this address that describes itself so in its `hello`.
    pub(crate) fn new(owners: &Arc<Owners>, peer: IpAddr, metadata: &[u8]) -> Self {
        let key = fnv1a(&[peer.to_string().as_bytes(), metadata].concat());
        *owners.lock().connections.entry(key).or_default() += 1;
        Self { owners: Arc::clone(owners), key }
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let mut tables = self.owners.lock();
        if let Some(count) = tables.connections.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                tables.connections.remove(&self.key);
            }
        }
    }
}

/// What a connection has open at servers.
#[derive(Debug, Default)]
pub(crate) struct OpenStates {
    /// The one that was touched last is at the end.
    states: Vec<OpenState>,
    /// What the request under way begins, until it has a connection.
    pub(crate) beginning: Option<OpenState>,
    /// What the request under way ends.
    pub(crate) ending: Option<OpenState>,
}

/// A transaction or a cursor that is open at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenState {
    /// A transaction.
    Transaction(TransactionId),
    /// A cursor.
    Cursor {
        id: i64,
        database: String,
        collection: String,
        /// It has no end: its client waits for news.
        tails: bool,
    },
}

/// A transaction, as every command in it names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransactionId {
    /// The encoded `lsid`.
    session: Vec<u8>,
    number: i64,
}

impl TransactionId {
    /// The transaction that a command belongs to.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let (mut session, mut number) = (None, None);
        for field in elements(body) {
            match field.name {
                b"lsid" if field.kind == kind::DOCUMENT => session = Some(field.value.to_vec()),
                b"txnNumber" => number = field.number(),
                _ => {}
            }
        }
        Some(Self { session: session?, number: number? })
    }
}

impl OpenState {
    /// A cursor of this `database.collection`. A database alone is that of a change stream.
    pub(crate) fn cursor(id: i64, namespace: &str) -> Self {
        let (database, collection) =
            namespace.split_once('.').unwrap_or((namespace, "$cmd.aggregate"));
        let (database, collection) = (database.to_owned(), collection.to_owned());
        Self::Cursor { id, database, collection, tails: false }
    }

    /// A cursor that has no end, if it `tails`.
    pub(crate) fn tailing(mut self, tailing: bool) -> Self {
        if let Self::Cursor { tails, .. } = &mut self {
            *tails = tailing;
        }
        self
    }

    fn kind(&self) -> StateKind {
        match self {
            Self::Transaction(_) => StateKind::Transaction,
            Self::Cursor { tails: false, .. } => StateKind::Cursor,
            Self::Cursor { tails: true, .. } => StateKind::Tail,
        }
    }

    fn key(&self) -> u64 {
        match self {
            OpenState::Transaction(id) => session_key(&id.session),
            OpenState::Cursor { id, .. } => cursor_key(*id),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Transaction(one), Self::Transaction(two)) => one.session == two.session,
            (Self::Cursor { id: one, .. }, Self::Cursor { id: two, .. }) => one == two,
            _ => false,
        }
    }
}

impl OpenStates {
    /// Records that the request under way has a connection: what it begins is open.
    pub(crate) fn begin(&mut self, connection: u32, owners: &Owners) {
        if let Some(state) = self.beginning.take() {
            self.touch(state, connection, owners);
        }
    }

    /// Records that `connection` has begun or continued a state.
    pub(crate) fn touch(&mut self, state: OpenState, connection: u32, owners: &Owners) {
        self.forget(&state, connection, owners);
        if self.states.len() >= MAX_OPEN {
            let oldest = self.states.remove(0);
            owners.release(oldest.key(), connection);
        }
        owners.lock().insert(state.key(), Owner { connection, kind: state.kind() });
        self.states.push(state);
    }

    /// Records that a state has ended.
    pub(crate) fn end(&mut self, state: &OpenState, connection: u32, owners: &Owners) {
        self.forget(state, connection, owners);
        owners.lock().remove(state.key());
    }

    fn forget(&mut self, state: &OpenState, connection: u32, owners: &Owners) {
        let before = self.states.len();
        self.states.retain(|known| !known.is_same(state));
        if self.states.len() < before {
            owners.release(state.key(), connection);
        }
    }

    /// Removes all states, which the connection leaves behind. `process` is the key of the client process.
    /// `is_bound`: a driver continues them on this connection only, but for one whose end it has asked
    /// for: it repeats a commit on any connection.
    pub(crate) fn leave(
        &mut self,
        connection: u32,
        owners: &Arc<Owners>,
        process: Option<&ClientProcess>,
        is_bound: bool,
    ) -> Vec<Box<dyn Orphan>> {
        let ending = self.ending.take();
        let left = |state| -> Box<dyn Orphan> {
            let (owners, process) = (Arc::clone(owners), process.map(|it| it.key));
            let is_bound = is_bound && ending.as_ref() != Some(&state);
            Box::new(LeftState { state, connection, owners, process, is_bound })
        };
        std::mem::take(&mut self.states).into_iter().map(left).collect()
    }
}

/// A state whose owner was closed.
#[derive(Debug)]
struct LeftState {
    state: OpenState,
    connection: u32,
    owners: Arc<Owners>,
    process: Option<u64>,
    /// Behind a load balancer, a driver continues a state on its connection only.
    is_bound: bool,
}

impl Orphan for LeftState {
    fn kind(&self) -> &'static str {
        match self.state {
            OpenState::Transaction(_) => "transaction",
            OpenState::Cursor { .. } => "cursor",
        }
    }

    fn is_bound_to_connection(&self) -> bool {
        self.is_bound
    }

    /// A driver asks for the next batch when its application needs it, which may take long, so a cursor
    /// lives as long as a connection of the process that opened it.
    fn is_abandoned(&self) -> bool {
        let is_untouched = self.owners.release(self.state.key(), self.connection);
        let lives = self.process.is_some_and(|process| self.owners.has_connections(process));
        is_untouched
            && match self.state {
                OpenState::Transaction(_) => true,
                OpenState::Cursor { .. } => self.is_bound || !lives,
            }
    }

    fn placement(&self) -> Placement {
        match &self.state {
            OpenState::Transaction(id) => Placement::Pinned(session_key(&id.session)),
            OpenState::Cursor { id, .. } => Placement::Pinned(cursor_key(*id)),
        }
    }

    fn write_request(&self, out: &mut BytesMut) {
        let mut body = BsonWriter::new();
        match &self.state {
            OpenState::Transaction(id) => {
                body.int32("abortTransaction", 1);
                body.element(kind::DOCUMENT, b"lsid", &id.session);
                body.int64("txnNumber", id.number);
                body.boolean("autocommit", false);
                body.string("$db", "admin");
            }
            OpenState::Cursor { id, database, collection, .. } => {
                let mut cursors = BsonWriter::new();
                cursors.int64("0", *id);
                body.string("killCursors", collection);
                body.array("cursors", cursors);
                body.string("$db", database);
            }
        }
        error_reply::message(REQUEST, 0, &body.finish(), out);
    }

    fn is_reply(&self, bytes: &[u8]) -> bool {
        matches!(Header::read(bytes), Ok(Some(header))
            if header.response_to == REQUEST && header.len as usize == bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, doc};

    fn cursor(id: i64) -> OpenState {
        OpenState::cursor(id, "shop.orders")
    }

    fn transaction(number: i64) -> OpenState {
        let body = doc! { "find": "orders", "lsid": { "id": 7 }, "txnNumber": number }.to_vec();
        OpenState::Transaction(TransactionId::of(&body.unwrap()).unwrap())
    }

    fn request(orphan: &dyn Orphan) -> Document {
        let mut bytes = BytesMut::new();
        orphan.write_request(&mut bytes);
        Document::from_reader(&bytes[21..]).unwrap()
    }

    #[test]
    fn what_was_not_touched_again_is_abandoned() {
        let owners = Arc::<Owners>::default();
        let (mut one, mut two) = (OpenStates::default(), OpenStates::default());
        for state in [cursor(1), cursor(2), transaction(5)] {
            one.touch(state, 1, &owners);
        }
        two.touch(cursor(2), 2, &owners);
        let left = one.leave(1, &owners, None, false);
        let abandoned: Vec<_> = left.iter().map(|orphan| orphan.is_abandoned()).collect();
        assert_eq!(abandoned, [true, false, true]);
        assert!(two.leave(2, &owners, None, false)[0].is_abandoned());
        assert!(owners.lock().owners.is_empty());
    }

    #[test]
    fn a_transaction_is_open_once_it_has_a_connection() {
        let owners = Arc::<Owners>::default();
        let mut states = OpenStates { beginning: Some(transaction(5)), ..OpenStates::default() };
        assert_eq!(owners.count(), OpenStateCounts::default());
        states.begin(1, &owners);
        states.touch(cursor(7), 1, &owners);
        states.touch(cursor(8).tailing(true), 1, &owners);
        states.touch(cursor(7), 1, &owners);
        states.touch(cursor(9), 1, &owners);
        states.end(&cursor(9), 1, &owners);
        assert_eq!(owners.count(), OpenStateCounts { transactions: 1, cursors: 1, tails: 1 });
        owners.forget_states();
        assert_eq!(owners.count(), OpenStateCounts::default());
        let left = states.leave(1, &owners, None, false);
        assert!(left.iter().all(|orphan| !orphan.is_abandoned()));
    }

    #[test]
    fn what_has_ended_is_not_left() {
        let owners = Arc::<Owners>::default();
        let mut states = OpenStates::default();
        states.touch(cursor(1), 1, &owners);
        states.touch(transaction(5), 1, &owners);
        states.touch(transaction(6), 1, &owners);
        states.end(&cursor(1), 1, &owners);
        states.end(&transaction(6), 1, &owners);
        assert!(states.leave(1, &owners, None, false).is_empty());
        assert!(owners.lock().owners.is_empty());
    }

    #[test]
    fn a_cursor_lives_as_long_as_its_client_process() {
        let owners = Arc::<Owners>::default();
        let process = || ClientProcess::new(&owners, [10, 0, 0, 1].into(), b"{driver}");
        let (first, second) = (process(), process());
        let mut states = OpenStates::default();
        states.touch(cursor(1), 1, &owners);
        states.touch(transaction(5), 1, &owners);
        let left = states.leave(1, &owners, Some(&first), false);
        drop(first);
        assert!(!left[0].is_abandoned());
        assert!(left[1].is_abandoned());
        states.touch(cursor(1), 2, &owners);
        let left = states.leave(2, &owners, Some(&second), false);
        drop(second);
        assert!(left[0].is_abandoned());
    }

    #[test]
    fn behind_a_load_balancer_a_connection_is_the_owner() {
        let owners = Arc::<Owners>::default();
        let process = ClientProcess::new(&owners, [10, 0, 0, 1].into(), b"{driver}");
        let mut states = OpenStates::default();
        states.touch(cursor(1), 1, &owners);
        let left = states.leave(1, &owners, Some(&process), true);
        assert!(left[0].is_bound_to_connection() && left[0].is_abandoned());
    }

    #[test]
    fn behind_a_load_balancer_a_commit_may_be_repeated() {
        let owners = Arc::<Owners>::default();
        let mut states = OpenStates::default();
        states.touch(cursor(1), 1, &owners);
        states.touch(transaction(6), 1, &owners);
        states.ending = Some(transaction(6));
        let left = states.leave(1, &owners, None, true);
        assert!(left[0].is_bound_to_connection());
        assert!(!left[1].is_bound_to_connection());
    }

    #[test]
    fn each_state_is_ended_by_its_command() {
        let owners = Arc::<Owners>::default();
        let mut states = OpenStates::default();
        states.touch(transaction(5), 1, &owners);
        states.touch(cursor(42), 1, &owners);
        let left = states.leave(1, &owners, None, false);
        let abort = doc! { "abortTransaction": 1, "lsid": { "id": 7 }, "txnNumber": 5_i64,
        "autocommit": false, "$db": "admin" };
        assert_eq!(request(&*left[0]), abort);
        let kill = doc! { "killCursors": "orders", "cursors": [42_i64], "$db": "shop" };
        assert_eq!(request(&*left[1]), kill);
    }

    #[test]
    fn a_connection_remembers_its_newest_states() {
        let owners = Arc::<Owners>::default();
        let mut states = OpenStates::default();
        for id in 0..100 {
            states.touch(cursor(id), 1, &owners);
        }
        assert_eq!(states.leave(1, &owners, None, false).len(), MAX_OPEN);
        assert_eq!(owners.lock().owners.len(), MAX_OPEN);
    }
}
