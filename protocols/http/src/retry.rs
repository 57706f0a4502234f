//! Retries: which failures another attempt may follow, when, and how many at once. Nothing here
//! keeps a clock or opens a connection.

mod backoff;
mod budget;
mod conditions;

pub use backoff::Backoff;
pub use budget::{Attempting, Budget, Load};
pub use conditions::{Conditions, Failure};

use http::Method;
use std::time::Duration;

/// How requests of one route are attempted again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// After which failures.
    pub conditions: Conditions,
    /// How many attempts may follow the first.
    pub attempts: u32,
    /// How long each attempt may take, until the answer's head; `None`: as long as the request.
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before each.
    pub backoff: Backoff,
    /// How many may be under way at once.
    pub budget: Budget,
    /// The longest body that is kept to be sent again, in bytes. Requests with more are attempted
    /// once.
    pub max_body: usize,
}

impl Retry {
    /// Whether another attempt may follow `made` attempts, the last of which failed so. The
    /// budget is asked after that.
    pub fn follows(&self, failure: Failure, made: u32) -> bool {
        made <= self.attempts && self.conditions.covers(failure)
    }
}

/// Whether a request that died with its pooled connection, before any byte of an answer, may be
/// sent again at once (RFC 9110 §9.2.2, RFC 9112 §9.3.1). `sent` tells whether any byte of it was
/// written; one of which nothing was written was never seen, whatever it asks for. Its body has to
/// be whole still, which the caller knows.
pub fn is_safe_to_repeat(method: &Method, sent: bool) -> bool {
    !sent || method.is_idempotent()
}

#[cfg(test)]
mod tests;
