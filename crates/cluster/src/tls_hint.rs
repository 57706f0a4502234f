//! A hint for endpoints that expect TLS from a cluster without it.

use crate::Cluster;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether the hint was logged.
#[derive(Debug, Default)]
pub(super) struct TlsHint(AtomicBool);

impl Cluster {
    /// Logs once that an endpoint may expect TLS, if the cluster has none.
    pub(super) fn hint_at_tls(&self, endpoint: &str) {
        if self.destination.load().tls.is_none() && !self.tls_hint.0.swap(true, Relaxed) {
            let cluster = &*self.name;
            tracing::warn!(
                cluster,
                endpoint,
                "the endpoint did not answer the first request of a connection: it may expect TLS \
                 (`clusters.{cluster}.tls`)"
            );
        }
    }
}
