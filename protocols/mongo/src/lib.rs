//! MongoDB: commands in, replies out, tied by request id; every byte as it came.

mod asked;
#[allow(dead_code, reason = "the codec checks and seals messages with it")]
mod checksum;
mod client;
mod codec;
mod commands;
mod comment;
#[allow(dead_code, reason = "the codec reads compressed messages with it")]
mod compressed;
mod cursors;
#[cfg(test)]
mod dice;
mod error;
mod header;
mod hello;
mod message;
mod names;
mod open;
mod refusal;
mod scan;
mod settings;
mod shape;
mod snappy;
#[cfg(test)]
mod testing;
mod walk;

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
