//! Retries: failures of attempts, backoff, and budgets. No clock, no I/O.

mod backoff;
mod budget;
mod failure;
mod pushback;

pub use backoff::Backoff;
pub(crate) use budget::RouteLoad;
pub use budget::{RequestInFlight, RetryBudget};
pub use failure::AttemptFailure;
pub use pushback::Pushback;

use http::Method;

/// Whether a request that failed with its pooled connection, before any byte of a response, may be
/// sent again at once (RFC 9110 §9.2.2, RFC 9112 §9.3.1). `sent`: whether any byte was written;
/// otherwise the service has not seen it, whatever its method. The caller ensures that the body can
/// be replayed.
pub(crate) fn is_safe_to_repeat(method: &Method, sent: bool) -> bool {
    !sent || method.is_idempotent()
}

#[cfg(test)]
mod tests;
