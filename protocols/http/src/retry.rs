//! Retries: how an attempt fails, when another one may follow, and how many at once. Nothing here
//! keeps a clock or opens a connection.

mod backoff;
mod budget;
mod failure;
mod pushback;

pub use backoff::Backoff;
pub use budget::{RequestInFlight, RetryBudget, RouteLoad};
pub use failure::AttemptFailure;
pub use pushback::Pushback;

use http::Method;

/// Whether a request that died with its pooled connection, before any byte of an answer, may be
/// sent again at once (RFC 9110 §9.2.2, RFC 9112 §9.3.1). `sent` tells whether any byte of it was
/// written; one of which nothing was written was never seen, whatever it asks for. Its body has to
/// be whole still, which the caller knows.
pub fn is_safe_to_repeat(method: &Method, sent: bool) -> bool {
    !sent || method.is_idempotent()
}

#[cfg(test)]
mod tests;
