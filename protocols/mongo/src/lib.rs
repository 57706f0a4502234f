//! MongoDB: commands in, replies out, tied by request id; every byte as it came.
//!
//! A request is held until its front (64 KiB at most) is here: `message` finds its sections,
//! `asked` names it, and the rest passes while `scan` counts its documents and `digest` learns what
//! stands further on. Where a policy needs that first, the relay has more of it read. A reply is
//! never held; `scan` reads the few facts that settle the request in `open`. Both go through
//! `compressed` where the message is. The exception is `hello`, which is rewritten whole, so that
//! drivers stay on the proxy.

mod bson_writer;
mod call_sites;
mod checksum;
mod client_state;
mod codec;
mod commands;
mod comment;
mod cursor_table;
mod decompressor;
#[cfg(test)]
mod dice;
mod element;
mod error_codes;
mod error_reply;
mod header;
mod hello;
mod in_flight_requests;
mod message_view;
mod namespaces;
mod number;
mod parsed_command;
mod pipeline;
mod probe;
mod replica_set_notices;
mod request_summary;
mod scan;
mod sections;
mod settings;
mod shape;
mod snappy;
#[cfg(test)]
mod testing;
mod violations;
mod write_effect;

pub use codec::Mongo;
pub use commands::commands;
pub use probe::{MongoProbe, MongoProbeContext, ProbeSettings};
pub use settings::Settings;

use call_sites::CallSites;
use cursor_table::CursorTable;
use decompressor::DecompressionBudget;
use replica_set_notices::ReplicaSetNotices;
use std::sync::Arc;

/// What all connections of one listener share: settings, and tables of bounded size.
#[derive(Debug, Default)]
pub struct Listener {
    /// What people wrote.
    pub settings: Settings,
    /// Open cursors: drivers go on with them on any connection.
    cursors: CursorTable,
    /// Call sites, by number.
    call_sites: CallSites,
    /// What its service's members say of themselves.
    replica_set: ReplicaSetNotices,
    /// What decoders take that wait for more of their requests.
    decompression: Arc<DecompressionBudget>,
}

impl Listener {
    /// A listener with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }
}
