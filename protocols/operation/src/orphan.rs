//! What a client that vanished has left at a service.

use crate::Placement;
use bytes::BytesMut;
use std::fmt::Debug;

/// State at a service whose client has closed its connection, such as an open transaction. The relay ends
/// it after a grace, since the client may continue it on another connection.
pub trait Orphan: Debug {
    /// What it is, as a label of metrics: `transaction`.
    fn kind(&self) -> &'static str;

    /// The client can't continue it on another connection, so it is ended at once.
    fn is_bound_to_connection(&self) -> bool;

    /// Whether the client has not continued it meanwhile. Called once.
    fn is_abandoned(&self) -> bool;

    /// Where the request goes that ends it.
    fn placement(&self) -> Placement;

    /// Appends the request that ends it.
    fn write_request(&self, out: &mut BytesMut);

    /// Whether this is the whole reply to the request.
    fn is_reply(&self, bytes: &[u8]) -> bool;
}
