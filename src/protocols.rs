//! The registry: the only file in `src/` that names a protocol.

use std::sync::Arc;

/// What a listener's clients speak, with what all its connections share.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Any bytes.
    Tcp(Arc<()>),
    /// MongoDB.
    Mongo(Arc<mongo::Listener>),
}

impl Protocol {
    /// Its name in the config, in logs and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Tcp(_) => "tcp",
            Protocol::Mongo(_) => "mongo",
        }
    }
}
