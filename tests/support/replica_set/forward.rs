//! An operation on its way to the server and back.

use super::{
    super::wire::{self, MORE_TO_COME, Message, OP_MSG},
    connection::{Connection, client_goes, read},
    request::Request,
    rules::{self, INTERRUPTED, Refusal},
    state::{Hold, One, State},
};
use bson::{Bson, Document, doc};
use std::io;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

impl Connection {
    /// Has the server do an operation that the member takes, and passes the replies on. The member
    /// may lose its role meanwhile.
    pub(super) async fn operation(&mut self, request: &Request) -> io::Result<()> {
        let member = self.member;
        let (admitted, term) = self
            .shared
            .look(|state| (rules::admit(state, member, request), state.members[member].primary_of));
        if let Err(refusal) = admitted {
            return self.refuse(refusal, request).await;
        }
        let foreign = self.shared.look(|state| foreign_cursors(state, member, request));
        self.held(Hold::Before, term).await;
        let begun = self.shared.count(|state| rules::begin(state, member, request, term));
        if let Err(refusal) = begun {
            return self.refuse(refusal, request).await;
        }
        self.ask(&without_cursors(request, &foreign)).await?;
        if request.is_unacknowledged() {
            return Ok(());
        }
        loop {
            let reply = self.answer().await?;
            let mut document = reply.document();
            self.shared.count(|state| note(state, member, &document));
            self.held(Hold::After, term).await;
            let changed = self.change(&mut document, request, term, &foreign);
            let changed =
                changed.then(|| wire::op_msg_reply(reply.id(), reply.answers(), &document));
            self.send(changed.as_ref().unwrap_or(&reply.0)).await?;
            if reply.opcode() != OP_MSG || reply.flags() & MORE_TO_COME == 0 {
                return Ok(());
            }
        }
    }

    async fn refuse(&mut self, refusal: Refusal, request: &Request) -> io::Result<()> {
        let member = self.member;
        let document = self.shared.count(|state| {
            count_refusal(state, member, refusal);
            refusal.reply(state, member, request)
        });
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

    /// Waits while the test holds operations there, and the member has its role.
    async fn held(&self, hold: Hold, term: Option<u64>) {
        let go_on = |state: &State| {
            let member = &state.members[self.member];
            (member.hold != Some(hold) || member.primary_of != term).then_some(())
        };
        if self.shared.look(go_on).is_some() {
            return;
        }
        let _held = One::of(&self.shared, self.member, |counters| &mut counters.held);
        self.shared.until(go_on).await;
    }

    /// Sends a message to the server.
    async fn ask(&mut self, message: &[u8]) -> io::Result<()> {
        if self.server.is_none() {
            let server = TcpStream::connect(self.shared.server).await?;
            server.set_nodelay(true)?;
            self.server = Some(BufReader::new(server));
        }
        let server = self.server.as_mut().expect("just connected");
        server.get_mut().write_all(message).await
    }

    /// The server's next reply. An error if the client goes before.
    async fn answer(&mut self) -> io::Result<Message> {
        let server = self.server.as_mut().expect("asked before");
        tokio::select! {
            reply = read(server) => reply,
            gone = client_goes(&mut self.client) => Err(gone),
        }
    }

    /// Changes a reply where the member says something else than the server. Returns whether it did.
    fn change(
        &self,
        reply: &mut Document,
        request: &Request,
        term: Option<u64>,
        foreign: &[i64],
    ) -> bool {
        let member = self.member;
        let interrupted = self.shared.look(|state| state.members[member].primary_of != term);
        let interrupted = interrupted && request.is_write() && succeeded(reply);
        if interrupted {
            self.shared.count(|state| {
                count_refusal(state, member, INTERRUPTED);
                INTERRUPTED.add_to(reply, state, member, request);
            });
        }
        let is_router = self.shared.look(|state| state.routers);
        let recovers = is_router && request.is_in_transaction() && succeeded(reply);
        if recovers {
            reply.insert("recoveryToken", doc! { "recoveryShardId": "shard0" });
        }
        if !foreign.is_empty() {
            let mut missing = reply.get_array("cursorsNotFound").cloned().unwrap_or_default();
            missing.extend(foreign.iter().map(|id| Bson::Int64(*id)));
            reply.insert("cursorsNotFound", missing);
        }
        interrupted || recovers || !foreign.is_empty()
    }
}

fn succeeded(reply: &Document) -> bool {
    reply.get_f64("ok").is_ok_and(|ok| ok == 1.0)
}

fn count_refusal(state: &mut State, member: usize, refusal: Refusal) {
    let refusals = &mut state.members[member].counters.refusals;
    *refusals.entry(refusal.code()).or_default() += 1;
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

/// The cursors that a `killCursors` names and the member does not have.
fn foreign_cursors(state: &State, member: usize, request: &Request) -> Vec<i64> {
    if request.name != "killCursors" {
        return Vec::new();
    }
    let process = &state.members[member].process;
    let named = request.body.get_array("cursors").map(Vec::as_slice).unwrap_or_default();
    let named = named.iter().filter_map(Bson::as_i64);
    named.filter(|id| state.cursors.get(id) != Some(process)).collect()
}

/// The bytes of a request, without cursors of other members.
fn without_cursors(request: &Request, foreign: &[i64]) -> Vec<u8> {
    if foreign.is_empty() {
        return request.message.0.clone();
    }
    let mut body = request.body.clone();
    let named = body.get_array_mut("cursors").expect("it names some");
    named.retain(|id| id.as_i64().is_none_or(|id| !foreign.contains(&id)));
    wire::op_msg(request.message.id(), &body)
}
