//! TLS of listeners and clusters: the files are read, so that a wrong one is reported before it is used.

use super::Check;
use protocols::{ListenerProtocol, Pooling};
use std::sync::Arc;
use tls::{ClientTls, ClusterSettings, ListenerSettings, ServerTls};
use values::{Diagnostic, spanned::Spanned};

impl Check<'_> {
    /// How a listener's clients are encrypted.
    pub(super) fn listener_tls(
        &mut self,
        listener: &str,
        protocol: &dyn ListenerProtocol,
        written: Option<Spanned<ListenerSettings>>,
    ) -> Option<Arc<ServerTls>> {
        let settings = written?.value?;
        match settings.load(protocol.alpn()) {
            Ok(server) => Some(Arc::new(server)),
            Err(error) => {
                self.add_tls_error(["listeners", listener, "tls"], error);
                None
            }
        }
    }

    /// How connections to a cluster's endpoints are encrypted.
    pub(super) fn cluster_tls(
        &mut self,
        cluster: &str,
        pooling: &Pooling,
        written: Option<Spanned<ClusterSettings>>,
    ) -> Option<Arc<ClientTls>> {
        let settings = written?.value?;
        let protocols = self.cluster_protocols.get(cluster).into_iter().flatten();
        let mut alpn: Vec<Vec<u8>> = protocols.flat_map(|it| it.upstream_alpn(pooling)).collect();
        // HTTP/2 first.
        alpn.sort();
        alpn.dedup();
        match settings.load(alpn) {
            Ok(client) => Some(Arc::new(client)),
            Err(error) => {
                self.add_tls_error(["clusters", cluster, "tls"], error);
                None
            }
        }
    }

    fn add_tls_error(&mut self, keys: [&str; 3], error: Diagnostic) {
        let inner = error.path.iter().map(String::as_str);
        let path: Vec<&str> = keys.into_iter().chain(inner).collect();
        let at = self.tree.place(&path);
        self.report.add_diagnostic(at, error);
    }
}
