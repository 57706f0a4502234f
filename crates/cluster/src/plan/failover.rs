//! The plan of what happens to operations when an endpoint of a pool fails.

use operation::ReplayConfig;
use serde::Serialize;
use std::time::Duration;
use values::{Keyword, shown, shown_size};

/// What happens to the operations of a pool when an endpoint fails, and to what clients leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FailoverPlan {
    /// How long an operation waits for an endpoint that fits it; `None`: it does not wait.
    #[serde(serialize_with = "shown")]
    pub hold: Option<Duration>,
    /// Requests are sent again when their endpoint fails.
    pub replay: bool,
    /// The longest request that is sent again, in bytes.
    #[serde(serialize_with = "shown_size")]
    pub replay_max: usize,
    /// Which writes the service does once however often they arrive.
    #[serde(serialize_with = "shown")]
    pub retryable_writes: RetryableWrites,
    /// What a client gets whose request may have been done.
    #[serde(serialize_with = "shown")]
    pub lost: LostRequests,
    /// How long what a vanished client has left open stays open; `None`: as long as the service keeps it.
    #[serde(serialize_with = "shown")]
    pub orphan_grace: Option<Duration>,
    /// How long the service may go on with an operation whose client has vanished; `None`: it is stopped at
    /// once.
    #[serde(serialize_with = "shown")]
    pub cancel_grace: Option<Duration>,
}

/// Which writes the service does once however often they arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryableWrites {
    /// Those that clients send as such.
    #[default]
    AsSent,
    /// All that can be: the proxy adds to a write what is missing.
    Add,
}

/// What a client gets whose request was sent, and may have been done or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostRequests {
    /// Its connection is closed: its driver knows best what to do.
    #[default]
    Close,
    /// An error.
    Error,
}

impl FailoverPlan {
    /// The most that `replay_max` can be, in bytes.
    pub const MAX_REPLAY: usize = 128 * 1024;

    /// The part that is the codec's.
    pub fn replay_config(&self) -> ReplayConfig {
        ReplayConfig {
            max_request: if self.replay { self.replay_max } else { 0 },
            makes_writes_retryable: self.retryable_writes == RetryableWrites::Add,
            reports_lost: self.lost == LostRequests::Error,
        }
    }
}

impl Default for FailoverPlan {
    fn default() -> Self {
        Self {
            hold: Some(Duration::from_secs(15)),
            replay: true,
            replay_max: 64 * 1024,
            retryable_writes: RetryableWrites::AsSent,
            lost: LostRequests::Close,
            orphan_grace: Some(Duration::from_secs(1)),
            cancel_grace: Some(Duration::from_secs(1)),
        }
    }
}

impl Keyword for RetryableWrites {
    const EXPECTED: &str = "`as_sent` or `add`";
    const WORDS: &[(&str, Self)] =
        &[("as_sent", RetryableWrites::AsSent), ("add", RetryableWrites::Add)];
}

impl Keyword for LostRequests {
    const EXPECTED: &str = "`close` or `error`";
    const WORDS: &[(&str, Self)] =
        &[("close", LostRequests::Close), ("error", LostRequests::Error)];
}
