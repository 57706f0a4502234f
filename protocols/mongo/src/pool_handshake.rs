//! The first exchange on a pooled connection: a `hello` with the proxy's own name, whose reply shows what
//! the server is.

use crate::{
    MongoListener,
    element::elements,
    error_reply,
    probe::{HelloReply, reply_body},
};
use bytes::{Bytes, BytesMut};
use operation::{Handshake, HandshakeConfig, HandshakeStep, Identity, OpenStateCounts};
use std::sync::Arc;

/// Makes pooled connections of a listener ready.
#[derive(Debug)]
pub struct PoolHandshake(pub Arc<MongoListener>);

/// The request's id.
const REQUEST: u32 = 1;

#[derive(Debug)]
struct Hello {
    /// The application that the connection serves.
    application: Option<Arc<str>>,
}

impl HandshakeConfig for PoolHandshake {
    fn begin(&self, identity: &Identity) -> Option<Box<dyn Handshake>> {
        let Identity { user: None, application } = identity else { return None };
        Some(Box::new(Hello { application: application.clone() }))
    }

    fn connected(&self, reply: &[u8]) {
        if let (Some(shown), Ok(Some(body))) = (&self.0.presentation, reply_body(reply, REQUEST)) {
            shown.record(body);
            let text = |name: &[u8]| elements(body).find(|field| field.name == name)?.text();
            if let (Some(me), Some(set)) = (text(b"me"), text(b"setName")) {
                self.0.record_member(me, set);
            }
        }
    }

    fn members_changed(&self, replies: &[Bytes]) {
        self.0.presentation.iter().for_each(|shown| shown.record_members(replies));
    }

    fn open_states(&self) -> OpenStateCounts {
        self.0.owners.count()
    }

    fn check_successor(&self, reply: &[u8]) -> Result<(), String> {
        match (&self.0.presentation, reply_body(reply, REQUEST)) {
            (Some(shown), Ok(Some(body))) => shown.check_successor(body),
            _ => Ok(()),
        }
    }

    fn switched(&self, reply: &[u8]) {
        self.0.owners.forget_states();
        if let (Some(shown), Ok(Some(body))) = (&self.0.presentation, reply_body(reply, REQUEST)) {
            shown.switched(body);
        }
    }
}

impl Handshake for Hello {
    fn write_request(&mut self, out: &mut BytesMut) {
        error_reply::client_hello(REQUEST, self.application.as_deref(), out);
    }

    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        let body = match reply_body(reply, REQUEST) {
            Ok(Some(body)) => body,
            Ok(None) => return HandshakeStep::NeedMore,
            Err(words) => return HandshakeStep::Failed(format!("the server {words}")),
        };
        let hello = HelloReply::read(body);
        if !hello.ok {
            return HandshakeStep::Failed(format!(
                "the server answers hello with {}",
                hello.error()
            ));
        }
        HandshakeStep::Done
    }
}
