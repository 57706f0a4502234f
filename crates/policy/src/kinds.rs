//! The kinds of policies that can be configured: a file each in this folder, and a row in
//! [`POLICIES`].

mod bandwidth_limit;
mod concurrency_limit;
mod connection_limit;
mod deny;
mod fault;
pub mod rate_limit;
mod read_only;
mod route;
mod time_limit;

use super::kind::PolicyKind;

/// Every kind of policy, in the order in which messages list them.
pub static POLICIES: &[&dyn PolicyKind] = &[
    &deny::KIND,
    &read_only::KIND,
    &rate_limit::KIND,
    &concurrency_limit::KIND,
    &connection_limit::KIND,
    &bandwidth_limit::KIND,
    &time_limit::KIND,
    &route::KIND,
    &fault::KIND,
];

/// The keys of all kinds of policies.
pub fn keys() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|kind| kind.key())
}
