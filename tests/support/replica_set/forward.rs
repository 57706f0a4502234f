//! An operation on its way to the server and back.

use super::{
    super::wire::{self, MORE_TO_COME, Message, OP_MSG},
    connection::{Connection, client_goes},
    request::Request,
    rules::{self, Refusal},
    server::{Server, Write},
    state::{Hold, One, State},
};
use bson::{Bson, Document, doc};
use std::io;

/// A request that a member has taken.
struct UnderWay<'r> {
    request: &'r Request,
    member: usize,
    /// The term that the member was the primary of then.
    term: Option<u64>,
    /// The cursors that a `killCursors` names and the member does not have.
    foreign: Vec<i64>,
}

impl Connection {
    /// Has the server do an operation that the member takes, and passes the replies on. The member
    /// may lose its role meanwhile.
    pub(super) async fn operation(&mut self, request: &Request) -> io::Result<()> {
        let taken = self.shared.look(|state| UnderWay::admit(state, self.member, request));
        let operation = match taken {
            Ok(operation) => operation,
            Err(refusal) => return self.refuse(refusal, request).await,
        };
        self.work().await;
        self.held(Hold::Before, operation.term).await;
        let begun = |state: &mut State| rules::begin(state, self.member, request, operation.term);
        if let Err(refusal) = self.shared.count(begun) {
            return self.refuse(refusal, request).await;
        }
        self.write = Write::of(request);
        self.ask(&operation.message()).await?;
        if request.is_unacknowledged() {
            return Ok(());
        }
        loop {
            let reply = self.answer().await?;
            let mut document = reply.document();
            self.shared.count(|state| note(state, self.member, &document));
            self.work().await;
            self.held(Hold::After, operation.term).await;
            if self.shared.count(|state| operation.amend(state, &mut document)) {
                self.send(&wire::op_msg_reply(reply.id(), reply.answers(), &document)).await?;
            } else {
                self.send(&reply.0).await?;
            }
            if reply.opcode() != OP_MSG || reply.flags() & MORE_TO_COME == 0 {
                return Ok(());
            }
        }
    }

    async fn refuse(&mut self, refusal: Refusal, request: &Request) -> io::Result<()> {
        let document = self.shared.count(|state| refusal.reply(state, self.member, request));
        if request.is_unacknowledged() {
            return Ok(());
        }
        let id = self.next_id();
        let reply = match request.message.opcode() {
            OP_MSG => wire::op_msg_reply(id, request.message.id(), &document),
            _ => wire::op_reply(id, request.message.id(), &document),
        };
        self.send(&reply).await
    }

    /// Spends half of the service time, on average.
    async fn work(&self) {
        let longest = self.shared.look(|state| state.service_time);
        if !longest.is_zero() {
            tokio::time::sleep(longest.mul_f32(fastrand::f32())).await;
        }
    }

    /// Waits while the test holds operations there, and the member has its role.
    async fn held(&self, hold: Hold, term: Option<u64>) {
        let goes_on = |state: &State| {
            let member = &state.members[self.member];
            (member.hold != Some(hold) || member.primary_of != term).then_some(())
        };
        if self.shared.look(goes_on).is_some() {
            return;
        }
        let _held = One::of(&self.shared, self.member, |counters| &mut counters.held);
        self.shared.until(goes_on).await;
    }

    /// Sends a message to the server.
    pub(super) async fn ask(&mut self, message: &[u8]) -> io::Result<()> {
        let server = match &mut self.server {
            Some(server) => server,
            none => none.insert(Server::connect(self.shared.server).await?),
        };
        server.ask(message).await?;
        if let Some(write) = &mut self.write {
            write.sent(&self.shared, self.member);
        }
        Ok(())
    }

    /// The server's next reply. An error if the client goes before.
    pub(super) async fn answer(&mut self) -> io::Result<Message> {
        let Some(server) = &mut self.server else { return Err(io::ErrorKind::NotConnected.into()) };
        let reply = tokio::select! {
            reply = server.answer() => reply?,
            gone = client_goes(&mut self.client) => return Err(gone),
        };
        let over = self.write.take().and_then(|write| write.end(&self.shared, self.member));
        if let Some(over) = over {
            server.abort(&over).await?;
        }
        Ok(reply)
    }
}

impl<'r> UnderWay<'r> {
    /// Takes a request, or refuses it, in the member's present role.
    fn admit(state: &State, member: usize, request: &'r Request) -> Result<Self, Refusal> {
        rules::admit(state, member, request)?;
        let this = &state.members[member];
        let has = |id: &i64| state.cursors.get(id) == Some(&this.process);
        let foreign = request.cursors_to_kill().filter(|id| !has(id)).collect();
        Ok(Self { request, member, term: this.primary_of, foreign })
    }

    /// The bytes for the server: the client's, but without cursors of other members.
    fn message(&self) -> Vec<u8> {
        if self.foreign.is_empty() {
            return self.request.message.0.clone();
        }
        let own = self.request.cursors_to_kill().filter(|id| !self.foreign.contains(id));
        let mut body = self.request.body.clone();
        body.insert("cursors", own.collect::<Vec<_>>());
        wire::op_msg(self.request.message.id(), &body)
    }

    /// Changes a reply where the member says something else than the server. Returns whether it did.
    fn amend(&self, state: &mut State, reply: &mut Document) -> bool {
        let Self { request, member, .. } = *self;
        let succeeded = reply.get_f64("ok").is_ok_and(|ok| ok == 1.0);
        let lost_role = state.members[member].primary_of != self.term;
        let interrupted = succeeded && lost_role && request.is_write();
        if interrupted {
            Refusal::InterruptedDueToReplStateChange.add_to(reply, state, member, request);
        }
        let recoverable = succeeded && state.routers && request.is_in_transaction();
        if recoverable {
            reply.insert("recoveryToken", doc! { "recoveryShardId": "shard0" });
        }
        if !self.foreign.is_empty() {
            let mut missing = reply.get_array("cursorsNotFound").cloned().unwrap_or_default();
            missing.extend(self.foreign.iter().map(|id| Bson::Int64(*id)));
            reply.insert("cursorsNotFound", missing);
        }
        interrupted || recoverable || !self.foreign.is_empty()
    }
}

/// Notes what a reply says about cursors and the cluster's time.
fn note(state: &mut State, member: usize, reply: &Document) {
    if let Ok(id) = reply.get_document("cursor").and_then(|cursor| cursor.get_i64("id")) {
        // A cursor that has ended has the id 0.
        state.cursors.insert(id, state.members[member].process);
        state.cursors.remove(&0);
    }
    let Ok(time) = reply.get_document("$clusterTime") else { return };
    let newest = |document: &Document| document.get_timestamp("clusterTime").ok();
    if state.cluster_time.as_ref().and_then(newest) < newest(time) {
        state.cluster_time = Some(time.clone());
    }
}
