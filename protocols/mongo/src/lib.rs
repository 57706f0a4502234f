//! MongoDB: commands in, replies out, tied by request id; every byte as it came.

#[allow(dead_code, reason = "the codec checks and seals messages with it")]
mod checksum;
#[allow(dead_code, reason = "the codec reads compressed messages with it")]
mod compressed;
#[cfg(test)]
mod dice;
#[allow(dead_code, reason = "the codec walks documents with it")]
mod element;
#[allow(dead_code, reason = "the codec rewrites handshakes with it")]
mod hello;
mod settings;
#[allow(dead_code, unused_imports, reason = "the codec describes queries with it")]
mod shape;
mod snappy;

pub use settings::Settings;

/// What all connections of one listener share: settings, and tables of bounded size.
#[derive(Debug, Default)]
pub struct Listener {
    /// What people wrote.
    pub settings: Settings,
}

impl Listener {
    /// A listener with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}
