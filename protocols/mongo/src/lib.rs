//! MongoDB: commands in, replies out, tied by request id; every byte as it came.

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
mod element;
mod error;
mod header;
mod hello;
mod message;
mod names;
mod number;
mod open;
mod refusal;
mod scan;
mod settings;
mod shape;
mod snappy;
#[cfg(test)]
mod testing;

pub use codec::Mongo;
pub use settings::Settings;

use cursors::Cursors;
use names::Names;

/// What all connections of one listener share: settings, and tables of bounded size.
#[derive(Debug, Default)]
pub struct Listener {
    /// What people wrote.
    pub settings: Settings,
    /// Open cursors: drivers go on with them on any connection.
    cursors: Cursors,
    /// Call sites, by number.
    names: Names,
}

impl Listener {
    /// A listener with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }
}
