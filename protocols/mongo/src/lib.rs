//! MongoDB: commands in, replies out, tied by request id; every byte as it came.
//!
//! A request is held until its front (64 KiB at most) is here: `message` finds its sections,
//! `asked` names it, and the rest passes while `scan` counts its documents and `digest` learns what
//! stands further on. Where a policy needs that first, the relay has more of it read. A reply is
//! never held; `scan` reads the few facts that settle the request in `open`. Both go through
//! `compressed` where the message is. The exception is `hello`, which is rewritten whole, so that
//! drivers stay on the proxy.

mod asked;
mod checksum;
mod client;
mod codec;
mod commands;
mod comment;
mod compressed;
mod cursors;
#[cfg(test)]
mod dice;
mod digest;
mod effect;
mod element;
mod error;
mod header;
mod hello;
mod members;
mod message;
mod names;
mod namespaces;
mod number;
mod open;
mod pipeline;
mod probe;
mod refusal;
mod scan;
mod settings;
mod shape;
mod snappy;
#[cfg(test)]
mod testing;

pub use codec::Mongo;
pub use commands::commands;
pub use probe::{Check, MongoProbe, ProbeSettings};
pub use settings::Settings;

use compressed::Inflating;
use cursors::Cursors;
use members::Members;
use names::Names;
use std::sync::Arc;

/// What all connections of one listener share: settings, and tables of bounded size.
#[derive(Debug, Default)]
pub struct Listener {
    /// What people wrote.
    pub settings: Settings,
    /// Open cursors: drivers go on with them on any connection.
    cursors: Cursors,
    /// Call sites, by number.
    names: Names,
    /// What its service's members say of themselves.
    members: Members,
    /// What decoders take that wait for more of their requests.
    inflating: Arc<Inflating>,
}

impl Listener {
    /// A listener with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }
}
