//! Hints about policies that name what no listener learns of its clients.

use crate::plan::{ListenerPlan, Plan};
use policy::Rule;
use std::collections::BTreeSet;

/// Attributes of TLS and of PROXY headers, in the match or the key of a policy, that no client of its
/// listeners can have.
pub(super) fn missing_attributes(plan: &Plan, rule: &Rule) -> Vec<String> {
    let applies = |it: &&ListenerPlan| rule.matching.may_apply(&it.name, it.protocol.name());
    let listeners: Vec<_> = plan.listeners.iter().map(|it| &**it).filter(applies).collect();
    let action = rule.config.to_json();
    let keys = action["key"].as_array().into_iter().flatten().filter_map(|part| part.as_str());
    let named: BTreeSet<_> = rule.matching.all_attributes().into_iter().chain(keys).collect();
    let missing = named.into_iter().filter_map(|name| Some((name, Source::of(name)?)));
    let missing = missing.filter(|(_, source)| !listeners.iter().any(|it| source.is_in(it)));
    let hint = |(name, source): (&str, Source)| {
        let needed = source.keys();
        format!("policy `{}`: no client has `{name}` here: a listener needs {needed}", rule.name)
    };
    missing.map(hint).collect()
}

/// A listener that passes on certificates which its clients can't have.
pub(super) fn missing_certificates(listener: &ListenerPlan) -> Option<String> {
    let source = Source::ClientCertificate;
    let is_missing = listener.protocol.forwards_client_certificates() && !source.is_in(listener);
    is_missing.then(|| {
        let (name, needed) = (&listener.name, source.keys());
        format!(
            "listener `{name}`: `client_certificate_header` has no effect, since its clients have no \
             certificates: that needs {needed}"
        )
    })
}

/// What an attribute is read from.
#[derive(Clone, Copy)]
enum Source {
    ProxyHeader,
    ServerName,
    Handshake,
    ClientCertificate,
}

impl Source {
    fn of(attribute: &str) -> Option<Self> {
        match attribute {
            "via" => Some(Self::ProxyHeader),
            "sni" => Some(Self::ServerName),
            "tls.version" | "tls.cipher" | "tls.alpn" => Some(Self::Handshake),
            _ if attribute.starts_with("tls.") => Some(Self::ClientCertificate),
            _ if attribute.starts_with("proxy.") => Some(Self::ProxyHeader),
            _ => None,
        }
    }

    fn is_in(self, listener: &ListenerPlan) -> bool {
        let tls = listener.tls.as_ref();
        match self {
            Self::ProxyHeader => listener.proxy_protocol.is_some(),
            Self::ServerName => tls.is_some() || !listener.sni.is_empty(),
            Self::Handshake => tls.is_some(),
            Self::ClientCertificate => {
                tls.is_some_and(|tls| tls.plan().client_certificates.is_some())
            }
        }
    }

    /// The keys of a listener that lead to it.
    fn keys(self) -> &'static str {
        match self {
            Self::ProxyHeader => "`proxy_protocol`",
            Self::ServerName => "`tls` or `sni`",
            Self::Handshake => "`tls`",
            Self::ClientCertificate => "`tls` with a `client_ca`",
        }
    }
}
