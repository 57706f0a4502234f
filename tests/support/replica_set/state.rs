//! What a test has decided about its set, and what members have counted.

use super::super::PATIENCE;
use bson::{Document, doc, oid::ObjectId};
use socket2::Socket;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a member is in the config of its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It has data and can be the primary: listed in `hosts`.
    Electable,
    /// Its priority is 0: listed in `passives`.
    Passive,
    /// It has data, but nothing lists it.
    Hidden,
    /// It has a vote and no data: listed in `arbiters`.
    Arbiter,
    /// The set no longer has it: it says that it has no config (`isreplicaset`).
    Removed,
}

/// Where an operation under way stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The server has not got it yet.
    Before,
    /// The server has done it, and the client has not got the reply.
    After,
}

/// What a member has counted since the set was made; restarts change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that it has accepted.
    pub connections: usize,
    /// Connections that are open.
    pub open: usize,
    /// The most that were open at once.
    pub most_open: usize,
    /// Requests for `hello`, by any of its names.
    pub hellos: usize,
    /// Connections on which a `hello` now waits for a change.
    pub watching: usize,
    /// Operations that now wait because the test holds them.
    pub held: usize,
    /// Writes and statements of transactions that the server now does.
    pub writing: usize,
    /// Other requests by the command's name, also those that were refused.
    pub operations: BTreeMap<String, usize>,
    /// Errors that the member itself gave, by code; `writeConcernError` counts.
    pub refusals: BTreeMap<i32, usize>,
}

impl Counters {
    /// How many operations of this name came.
    pub fn operations(&self, name: &str) -> usize {
        self.operations.get(name).copied().unwrap_or(0)
    }

    /// How often the member gave this error.
    pub fn refusals(&self, code: i32) -> usize {
        self.refusals.get(&code).copied().unwrap_or(0)
    }
}

/// What the server's own `hello` says of its limits.
pub(super) struct Limits {
    pub(super) wire_versions: (i32, i32),
    pub(super) sizes: Document,
}

impl Limits {
    pub(super) fn of(hello: &Document) -> Self {
        let version = |key| hello.get_i32(key).expect("a wire version");
        let sizes = [
            "maxBsonObjectSize",
            "maxMessageSizeBytes",
            "maxWriteBatchSize",
            "logicalSessionTimeoutMinutes",
        ];
        let sizes =
            sizes.into_iter().filter_map(|key| Some((key.to_owned(), hello.get(key)?.clone())));
        Self {
            wire_versions: (version("minWireVersion"), version("maxWireVersion")),
            sizes: sizes.collect(),
        }
    }
}

/// A transaction that has begun.
pub(super) struct Transaction {
    pub(super) lsid: Document,
    pub(super) number: i64,
    /// The process of the member that began it.
    pub(super) owner: ObjectId,
    pub(super) term: u64,
    /// Whether the server has been asked to commit or to abort it: then the server knows its outcome,
    /// in all terms.
    pub(super) ends: bool,
    /// Whether the server now does a statement of it.
    pub(super) busy: bool,
}

impl Transaction {
    /// The command that ends it at the server. An error means that the server has ended it by itself.
    pub(super) fn abort(&self) -> Document {
        doc! {
            "abortTransaction": 1, "lsid": &self.lsid, "txnNumber": self.number,
            "autocommit": false, "$db": "admin",
        }
    }
}

pub(super) struct Member {
    pub(super) address: SocketAddr,
    /// Keeps the port while the member is down.
    _port: Socket,
    pub(super) process: ObjectId,
    /// The `counter` of its `topologyVersion`.
    pub(super) version: i64,
    pub(super) membership: Membership,
    /// The term that it says it is the primary of.
    pub(super) primary_of: Option<u64>,
    pub(super) set_name: Option<String>,
    pub(super) tags: Document,
    pub(super) lag: Duration,
    pub(super) wire_versions: (i32, i32),
    /// Whether it has yet to catch up with the set.
    pub(super) recovers: bool,
    /// Whether it has said that it will shut down.
    pub(super) shuts_down: bool,
    pub(super) silent: bool,
    pub(super) delay: Duration,
    pub(super) hold: Option<Hold>,
    /// Ends its process.
    pub(super) down: CancellationToken,
    pub(super) listens: bool,
    pub(super) counters: Counters,
}

impl Member {
    pub(super) fn new(
        port: Socket,
        address: SocketAddr,
        down: CancellationToken,
        wire_versions: (i32, i32),
    ) -> Self {
        Self {
            address,
            _port: port,
            process: ObjectId::new(),
            version: 0,
            membership: Membership::Electable,
            primary_of: None,
            set_name: None,
            tags: Document::new(),
            lag: Duration::ZERO,
            wire_versions,
            recovers: false,
            shuts_down: false,
            silent: false,
            delay: Duration::ZERO,
            hold: None,
            down,
            listens: false,
            counters: Counters::default(),
        }
    }

    pub(super) fn restart(&mut self, down: CancellationToken) {
        assert!(self.down.is_cancelled(), "{} is not down", self.address);
        self.process = ObjectId::new();
        self.version = 0;
        (self.silent, self.shuts_down) = (false, false);
        (self.delay, self.hold) = (Duration::ZERO, None);
        self.down = down;
    }

    /// Whether it serves reads.
    pub(super) fn has_data(&self) -> bool {
        !self.recovers && !matches!(self.membership, Membership::Arbiter | Membership::Removed)
    }

    pub(super) fn topology_version(&self) -> Document {
        doc! { "processId": self.process, "counter": self.version }
    }
}

pub(super) struct State {
    /// Whether the members are routers and not a set.
    pub(super) routers: bool,
    pub(super) limits: Limits,
    pub(super) name: String,
    /// `setVersion`.
    pub(super) version: i32,
    pub(super) term: u64,
    /// How long members work for an operation, on average.
    pub(super) service_time: Duration,
    pub(super) members: Vec<Member>,
    /// The process that each open cursor is in.
    pub(super) cursors: BTreeMap<i64, ObjectId>,
    /// The last transaction of each session.
    pub(super) transactions: HashMap<Vec<u8>, Transaction>,
    /// The newest `$clusterTime` of the server.
    pub(super) cluster_time: Option<Document>,
}

impl State {
    pub(super) fn new(routers: bool, limits: Limits) -> Self {
        Self {
            routers,
            limits,
            name: "rs".to_owned(),
            version: 0,
            term: 0,
            service_time: Duration::ZERO,
            members: Vec::new(),
            cursors: BTreeMap::new(),
            transactions: HashMap::new(),
            cluster_time: None,
        }
    }

    pub(super) fn primary(&self) -> Option<usize> {
        let claims = self.members.iter().enumerate();
        let claims = claims.filter_map(|(i, member)| Some((member.primary_of?, i)));
        claims.max().map(|(_, i)| i)
    }

    pub(super) fn elect(&mut self, member: Option<usize>) {
        assert!(!self.routers, "routers have no elections");
        self.members.iter_mut().for_each(|member| member.primary_of = None);
        let Some(i) = member else { return };
        let elected = &mut self.members[i];
        assert!(!elected.down.is_cancelled(), "member {i} is down");
        assert_eq!(elected.membership, Membership::Electable, "member {i}");
        self.term += 1;
        elected.primary_of = Some(self.term);
    }

    /// A new config, which all members publish.
    pub(super) fn reconfigure(&mut self) {
        self.version += 1;
        self.publish();
    }

    /// Has every member publish what it now says of itself.
    pub(super) fn publish(&mut self) {
        self.members.iter_mut().for_each(|member| member.version += 1);
    }

    /// The open transactions whose term or process is over, for the caller to abort. They are
    /// forgotten, except one that is busy: the server may get its abort before its statement.
    pub(super) fn end_transactions(&mut self) -> Vec<Transaction> {
        let members = &self.members;
        let over = |_: &Vec<u8>, it: &mut Transaction| !it.busy && is_over(members, it);
        self.transactions.extract_if(over).map(|(_, transaction)| transaction).collect()
    }

    /// Notes that the server has done a statement. Returns its transaction, for the caller to abort,
    /// if that was over before.
    pub(super) fn end_statement(&mut self, session: &[u8]) -> Option<Transaction> {
        let transaction = self.transactions.get_mut(session)?;
        transaction.busy = false;
        if is_over(&self.members, transaction) { self.transactions.remove(session) } else { None }
    }
}

/// Whether a transaction can't go on anywhere, and was not asked to commit.
fn is_over(members: &[Member], transaction: &Transaction) -> bool {
    let lives = |member: &Member| {
        member.process == transaction.owner
            && !member.down.is_cancelled()
            && member.primary_of == Some(transaction.term)
    };
    !transaction.ends && !members.iter().any(lives)
}

/// The state, for the threads of tests and the tasks of members.
pub(super) struct Shared {
    pub(super) server: SocketAddr,
    state: Mutex<State>,
    /// Wakes tests.
    counted: Condvar,
    /// Wakes tasks.
    changed: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(server: SocketAddr, state: State) -> Self {
        let (state, counted) = (Mutex::new(state), Condvar::new());
        Self { server, state, counted, changed: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that has failed must not fail the members' tasks too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes what tests look at: tasks don't wait for it.
    pub(super) fn count<T>(&self, how: impl FnOnce(&mut State) -> T) -> T {
        let result = how(&mut self.lock());
        self.counted.notify_all();
        result
    }

    /// Changes what tasks wait for.
    pub(super) fn change<T>(&self, how: impl FnOnce(&mut State) -> T) -> T {
        let result = self.count(how);
        self.changed.send_replace(());
        result
    }

    /// Returns what `look` finds, as soon as it finds something.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = self.look(&mut look) {
                return found;
            }
            changed.changed().await.expect("the sender is in `self`");
        }
    }

    /// Blocks until the state is as a test expects.
    pub(super) fn wait(&self, what: &str, mut enough: impl FnMut(&State) -> bool) {
        let not_yet = |state: &mut State| !enough(state);
        let waited = self.counted.wait_timeout_while(self.lock(), PATIENCE, not_yet);
        let waited = waited.unwrap_or_else(PoisonError::into_inner).1;
        assert!(!waited.timed_out(), "waited {PATIENCE:?} for {what}");
    }
}

/// One in a counter, until dropped.
pub(super) struct One<'s> {
    shared: &'s Shared,
    member: usize,
    counter: fn(&mut Counters) -> &mut usize,
}

impl<'s> One<'s> {
    pub(super) fn of(
        shared: &'s Shared,
        member: usize,
        counter: fn(&mut Counters) -> &mut usize,
    ) -> Self {
        shared.count(|state| *counter(&mut state.members[member].counters) += 1);
        Self { shared, member, counter }
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        let Self { shared, member, counter } = self;
        shared.count(|state| *counter(&mut state.members[*member].counters) -= 1);
    }
}
