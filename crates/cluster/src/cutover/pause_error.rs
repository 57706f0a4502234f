//! Why the end of a pause is not waited for any longer.

use std::{sync::Arc, time::Duration};

/// The cluster is not paused.
#[derive(Debug, thiserror::Error)]
#[error("cluster `{0}` is not paused: a pause ends by itself after its resume_after")]
pub struct NotPaused(pub Arc<str>);

/// Why an operation or a connection no longer waits for the end of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseError {
    /// It has waited for this long.
    TimedOut(Duration),
    /// This many wait already.
    QueueFull(usize),
}
