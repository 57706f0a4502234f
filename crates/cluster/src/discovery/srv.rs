//! SRV records (RFC 2782): names with ports, weights and priorities, and their addresses.

use super::{Cluster, DiscoveredEndpoints, FoundAddress, HostAnswer, MAX_ADDRESSES, with_timeout};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;
use values::Target;

/// What an SRV name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvAnswer {
    /// Its records. An empty list is a failed look-up.
    pub records: Vec<SrvRecord>,
    /// How long the answer is valid.
    pub ttl: Duration,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvRecord {
    /// The lowest priority is used first.
    pub priority: u16,
    /// The host name, without the dot at the end.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share among those of its priority. 0 counts as 1.
    pub weight: u16,
}

impl Cluster {
    /// Resolves an SRV name and its targets. A target that cannot be resolved keeps its addresses
    /// from `before`.
    pub(super) async fn look_up_services(
        self: &Arc<Self>,
        name: &str,
        before: &[FoundAddress],
    ) -> Result<DiscoveredEndpoints, String> {
        let SrvAnswer { records: mut services, mut ttl } =
            with_timeout(self.names.resolver.resolve_srv(name)).await?;
        // The root as target means that there is no such service (RFC 2782).
        services.retain(|s| !s.host.is_empty() && s.host != "." && s.port != 0);
        services.sort_unstable();
        services.dedup_by(|a, b| a.host == b.host && a.port == b.port);
        services.truncate(MAX_ADDRESSES);
        if services.is_empty() {
            return Err("it has no service".to_owned());
        }
        let answers = self.look_up_hosts(services.iter().map(|s| s.host.clone()).collect()).await;
        let priorities: BTreeSet<u16> = services.iter().map(|s| s.priority).collect();
        let mut found: Vec<FoundAddress> = Vec::new();
        let mut missing = None;
        for service in services {
            let SrvRecord { priority, host, port, weight } = service;
            let rank = priorities.iter().take_while(|&&p| p < priority).count();
            let place = Some((u32::from(weight.max(1)), u8::try_from(rank).unwrap_or(u8::MAX)));
            let name: Arc<str> = Target::Host(host.clone(), port).to_string().into();
            match answers.get(&host) {
                Some(Ok(answer)) => {
                    ttl = ttl.min(answer.ttl);
                    found.extend(answer.addresses.iter().map(|&ip| {
                        let address = SocketAddr::new(ip, port);
                        FoundAddress { address, name: Arc::clone(&name), rank: place }
                    }));
                }
                Some(Err(error)) => {
                    missing.get_or_insert_with(|| format!("{host}: {error}"));
                    let kept = before.iter().filter(|found| found.name == name);
                    found.extend(kept.map(|found| FoundAddress { rank: place, ..found.clone() }));
                }
                None => {}
            }
        }
        found.truncate(MAX_ADDRESSES);
        match found.is_empty() {
            true => Err(missing.unwrap_or_else(|| "it has no address".to_owned())),
            false => Ok(DiscoveredEndpoints { found, ttl, missing }),
        }
    }

    /// Resolves hosts in parallel.
    async fn look_up_hosts(
        self: &Arc<Self>,
        hosts: BTreeSet<String>,
    ) -> BTreeMap<String, Result<HostAnswer, String>> {
        let mut lookups = JoinSet::new();
        for host in hosts {
            let cluster = Arc::clone(self);
            lookups.spawn(async move {
                let answer = cluster.names.addresses(&host).await;
                (host, answer)
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(done) = lookups.join_next().await {
            answers.extend(done);
        }
        answers
    }
}
