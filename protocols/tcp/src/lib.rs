//! Raw TCP: the whole connection is one operation, called `session`.

mod operation_names;
mod probe;
mod settings;

use bytes::BytesMut;
use operation::{
    Codec, ConnectionInfo, Next, OperationNames, Protocol, RejectionRef, Reply, Request, Tag,
    Violation,
};
pub use operation_names::no_operation;
pub use probe::{Exchange, TcpProbe};
pub use settings::{ProbeSettings, Settings};
use std::sync::Arc;

/// The codec of one raw TCP connection.
#[derive(Debug, Default)]
pub struct Tcp;

impl Codec for Tcp {
    const PROTOCOL: Protocol = Protocol { stream: true, ..Protocol::plain("tcp") };

    type Shared = ();

    fn new(_: &Arc<()>, _: ConnectionInfo) -> Self {
        Self
    }

    fn request(&mut self, _: &[u8]) -> Result<Next<Request>, Violation> {
        let session = Request::default();
        Ok(Next::start(u64::MAX, session))
    }

    fn names<'b>(&'b self, _: &'b [u8]) -> OperationNames<'b> {
        OperationNames { name: "session", resource: "" }
    }

    fn reply(&mut self, _: &[u8]) -> Result<Next<Reply>, Violation> {
        Ok(Next::more(u64::MAX))
    }

    /// TCP has no words for it: the relay closes.
    fn reject(&mut self, _: Tag, _: &RejectionRef<'_>, _: &mut BytesMut) -> bool {
        false
    }
}
