//! Clusters: endpoints, load balancing and limits.

use super::{
    Check, endpoints::Listed, given, number, or, pool::BesidePool, replica_set::BesideReplicaSet,
};
use crate::file::{CircuitBreaker, ClusterConfig, Dns, Hash, Keepalive};
use cluster::{
    BreakerPlan, ClusterPlan, DnsPlan, EndpointPlan, EndpointsFile, HashPlan, KeepalivePlan,
    LbPolicy, PanicPlan,
};
use std::{path::Path, time::Duration};
use values::{Count, Keyword, OrOff, duration_text};
use values::{
    OneOrMore, Span, did_you_mean, nearest,
    spanned::{Opt, Spanned},
};

/// The possible keys of `hash`: what is known when a client connects.
const KEYS: &[&str] = &["peer"];
/// The maximum of `TCP_USER_TIMEOUT`, which is milliseconds in 32 bits.
const MAX_USER_TIMEOUT: Duration = Duration::from_secs(49 * 24 * 60 * 60);
/// The maximum of `TCP_KEEPIDLE` and `TCP_KEEPINTVL`, 32767 seconds.
const MAX_KEEPALIVE: Duration = Duration::from_secs(9 * 60 * 60);

impl Check<'_> {
    pub(super) fn cluster(
        &mut self,
        name: &str,
        at: Span,
        cluster: ClusterConfig,
    ) -> Option<ClusterPlan> {
        let has_source = cluster.endpoints_file.is_some() || cluster.replica_set.is_some();
        let beside = beside_replica_set(&cluster);
        let replica_set = cluster.replica_set.and_then(|set| self.replica_set(name, set, beside));
        let listed = if has_source { Listed::Some } else { Listed::All };
        if cluster.tls.is_none() {
            super::endpoints::unencrypted(self.report, cluster.endpoints.as_ref());
        }
        let endpoints = self.endpoints(at, cluster.endpoints, listed);
        let plan = ClusterPlan::new(name, Vec::new());
        let lb_policy = or(cluster.lb_policy, plan.lb_policy);
        let pooling = cluster.pooling.and_then(|it| it.value).unwrap_or_default();
        let keepalive = self.keepalive(cluster.keepalive);
        let health_check =
            cluster.health_check.and_then(|it| self.health_check(name, &pooling, it));
        let starttls = self.cluster_starttls(name, cluster.starttls, cluster.tls.is_some());
        let tls = self.cluster_tls(name, &pooling, cluster.tls);
        let proxy_protocol = self.outgoing_proxy_protocol(name, cluster.proxy_protocol);
        let spare = cluster.spare_connections.as_ref();
        let spare = spare.filter(|it| it.value.is_some_and(|number| number.get() > 0));
        let spare = spare.map(|it| it.at);
        self.spare_with_header(spare, proxy_protocol.is_some());
        let beside = BesidePool { spare, has_header: proxy_protocol.is_some() };
        let has_pool = cluster.pool.is_some();
        let pool = cluster.pool.and_then(|pool| self.pool(name, pool, beside));
        let failover = self.failover(name, cluster.failover, has_pool);
        self.poolings.insert(name.into(), pooling);
        Some(ClusterPlan {
            endpoints_file: cluster
                .endpoints_file
                .and_then(|path| self.file_to_read(path))
                .map(|path| EndpointsFile { path, read: read_endpoints }),
            replica_set,
            zone: self.zone.clone(),
            starttls,
            tls,
            proxy_protocol,
            pool,
            failover,
            lb_policy,
            hash: cluster.hash.map_or_else(HashPlan::default, |hash| self.hash(hash, lb_policy)),
            panic: PanicPlan {
                threshold: given(&cluster.panic_threshold).and_then(|it| it.0.try_into().ok()),
                on_panic: or(cluster.on_panic, plan.panic.on_panic),
            },
            slow_start: cluster.slow_start.and_then(|it| it.value).map(super::slow_start),
            health_check,
            outlier_detection: cluster.outlier_detection.and_then(|it| self.outlier_detection(it)),
            circuit_breaker: self.circuit_breaker(cluster.circuit_breaker),
            connect_timeout: or(cluster.connect_timeout, plan.connect_timeout),
            connect_attempts: number(cluster.connect_attempts, plan.connect_attempts),
            spare_connections: number(cluster.spare_connections, plan.spare_connections),
            tcp_user_timeout: self.user_timeout(cluster.tcp_user_timeout, Some(keepalive.budget())),
            keepalive,
            drain_timeout: or(cluster.drain_timeout, plan.drain_timeout),
            dns: self.dns(cluster.dns),
            endpoints: endpoints?,
            ..plan
        })
    }

    /// Spare connections, where connections begin with a header.
    fn spare_with_header(&mut self, spare: Option<Span>, has_header: bool) {
        let Some(spare) = spare.filter(|_| has_header) else { return };
        let message =
            "a connection that begins with the client's header can't be opened in advance";
        let hint = "leave out `spare_connections`, or `proxy_protocol`";
        self.report.add(spare, message, hint);
    }

    fn endpoints(
        &mut self,
        at: Span,
        written: Option<Spanned<Vec<Spanned<super::EndpointConfig>>>>,
        listed: Listed,
    ) -> Option<Vec<EndpointPlan>> {
        if written.is_none() && listed == Listed::Some {
            return Some(Vec::new());
        }
        let hint = "write where operations go: `endpoints: [host:port]`";
        let written = self.need("endpoints", at, hint, written)?;
        Some(super::endpoints(self.report, written, listed))
    }

    fn hash(&mut self, Spanned { at, value }: Spanned<Hash>, lb_policy: LbPolicy) -> HashPlan {
        let default = HashPlan::default();
        if !lb_policy.picks_by_key() {
            let message = format!("`lb_policy: {}` picks by no hash", lb_policy.as_str());
            let hint = "write `lb_policy: maglev` or `lb_policy: ring_hash`, or leave `hash` out";
            self.report.add(at, message, hint);
        }
        let Some(hash) = value else { return default };
        if let Some(key) = hash.key {
            self.check_hash_key(key);
        }
        HashPlan {
            bounded_load: given(&hash.bounded_load)
                .map_or(default.bounded_load, |bound| bound.and_then(|it| it.0.try_into().ok())),
            ring_size: number(hash.ring_size, default.ring_size),
        }
    }

    fn check_hash_key(&mut self, Spanned { at, value }: Spanned<OneOrMore<String>>) {
        let Some(OneOrMore(words)) = value else { return };
        for (place, word) in words.iter().enumerate() {
            if !KEYS.contains(&word.as_str()) {
                let near = did_you_mean(nearest(word, KEYS.iter().copied()));
                let message = format!("`{word}` is not known when a client connects{near}");
                self.report.add(at, message, format!("what is known: {}", KEYS.join(", ")));
            } else if words.iter().take(place).any(|before| before == word) {
                self.report.add(at, format!("`{word}` is here twice"), "write it once");
            }
        }
    }

    fn circuit_breaker(&mut self, breaker: Option<Spanned<CircuitBreaker>>) -> BreakerPlan {
        let default = BreakerPlan::default();
        let Some(breaker) = breaker.and_then(|it| it.value) else { return default };
        let all = limit(&breaker.max_connections, default.max_connections);
        let each = &breaker.max_connections_per_endpoint;
        let each_at = each.as_ref().map_or(Span::NOWHERE, |it| it.at);
        let each = limit(each, default.max_connections_per_endpoint);
        if let (Some(all), Some(each)) = (all, each)
            && each > all
        {
            let message = format!("one endpoint may have {each} connections, but all only {all}");
            let hint = "make it smaller than `max_connections`, or leave it out";
            self.report.add(each_at, message, hint);
        }
        BreakerPlan {
            max_connections: all,
            max_connections_per_endpoint: each,
            max_pending: number(breaker.max_pending, default.max_pending),
            pending_timeout: or(breaker.pending_timeout, default.pending_timeout),
            max_operations: limit(&breaker.max_operations, default.max_operations),
            retry_percent: number(breaker.retry_percent, default.retry_percent),
            min_retries: number(breaker.min_retries, default.min_retries),
        }
    }

    fn keepalive(&mut self, keepalive: Option<Spanned<Keepalive>>) -> KeepalivePlan {
        let default = KeepalivePlan::default();
        let Some(keepalive) = keepalive.and_then(|it| it.value) else { return default };
        KeepalivePlan {
            idle: self.whole_seconds(keepalive.idle, default.idle),
            interval: self.whole_seconds(keepalive.interval, default.interval),
            probes: number(keepalive.probes, default.probes),
        }
    }

    /// The system counts these times in seconds.
    fn whole_seconds(&mut self, written: Opt<Duration>, default: Duration) -> Duration {
        let Some(Spanned { at, value: Some(time) }) = written else { return default };
        if time.0.subsec_nanos() != 0 || time.0 > MAX_KEEPALIVE {
            let message = format!("`{}` is no keepalive time", duration_text(time.0));
            self.report.add(at, message, "whole seconds, `1s` to `9h`");
        }
        time.0
    }

    /// How long sent bytes may stay unacknowledged.
    pub(super) fn user_timeout(
        &mut self,
        written: Opt<OrOff<Duration>>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        let Some(Spanned { at, value }) = written else { return default };
        let time = value?.0?;
        if time > MAX_USER_TIMEOUT || !time.as_nanos().is_multiple_of(1_000_000) {
            let message = format!("`{}` can't be set as a TCP user timeout", duration_text(time));
            self.report.add(at, message, "whole milliseconds, at most `49d`");
        }
        Some(time)
    }

    /// The minimum and maximum time between two look-ups of a name.
    fn dns(&mut self, dns: Option<Spanned<Dns>>) -> DnsPlan {
        let usual = DnsPlan::default();
        let Some(dns) = dns.and_then(|dns| dns.value) else { return usual };
        let usual = (usual.min_ttl, usual.max_ttl);
        let (min_ttl, max_ttl) =
            self.ordered(("min_ttl", dns.min_ttl), ("max_ttl", dns.max_ttl), usual);
        DnsPlan { min_ttl, max_ttl }
    }

    /// Two durations, the first at most as long as the second. If only one is set, the default of
    /// the other is adapted.
    pub(super) fn ordered(
        &mut self,
        (short_key, short): (&str, Opt<Duration>),
        (long_key, long): (&str, Opt<Duration>),
        (default_short, default_long): (Duration, Duration),
    ) -> (Duration, Duration) {
        let least = given(&short);
        let most = given(&long);
        let least = least.unwrap_or(default_short.min(most.unwrap_or(default_short)));
        let most = most.unwrap_or(default_long.max(least));
        if least > most
            && let Some(short) = short
        {
            let message = format!("`{short_key}` is longer than `{long_key}`");
            self.report.add(short.at, message, format!("give the smaller one to `{short_key}`"));
        }
        (least, most)
    }
}

/// What is written beside the replica set of a cluster, and can't be.
fn beside_replica_set(cluster: &ClusterConfig) -> BesideReplicaSet {
    [
        ("endpoints", cluster.endpoints.as_ref().map(|it| it.at)),
        ("endpoints_file", cluster.endpoints_file.as_ref().map(|it| it.at)),
        ("health_check", cluster.health_check.as_ref().map(|it| it.at)),
        ("lb_policy", picks_otherwise(&cluster.lb_policy)),
    ]
}

/// Where a policy is written that is not the one by which members of a replica set are picked.
fn picks_otherwise(written: &Opt<LbPolicy>) -> Option<Span> {
    let at = written.as_ref()?.at;
    given(written).filter(|it| *it != LbPolicy::LeastRequest).map(|_| at)
}

fn limit(written: &Opt<OrOff<Count>>, default: Option<usize>) -> Option<usize> {
    given(written).map_or(default, |limit| limit.map(|limit| limit.0))
}

/// Parses the text of a file of endpoints.
fn read_endpoints(text: &str, path: &Path) -> Result<Vec<EndpointPlan>, String> {
    crate::endpoints(text, path).map_err(|errors| errors.to_string())
}
