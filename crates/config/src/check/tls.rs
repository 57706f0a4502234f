//! TLS of listeners and clusters: the files are read, so that a wrong one is reported before it is used.

use super::Check;
use crate::file::Listener;
use protocols::{ListenerProtocol, Pooling, ProtocolSettings};
use std::{collections::BTreeMap, sync::Arc};
use tls::{AdminSettings, ClientTls, ClusterSettings, ListenerSettings, ServerTls, StartTls};
use traces::{OtlpEndpoint, OtlpProtocol};
use values::{
    Diagnostic, NamedMap, Text, is_host_name,
    spanned::{Opt, Spanned},
};

impl Check<'_> {
    /// How a listener's clients are encrypted.
    pub(super) fn listener_tls(
        &mut self,
        listener: &str,
        protocol: &dyn ListenerProtocol,
        starttls: Option<StartTls>,
        written: Option<Spanned<ListenerSettings>>,
    ) -> Option<Arc<ServerTls>> {
        let settings = written?.value?;
        let alpn = starttls.map_or_else(|| protocol.alpn(), |it| vec![it.alpn().to_vec()]);
        match settings.load(alpn) {
            Ok(server) => Some(Arc::new(server)),
            Err(error) => {
                self.add_tls_error(&["listeners", listener, "tls"], error);
                None
            }
        }
    }

    /// How the clients of the admin interface are encrypted.
    pub(super) fn admin_tls(
        &mut self,
        written: Option<Spanned<AdminSettings>>,
    ) -> Option<Arc<ServerTls>> {
        match written?.value?.load() {
            Ok(server) => Some(Arc::new(server)),
            Err(error) => {
                self.add_tls_error(&["admin", "tls"], error);
                None
            }
        }
    }

    /// How the connection to a collector of traces is encrypted.
    pub(super) fn collector_tls(
        &mut self,
        otlp: &OtlpEndpoint,
        protocol: OtlpProtocol,
        written: Option<Spanned<ClusterSettings>>,
    ) -> Option<Arc<ClientTls>> {
        if !otlp.encrypted {
            if let Some(Spanned { at, .. }) = written {
                let message = "`tls` has no effect: by its URL, the collector is not encrypted";
                self.report.add(at, message, "write `https` in `otlp`, or leave `tls` out");
            }
            return None;
        }
        let settings = written.and_then(|it| it.value).unwrap_or_default();
        match settings.load(vec![protocol.alpn()]) {
            Ok(client) => Some(Arc::new(client)),
            Err(error) => {
                self.add_tls_error(&["tracing", "tls"], error);
                None
            }
        }
    }

    /// The protocol in which a listener's clients ask for TLS.
    pub(super) fn starttls(
        &mut self,
        protocol: &dyn ListenerProtocol,
        listener: &Listener,
    ) -> Option<StartTls> {
        let Spanned { at, value } = listener.starttls.as_ref()?;
        let Text(starttls) = value.as_ref()?;
        if !protocol.describe().stream {
            let message = format!("clients of `{}` have no such request for TLS", protocol.name());
            self.report.add(*at, message, "leave `starttls` out, or write `protocol: tcp`");
        } else if listener.tls.is_none() && listener.sni.is_none() {
            let message =
                "`starttls` needs `tls` or `sni`: clients begin with TLS after the answer";
            self.report.add(
                *at,
                message,
                "end TLS here (`tls: { certificates: … }`), or leave it out",
            );
        }
        Some(*starttls)
    }

    /// The protocol in which a cluster's endpoints are asked for TLS.
    pub(super) fn cluster_starttls(
        &mut self,
        name: &str,
        written: Opt<StartTls>,
        has_tls: bool,
    ) -> Option<StartTls> {
        let Spanned { at, value } = written?;
        let Text(starttls) = value?;
        let mut protocols = self.cluster_protocols.get(name).into_iter().flatten();
        if !has_tls {
            let message = "`starttls` needs `tls`, which begins after the answer";
            let hint = "add `tls: {}`; or leave it out: where clients' TLS passes through, so does \
                        their request";
            self.report.add(at, message, hint);
        } else if let Some(other) = protocols.find(|it| !it.describe().stream) {
            let message =
                format!("`{name}` serves `{}`, which has no such request", other.describe().name);
            self.report.add(at, message, "leave `starttls` out: connections begin with TLS");
        }
        Some(starttls)
    }

    /// How connections to a cluster's endpoints are encrypted.
    pub(super) fn cluster_tls(
        &mut self,
        cluster: &str,
        pooling: &Pooling,
        written: Option<Spanned<ClusterSettings>>,
    ) -> Option<Arc<ClientTls>> {
        let Some(written) = written else {
            if pooling.needs_tls() {
                let at = self.tree.place(&["clusters", cluster, Pooling::KEY, "version"]);
                let message = format!("`{cluster}` has no `tls`, which would agree on the version");
                self.report.add(at, message, "write `1` or `2`, or add `tls: {}` to the cluster");
            }
            return None;
        };
        let settings = written.value?;
        let alpn = self.upstream_alpn(cluster, pooling);
        match settings.load(alpn) {
            Ok(client) => Some(Arc::new(client)),
            Err(error) => {
                self.add_tls_error(&["clusters", cluster, "tls"], error);
                None
            }
        }
    }

    /// The application protocols that are offered to a cluster's endpoints, best first.
    fn upstream_alpn(&mut self, cluster: &str, pooling: &Pooling) -> Vec<Vec<u8>> {
        let protocols = self.cluster_protocols.get(cluster).into_iter().flatten();
        let lists: Vec<_> = protocols.map(|it| it.upstream_alpn(pooling)).collect();
        let mut offered = lists.concat();
        // HTTP/2 first.
        offered.sort();
        offered.dedup();
        let common = |protocol| lists.iter().all(|list| list.is_empty() || list.contains(protocol));
        if !offered.is_empty() && !offered.iter().any(common) {
            let names: Vec<_> = offered.iter().map(|it| String::from_utf8_lossy(it)).collect();
            let message = format!(
                "the listeners of `{cluster}` speak {} to it, and TLS agrees on one of them",
                names.join(" and ")
            );
            let hint =
                format!("write `{}: {{ version: auto }}`, or one cluster for each", Pooling::KEY);
            let at = self.tree.place(&["clusters", cluster, "tls"]);
            self.report.add(at, message, hint);
        }
        offered
    }

    /// The clusters of clients that ask for a name.
    pub(super) fn sni(
        &mut self,
        name: &str,
        settings: Option<&dyn ProtocolSettings>,
        listener: &Listener,
        clusters: Option<&[String]>,
    ) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut sni = BTreeMap::new();
        let Some(Spanned { at, value: Some(NamedMap(entries)) }) = &listener.sni else {
            return sni;
        };
        if settings.is_some_and(ProtocolSettings::shares_connections) {
            let message = "routes choose the cluster of a request here, and not the name of TLS";
            self.report.add(*at, message, "match the host: `match: { host: NAME }`");
        } else if listener.tls.is_none() && settings.is_some_and(|it| !it.describe().stream) {
            let message = format!("without `tls` the bytes of `{name}` can't be read");
            let hint = "end TLS here (`tls: { certificates: … }`), or let it have `protocol: tcp`";
            self.report.add(*at, message, hint);
        }
        for (host, cluster) in entries {
            self.refers_to(cluster, clusters);
            let Some(host_name) = host.value.as_deref().map(str::to_ascii_lowercase) else {
                continue;
            };
            if !is_host_name(host_name.strip_prefix("*.").unwrap_or(&host_name)) {
                let message = format!("`{host_name}` is not the name of a host");
                let hint = "write a name without a port: `pg1.example.net`, `*.example.net`";
                self.report.add(host.at, message, hint);
            }
            let cluster = cluster.value.as_deref().unwrap_or_default();
            sni.insert(host_name.into(), cluster.into());
        }
        sni
    }

    fn add_tls_error(&mut self, keys: &[&str], error: Diagnostic) {
        let inner = error.path.iter().map(String::as_str);
        let path: Vec<&str> = keys.iter().copied().chain(inner).collect();
        let at = self.tree.place(&path);
        self.report.add_diagnostic(at, error);
    }
}
