//! The PROXY protocol of listeners.

use super::{Check, given};
use crate::plan::ProxyProtocolPlan;
use policy::matching::PeerMatcher;
use proxy_protocol::{ListenerSettings, Version};
use values::spanned::{Opt, Spanned};

impl Check<'_> {
    /// The senders of PROXY headers that a listener accepts.
    pub(super) fn proxy_protocol(
        &mut self,
        listener: &str,
        written: Option<Spanned<ListenerSettings>>,
    ) -> Option<ProxyProtocolPlan> {
        let settings = written?.value?;
        let mut from = Vec::new();
        for text in &settings.from.0 {
            match PeerMatcher::parse(text) {
                Ok(peers) => from.push(peers),
                Err(error) => {
                    let at = self.tree.place(&["listeners", listener, "proxy_protocol", "from"]);
                    self.report.add_diagnostic(at, error);
                }
            }
        }
        Some(ProxyProtocolPlan { settings, from })
    }

    /// The header that connections to a cluster begin with.
    pub(super) fn outgoing_proxy_protocol(
        &mut self,
        cluster: &str,
        written: Opt<Version>,
    ) -> Option<Version> {
        let version = given(&written)?;
        let at = written.map_or(self.tree.at, |it| it.at);
        let mut protocols = self.cluster_protocols.get(cluster).into_iter().flatten();
        if let Some(protocol) = protocols.find(|protocol| protocol.shares_connections()) {
            let name = protocol.describe().name;
            let message =
                format!("`{cluster}` serves `{name}`, where a connection serves several clients");
            let hint = "leave `proxy_protocol` out: `x-forwarded-for` says who the client is";
            self.report.add(at, message, hint);
        }
        Some(version)
    }
}
