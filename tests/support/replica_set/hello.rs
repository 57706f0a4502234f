//! What a member answers to `hello`, and when.
//!
//! Sources: the specifications' `server-discovery-and-monitoring` and `max-staleness`.

use super::{
    super::wire::{self, MORE_TO_COME, OP_QUERY},
    connection::Connection,
    request::Request,
    rules::Refusal,
    state::{Member, Membership, One, State},
};
use bson::{DateTime, Document, Timestamp, doc, oid::ObjectId};
use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

impl Connection {
    /// Answers `hello`: at once, or when something changes if the client knows the present state; to
    /// a client that allows it, on and on.
    pub(super) async fn hello(&mut self, request: &Request) -> io::Result<()> {
        let wait = request.body.get_i64("maxAwaitTimeMS");
        let wait = wait.or_else(|_| request.body.get_i32("maxAwaitTimeMS").map(i64::from));
        let wait = wait.map(|wait| Duration::from_millis(wait.unsigned_abs())).ok();
        let mut known = request.body.get_document("topologyVersion").ok().cloned();
        let mut answers = request.message.id();
        let login = self.login(request).await?;
        loop {
            if let (Some(known), Some(wait)) = (&known, wait) {
                self.news(known, wait).await?;
            }
            self.ends_silence().await;
            let (mut hello, version, fails) = self.shared.count(|state| {
                let member = &state.members[self.member];
                let (version, fails) = (member.topology_version(), member.shuts_down);
                (document(state, self.member, request), version, fails)
            });
            hello.insert("connectionId", self.number);
            hello.extend(login.clone());
            let id = self.next_id();
            let streams = request.allows_exhaust() && known.is_some() && wait.is_some() && !fails;
            let reply = match request.message.opcode() {
                OP_QUERY => wire::op_reply(id, answers, &hello),
                _ => {
                    let flags = if streams { MORE_TO_COME } else { 0 };
                    wire::op_msg_of(id, answers, flags, &[wire::body(&hello)])
                }
            };
            self.send(&reply).await?;
            if !streams {
                return Ok(());
            }
            (known, answers) = (Some(version), id);
        }
    }

    /// What the server says of the log-in that a `hello` begins or prepares.
    async fn login(&mut self, request: &Request) -> io::Result<Document> {
        let keys = ["saslSupportedMechs", "speculativeAuthenticate"];
        if !keys.iter().any(|key| request.body.contains_key(key)) {
            return Ok(Document::new());
        }
        self.ask(&request.message.0).await?;
        let reply = self.answer().await?.document();
        Ok(reply.into_iter().filter(|(key, _)| keys.contains(&key.as_str())).collect())
    }

    /// Waits until the member's state is another than the one that the client knows, at most this
    /// long. An error if the client goes.
    async fn news(&mut self, known: &Document, wait: Duration) -> io::Result<()> {
        let (shared, member) = (self.shared.clone(), self.member);
        let _watching = One::of(&shared, member, |counters| &mut counters.watching);
        let changed = shared
            .until(|state| (state.members[member].topology_version() != *known).then_some(()));
        tokio::select! {
            () = changed => Ok(()),
            () = tokio::time::sleep(wait) => Ok(()),
            gone = self.client_goes() => Err(gone),
        }
    }
}

/// What a member says of itself.
fn document(state: &mut State, i: usize, request: &Request) -> Document {
    if state.members[i].shuts_down {
        return Refusal::ShutdownInProgress.reply(state, i, request);
    }
    let member = &state.members[i];
    let writable = if request.name == "hello" { "isWritablePrimary" } else { "ismaster" };
    let mut hello = doc! { writable: member.primary_of.is_some() };
    if request.body.get_bool("helloOk").unwrap_or(false) {
        hello.insert("helloOk", true);
    }
    hello.extend(match member.membership {
        _ if state.routers => doc! { "msg": "isdbgrid" },
        Membership::Removed => doc! { "secondary": false, "isreplicaset": true },
        _ => of_set(state, i),
    });
    hello.extend(state.limits.sizes.clone());
    hello.extend(doc! {
        "localTime": DateTime::now(),
        "minWireVersion": member.wire_versions.0,
        "maxWireVersion": member.wire_versions.1,
        "readOnly": false,
        "topologyVersion": member.topology_version(),
        "ok": 1.0,
    });
    if let Some(time) = &state.cluster_time {
        hello.insert("$clusterTime", time.clone());
    }
    hello
}

/// What a member says of its set and its role.
fn of_set(state: &State, i: usize) -> Document {
    let member = &state.members[i];
    let mut hello = doc! {
        "setName": member.set_name.as_ref().unwrap_or(&state.name),
        "setVersion": state.version,
        "secondary": member.primary_of.is_none() && member.has_data(),
        "hosts": addresses(state, Membership::Electable),
        "me": member.address.to_string(),
        "lastWrite": last_write(member, state.term),
    };
    for (key, membership) in [("passives", Membership::Passive), ("arbiters", Membership::Arbiter)]
    {
        let addresses = addresses(state, membership);
        if !addresses.is_empty() {
            hello.insert(key, addresses);
        }
    }
    let flags: &[&str] = match member.membership {
        Membership::Arbiter => &["arbiterOnly"],
        Membership::Passive => &["passive"],
        Membership::Hidden => &["passive", "hidden"],
        Membership::Electable | Membership::Removed => &[],
    };
    hello.extend(flags.iter().map(|flag| ((*flag).to_owned(), true.into())));
    if let Some(term) = member.primary_of {
        hello.insert("electionId", election_id(term));
    }
    // A member that claims to be the primary believes itself.
    let primary = if member.primary_of.is_some() { Some(i) } else { state.primary() };
    if let Some(primary) = primary {
        hello.insert("primary", state.members[primary].address.to_string());
    }
    if !member.tags.is_empty() {
        hello.insert("tags", member.tags.clone());
    }
    hello
}

fn addresses(state: &State, membership: Membership) -> Vec<String> {
    let members = state.members.iter().filter(|member| member.membership == membership);
    members.map(|member| member.address.to_string()).collect()
}

/// Greater for a greater term, as servers make it.
fn election_id(term: u64) -> ObjectId {
    let mut bytes = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&term.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

fn last_write(member: &Member, term: u64) -> Document {
    let at = SystemTime::now() - member.lag;
    let seconds = at.duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let time = Timestamp { time: seconds as u32, increment: 1 };
    let operation = doc! { "ts": time, "t": term as i64 };
    let at = DateTime::from_system_time(at);
    doc! {
        "opTime": operation.clone(), "lastWriteDate": at,
        "majorityOpTime": operation, "majorityWriteDate": at,
    }
}
