//! SRV records (RFC 2782): names with ports, weights and priorities, and then their addresses.

use super::{Answer, Cluster, Found, MAX_ADDRESSES, News, in_time};
use crate::config::plan::Target;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// What an SRV name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// Its records. None at all is a failed look-up.
    pub services: Vec<Service>,
    /// For how long that holds.
    pub ttl: Duration,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The least is served first.
    pub priority: u16,
    /// The host's name, without the dot at the end.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share beside the others of its priority. 0 is as good as none: it counts as 1.
    pub weight: u16,
}

impl Cluster {
    /// Looks an SRV name up, and then its targets. A target whose addresses can't be looked up
    /// keeps those that it had `before`.
    pub(super) async fn look_up_services(
        self: &Arc<Self>,
        name: &str,
        before: &[Found],
    ) -> Result<News, String> {
        let Services { mut services, mut ttl } =
            in_time(self.names.resolver.services(name)).await?;
        // A root as target says that there is no such service (RFC 2782).
        services.retain(|s| !s.host.is_empty() && s.host != "." && s.port != 0);
        services.sort_unstable();
        services.dedup_by(|a, b| a.host == b.host && a.port == b.port);
        services.truncate(MAX_ADDRESSES);
        if services.is_empty() {
            return Err("it has no service".to_owned());
        }
        let answers = self.look_up_hosts(services.iter().map(|s| s.host.clone()).collect()).await;
        let priorities: BTreeSet<u16> = services.iter().map(|s| s.priority).collect();
        let mut found: Vec<Found> = Vec::new();
        let mut missing = None;
        for service in services {
            let Service { priority, host, port, weight } = service;
            let rank = priorities.iter().take_while(|&&p| p < priority).count();
            let place = Some((u32::from(weight.max(1)), u8::try_from(rank).unwrap_or(u8::MAX)));
            let name: Arc<str> = Target::Host(host.clone(), port).to_string().into();
            match answers.get(&host) {
                Some(Ok(answer)) => {
                    ttl = ttl.min(answer.ttl);
                    found.extend(answer.addresses.iter().map(|&ip| {
                        let address = SocketAddr::new(ip, port);
                        Found { address, name: Arc::clone(&name), place }
                    }));
                }
                Some(Err(error)) => {
                    missing.get_or_insert_with(|| format!("{host}: {error}"));
                    let kept = before.iter().filter(|found| found.name == name);
                    found.extend(kept.map(|found| Found { place, ..found.clone() }));
                }
                None => {}
            }
        }
        found.truncate(MAX_ADDRESSES);
        match found.is_empty() {
            true => Err(missing.unwrap_or_else(|| "it has no address".to_owned())),
            false => Ok(News { found, ttl, missing }),
        }
    }

    /// Looks hosts up, all at once.
    async fn look_up_hosts(
        self: &Arc<Self>,
        hosts: BTreeSet<String>,
    ) -> BTreeMap<String, Result<Answer, String>> {
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
