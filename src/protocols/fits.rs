//! Clusters that can't do what a listener's protocol asks of them.

use super::{Pooling, ProtocolConfig};
use http::Version;
use std::{collections::BTreeMap, sync::Arc};

/// A cluster that can't do what is asked of it.
pub(crate) struct Unfit {
    /// The keys below `protocol` that lead to it; nothing for the listener's own `cluster`.
    pub(crate) path: Option<Vec<String>>,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
}

impl ProtocolConfig {
    /// The clusters that can't do what is asked of them, of those about which something is said.
    pub(crate) fn unfit(
        &self,
        cluster: Option<&str>,
        said: &BTreeMap<Arc<str>, Pooling>,
    ) -> Vec<Unfit> {
        let speaks = |cluster: &str, version| {
            let pooling = said.get(cluster).filter(|it| it.version.is_some());
            pooling.is_some_and(|it| it.version() == version)
        };
        let own = cluster.map(|name| (None, name.to_owned()));
        let named = self.clusters().into_iter().map(|(path, name)| (Some(path), name));
        let (asked, wrong, message, hint): (Vec<_>, _, _, _) = match self {
            ProtocolConfig::Tcp(_) | ProtocolConfig::Mongo(_) => return Vec::new(),
            ProtocolConfig::Http(settings) => {
                let below = |path: Vec<String>| Some([vec!["http".to_owned()], path].concat());
                let switched = tollgate_http::upgraded_clusters(&settings.routes).into_iter();
                let switched = switched.map(|(path, name)| (below(path), name.to_owned()));
                let message = "speaks HTTP/2, where no connection can change";
                let hint = "lead it to a cluster with `http: { version: 1 }`";
                (switched.collect(), Version::HTTP_2, message, hint)
            }
            ProtocolConfig::Grpc(settings) if settings.reverse_bridge.0.is_some() => {
                return Vec::new();
            }
            ProtocolConfig::Grpc(_) => {
                let message = "speaks HTTP/1.1, and gRPC needs HTTP/2";
                let hint = "leave out its `http: { version: 1 }`, or write `reverse_bridge: true` \
                            if its services speak no gRPC";
                (named.chain(own).collect(), Version::HTTP_11, message, hint)
            }
        };
        let unfit = asked.into_iter().filter(|(_, name)| speaks(name, wrong));
        unfit
            .map(|(path, name)| Unfit { path, message: format!("`{name}` {message}"), hint })
            .collect()
    }
}
