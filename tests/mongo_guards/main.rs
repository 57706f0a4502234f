//! Guards before MongoDB see what the server will see: however a request names what it is about,
//! how long it is, in which order its parts come, and what in it stands there twice.

#![allow(clippy::unwrap_used, clippy::panic)]

mod compressed;
mod held;
mod names;
#[path = "../support/mod.rs"]
mod support;
mod twice;
mod users;

use bson::{Document, doc};
use support::{
    client::RawClient,
    scripted::Scripted,
    tollgate::Tollgate,
    wire::{op_msg, op_msg_of},
};

/// A proxy with policies before a server that agrees to everything, and a client that may compress.
struct Guarded {
    tollgate: Tollgate,
    server: Scripted,
    client: RawClient,
    /// What of the client the server has seen.
    seen: usize,
}

/// A proxy with these policies, and these settings of its listener.
fn guarded_with(settings: &str, policies: &str) -> Guarded {
    let server = Scripted::agreeing();
    let tollgate = Tollgate::mongo_guarded(server.address(), settings, policies);
    let (client, hello) = RawClient::offering(tollgate.listener("db"));
    Guarded { tollgate, server, client, seen: hello.len() }
}

/// A proxy that denies what matches.
fn denies(matching: &str) -> Guarded {
    guarded_with("", &format!("  - {{ name: closed, match: {matching}, deny: {{}} }}\n"))
}

impl Guarded {
    /// The code that this request is answered with, and what was said; 0 if the server answered.
    fn code(&mut self, bytes: &[u8]) -> (i32, String) {
        let reply = self.client.round_trip(bytes).document();
        let code = reply.get_i32("code").unwrap_or(0);
        if code == 0 {
            self.seen += bytes.len();
        }
        (code, reply.get_str("errmsg").unwrap_or_default().to_owned())
    }

    #[track_caller]
    fn refuses(&mut self, bytes: &[u8]) {
        let (code, _) = self.code(bytes);
        assert_eq!(code, 13, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    }

    #[track_caller]
    fn passes(&mut self, bytes: &[u8]) {
        let (code, why) = self.code(bytes);
        assert_eq!(code, 0, "{why}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    }

    /// The server saw what passed, and nothing else.
    #[track_caller]
    fn leaks_nothing(&mut self) {
        self.passes(&op_msg(77, &doc! { "ping": 1, "$db": "admin" }));
        let bytes = self.server.bytes(self.seen);
        assert_eq!(bytes.len(), self.seen, "the server saw more than what passed");
    }
}

/// `{find: collection, filter: …, $db: database}` with a filter of this many bytes.
fn find(collection: &str, database: &str, padding: usize) -> Document {
    doc! { "find": collection, "filter": { "text": "y".repeat(padding) }, "$db": database }
}

/// A document's bytes, with fields that it has already.
fn with(document: &Document, more: &[Document]) -> Vec<u8> {
    let mut inside = document.to_vec().unwrap();
    inside.pop();
    for one in more {
        let one = one.to_vec().unwrap();
        inside.extend(&one[4..one.len() - 1]);
    }
    inside.push(0);
    let len = (inside.len() as u32).to_le_bytes();
    inside[..4].copy_from_slice(&len);
    inside
}

/// A message of one section with these bytes.
fn message_of(id: i32, document: &[u8]) -> Vec<u8> {
    op_msg_of(id, 0, 0, &[[&[0], document].concat()])
}
