//! MongoDB: commands in, replies out, tied by request id; every byte as it came.

#[allow(dead_code, reason = "the codec checks and seals messages with it")]
mod checksum;
#[allow(dead_code, reason = "the codec reads compressed messages with it")]
mod compressed;
#[cfg(test)]
mod dice;
mod settings;
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
