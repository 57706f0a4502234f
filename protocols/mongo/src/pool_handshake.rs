//! The first exchange on a pooled connection: a `hello` with the proxy's own name, whose reply shows what
//! the server is.

use crate::{
    MongoListener, error_reply,
    probe::{HelloReply, reply_body},
};
use bytes::{Bytes, BytesMut};
use operation::{Handshake, HandshakeConfig, HandshakeStep};
use std::sync::Arc;

/// Makes pooled connections of a listener ready.
#[derive(Debug)]
pub struct PoolHandshake(pub Arc<MongoListener>);

#[derive(Debug)]
struct Hello {
    listener: Arc<MongoListener>,
    /// The application that the connection serves.
    application: Option<String>,
    /// The request's id.
    id: u32,
}

impl HandshakeConfig for PoolHandshake {
    fn begin(&self, application: Option<&str>) -> Box<dyn Handshake> {
        let application = application.map(str::to_owned);
        Box::new(Hello { listener: Arc::clone(&self.0), application, id: 1 })
    }

    fn members_changed(&self, replies: &[Bytes]) {
        self.0.presentation.iter().for_each(|shown| shown.record_members(replies));
    }
}

impl Handshake for Hello {
    fn write_request(&mut self, out: &mut BytesMut) {
        error_reply::client_hello(self.id, self.application.as_deref(), out);
    }

    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        let body = match reply_body(reply, self.id) {
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
        if let Some(presentation) = &self.listener.presentation {
            presentation.record(body);
        }
        HandshakeStep::Done
    }
}
