//! A replica set whose elections a test decides, or several routers: listeners of this process before
//! one real server.
//!
//! Data, sessions and change streams are the server's. Roles, terms and lag are the test's, and so are
//! the errors that follow from them: a member refuses what a member of a real set in its role refuses.
//! All members have the same data at all times: lag is only what `hello` says.

mod connection;
mod forward;
mod hello;
mod request;
mod rules;
mod server;
mod state;

pub use state::{Counters, Hold, Membership};

use super::client::RawClient;
use bson::{Document, doc};
use socket2::{Domain, Socket, Type};
use state::{Limits, Member, Shared, State};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// How many connections the kernel keeps for a member that has not accepted them.
const BACKLOG: i32 = 1024;

/// Members on loopback, until dropped. A member is named by its number, from 0.
pub struct ReplicaSet {
    shared: Arc<Shared>,
    runtime: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ReplicaSet {
    /// A set `rs` of this many members before a server. Member 0 is the primary, in term 1.
    pub fn start(server: SocketAddr, members: usize) -> Self {
        let set = Self::of(server, false, members);
        set.elect(Some(0));
        set
    }

    /// This many routers (`mongos`) before a server. Each knows its own cursors and transactions only.
    pub fn routers(server: SocketAddr, routers: usize) -> Self {
        Self::of(server, true, routers)
    }

    fn of(server: SocketAddr, routers: bool, members: usize) -> Self {
        let hello = RawClient::connect(server).command(1, &doc! { "hello": 1, "$db": "admin" });
        let shared = Arc::new(Shared::new(server, State::new(routers, Limits::of(&hello))));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone().cancelled_owned();
        let thread = std::thread::spawn(move || runtime.block_on(stopped));
        let set = Self { shared, runtime: handle, stop, thread: Some(thread) };
        for _ in 0..members {
            set.add_member();
        }
        set
    }

    /// Where a member listens.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.shared.look(|state| state.members[member].address)
    }

    /// Where all members listen that the set has or ever had.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.look(|state| state.members.iter().map(|member| member.address).collect())
    }

    /// A connection string with all of [`addresses`](Self::addresses).
    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
        let name = self.shared.look(|state| (!state.routers).then(|| state.name.clone()));
        let option = name.map_or(String::new(), |name| format!("?replicaSet={name}"));
        format!("mongodb://{}/{option}", hosts.join(","))
    }

    /// The primary; of two that claim to be it, the one with the greater term.
    pub fn primary(&self) -> Option<usize> {
        self.shared.look(State::primary)
    }

    /// The greatest term so far.
    pub fn term(&self) -> u64 {
        self.shared.look(|state| state.term)
    }

    /// What a member counted so far.
    pub fn counters(&self, member: usize) -> Counters {
        self.shared.look(|state| state.members[member].counters.clone())
    }

    /// How many operations of this name each member got so far.
    pub fn operations(&self, name: &str) -> Vec<usize> {
        let members =
            |state: &State| state.members.iter().map(|it| it.counters.operations(name)).collect();
        self.shared.look(members)
    }

    /// Waits until all members' counters satisfy `enough`.
    ///
    /// # Panics
    /// If they don't within [`PATIENCE`](super::PATIENCE).
    pub fn wait(&self, what: &str, mut enough: impl FnMut(&[Counters]) -> bool) {
        self.shared.wait(what, |state| {
            let counters = state.members.iter().map(|member| member.counters.clone());
            enough(&counters.collect::<Vec<_>>())
        });
    }

    /// Makes a member the primary of a new term, or leaves the set without one.
    ///
    /// # Panics
    /// If the member is down, or not one that a set can elect.
    pub fn elect(&self, member: Option<usize>) {
        self.publish(|state| state.elect(member));
    }

    /// Lets the primary step down, and then elects `next`. Writes under way are interrupted.
    pub fn step_down(&self, next: Option<usize>) {
        self.elect(None);
        if next.is_some() {
            self.elect(next);
        }
    }

    /// Lets a member say that it is the primary of a term, until the next election. Others keep their
    /// roles: there may be two primaries.
    pub fn claim_primary(&self, member: usize, term: u64) {
        self.publish(|state| {
            assert!(!state.routers, "routers have no primary");
            state.members[member].primary_of = Some(term);
            state.term = state.term.max(term);
        });
    }

    /// Ends a member: its connections are reset and its port is closed when this returns. Work under
    /// way is not answered; the server has done it when this returns, or never will. If it was the
    /// primary, there is none.
    pub fn kill(&self, member: usize) {
        self.publish(|state| {
            state.members[member].down.cancel();
            if !state.routers {
                state.members[member].primary_of = None;
            }
        });
        self.shared.wait("the member to be down", |state| {
            let member = &state.members[member];
            !member.listens && member.counters.open == 0 && member.counters.writing == 0
        });
    }

    /// Lets a member say that it will shut down, as a server does before a planned restart: `hello`
    /// fails, and operations go on until it is killed. If it was the primary, there is none.
    pub fn shut_down(&self, member: usize) {
        self.publish(|state| {
            state.members[member].shuts_down = true;
            if !state.routers {
                state.members[member].primary_of = None;
            }
        });
    }

    /// Starts a member that was killed: a new process on the same port, a secondary. It has no
    /// cursors and is no longer silent, slow or held.
    pub fn start_again(&self, member: usize) {
        self.publish(|state| state.members[member].restart(self.stop.child_token()));
        self.listen(member);
    }

    /// Has a member recover, or ends that: it has a place in the set, and serves nothing.
    ///
    /// # Panics
    /// If it is the primary.
    pub fn recover(&self, member: usize, recovers: bool) {
        self.publish(|state| {
            assert_eq!(state.members[member].primary_of, None, "member {member} is the primary");
            state.members[member].recovers = recovers;
        });
    }

    /// Cuts a member off, or ends that. A silent member keeps its connections, reads nothing, answers
    /// nothing and accepts no connection; the kernel may complete a handshake for it. It keeps its
    /// role: an election is the test's decision.
    pub fn silence(&self, member: usize, silent: bool) {
        self.shared.change(|state| state.members[member].silent = silent);
    }

    /// Delays each reply of a member, also those to `hello`.
    pub fn slow(&self, member: usize, delay: Duration) {
        self.shared.change(|state| state.members[member].delay = delay);
    }

    /// Stops operations of a member before or after the server does them, or lets them go on. An
    /// election or a step-down lets those go on that it interrupts.
    pub fn hold(&self, member: usize, hold: Option<Hold>) {
        self.shared.change(|state| state.members[member].hold = hold);
    }

    /// How long members work for an operation, on average: half of it before the server does it, and
    /// half afterwards. An election or a crash interrupts what is under way then.
    pub fn set_service_time(&self, time: Duration) {
        self.shared.change(|state| state.service_time = time);
    }

    /// How long ago a member's last write was.
    pub fn set_lag(&self, member: usize, lag: Duration) {
        self.publish(|state| state.members[member].lag = lag);
    }

    /// A member's tags.
    pub fn set_tags(&self, member: usize, tags: Document) {
        self.publish(|state| state.members[member].tags = tags);
    }

    /// The least and the greatest wire version that a member says it speaks.
    pub fn set_wire_versions(&self, member: usize, least: i32, greatest: i32) {
        self.publish(|state| state.members[member].wire_versions = (least, greatest));
    }

    /// The name of the set that a member says it is of.
    pub fn set_name(&self, member: usize, name: &str) {
        self.publish(|state| state.members[member].set_name = Some(name.to_owned()));
    }

    /// Adds a member to the set's config, as a secondary that listens, and returns its number.
    pub fn add_member(&self) -> usize {
        let (port, address) = reserve_port();
        let down = self.stop.child_token();
        let member = self.shared.change(|state| {
            state.members.push(Member::new(port, address, down, state.limits.wire_versions));
            if state.routers {
                // Every router takes writes, and none ever loses that role.
                state.members.last_mut().expect("it").primary_of = Some(0);
            }
            state.reconfigure();
            state.members.len() - 1
        });
        self.listen(member);
        member
    }

    /// Takes a member out of the set's config. It goes on to run, as a member of no set.
    pub fn remove(&self, member: usize) {
        self.set_membership(member, Membership::Removed);
    }

    /// Hides a member: no other member lists it.
    pub fn hide(&self, member: usize) {
        self.set_membership(member, Membership::Hidden);
    }

    /// Changes what a member is in the set's config.
    pub fn set_membership(&self, member: usize, membership: Membership) {
        self.publish(|state| {
            assert!(!state.routers, "routers are in no set's config");
            state.members[member].membership = membership;
            if membership != Membership::Electable {
                state.members[member].primary_of = None;
            }
            state.reconfigure();
        });
    }

    /// Changes what members say of themselves and the set, and ends the transactions that don't
    /// outlive the change.
    fn publish(&self, how: impl FnOnce(&mut State)) {
        let ended = self.shared.change(|state| {
            how(state);
            state.publish();
            state.end_transactions()
        });
        if ended.is_empty() {
            return;
        }
        let mut server = RawClient::connect(self.shared.server);
        for transaction in ended {
            server.command(1, &transaction.abort());
        }
    }

    fn listen(&self, member: usize) {
        let address = self.address(member);
        let socket = bind(address);
        socket.listen(BACKLOG).expect("a port that is reserved");
        socket.set_nonblocking(true).expect("a socket");
        self.shared.count(|state| state.members[member].listens = true);
        self.runtime.spawn(connection::listen(self.shared.clone(), member, socket.into()));
    }
}

impl Drop for ReplicaSet {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A free port, and a socket that keeps other programs from it while no member listens there.
fn reserve_port() -> (Socket, SocketAddr) {
    let socket = bind((Ipv4Addr::LOCALHOST, 0).into());
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    (socket, address.expect("an address"))
}

/// A socket that shares its address with others as long as none of them listens.
fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket");
    socket.bind(&address.into()).expect("a port");
    socket
}
