//! Connections that operations share.

use super::{Check, given, number, or};
use crate::file::PoolConfig;
use cluster::PoolPlan;
use protocols::{PROTOCOLS, Pooling, ProtocolSettings};
use std::sync::Arc;
use values::{Span, did_you_mean, nearest, spanned::Spanned};

/// What is written beside `pool`.
pub(super) struct BesidePool {
    /// Where `spare_connections` is, if it is more than 0.
    pub(super) spare: Option<Span>,
    /// Whether connections begin with a PROXY header.
    pub(super) has_header: bool,
}

/// The protocols whose operations can share connections.
fn poolable() -> String {
    let fit = PROTOCOLS.iter().filter(|entry| entry.default_settings().pools_operations());
    fit.map(|entry| entry.describe().name).collect::<Vec<_>>().join(", ")
}

impl Check<'_> {
    /// The pool of a cluster.
    pub(super) fn pool(
        &mut self,
        cluster: &str,
        Spanned { at, value }: Spanned<PoolConfig>,
        beside: BesidePool,
    ) -> Option<PoolPlan> {
        let users = self.cluster_protocols.get(cluster).into_iter().flatten();
        let unfit = users.map(|user| &**user).find(|user| !user.pools_operations());
        if let Some(name) = unfit.map(|user| user.describe().name) {
            let shares = unfit.is_some_and(ProtocolSettings::shares_connections);
            let (message, hint) = if shares {
                let message = format!("requests of `{name}` share connections without a `pool`");
                (message, format!("leave it out: `{}` has their settings", Pooling::KEY))
            } else {
                let message = format!("`{name}` has no operations that could share a connection");
                (message, format!("leave `pool` out; protocols that can use one: {}", poolable()))
            };
            self.report.add(at, message, hint);
        }
        if beside.has_header {
            let message =
                "connections of a `pool` serve several clients, and a PROXY header names one";
            self.report.add(at, message, "leave out the one or the other");
        }
        if let Some(spare) = beside.spare {
            let message = "the connections of a `pool` are opened in advance by `min_pool_size`";
            self.report.add(spare, message, "leave `spare_connections` out");
        }
        self.pooled.insert(cluster.into());
        let pool = value?;
        let usual = PoolPlan::default();
        let most = number(pool.max_pool_size, usual.max_pool_size);
        let fewest_at = pool.min_pool_size.as_ref().map_or(Span::NOWHERE, |it| it.at);
        let fewest = number(pool.min_pool_size, usual.min_pool_size);
        if fewest > most {
            let message =
                format!("{fewest} connections are kept open, but there are at most {most}");
            self.report.add(fewest_at, message, "make it no larger than `max_pool_size`");
        }
        Some(PoolPlan {
            max_pool_size: most,
            min_pool_size: fewest,
            max_idle_time: or(pool.max_idle_time, usual.max_idle_time),
            max_lifetime: given(&pool.max_lifetime).map_or(usual.max_lifetime, |it| it),
            max_connecting: number(pool.max_connecting, usual.max_connecting),
            max_awaiting: number(pool.max_awaiting, usual.max_awaiting),
            fair_by: pool.fair_by.and_then(|it| self.fair_by(cluster, it)),
            by_app: pool.by_app.and_then(|it| it.value).unwrap_or(usual.by_app),
            wait_queue_timeout: or(pool.wait_queue_timeout, usual.wait_queue_timeout),
            wait_queue_size: number(pool.wait_queue_size, usual.wait_queue_size),
        })
    }

    /// The attribute by whose values operations take turns.
    fn fair_by(&mut self, cluster: &str, written: Spanned<String>) -> Option<Arc<str>> {
        let name = written.value.filter(|name| name != PoolPlan::BY_CONNECTION)?;
        let users = self.cluster_protocols.get(cluster).into_iter().flatten();
        let of_users = users.flat_map(|user| user.describe().attributes.iter().copied());
        let known: Vec<&str> = of_users.chain(["peer", PoolPlan::BY_CONNECTION]).collect();
        if !known.contains(&name.as_str()) {
            let near = did_you_mean(nearest(&name, known.iter().copied()));
            let message = format!("`{name}` is no attribute of the cluster's operations{near}");
            let hint = "write `connection`, `peer`, `app` or `user`";
            self.report.add(written.at, message, hint);
        }
        Some(name.into())
    }

    /// Whether the operations of a listener share connections. A listener that chooses clusters by name
    /// can't have one with a pool.
    pub(super) fn listener_is_pooled(
        &mut self,
        name: &str,
        own: Option<&str>,
        sni: impl IntoIterator<Item = Arc<str>>,
    ) -> bool {
        for cluster in sni {
            if self.pooled.contains(&*cluster) {
                let at = self.tree.place(&["listeners", name, "sni"]);
                let message = format!("`{cluster}` has a `pool`, and is chosen by the name of TLS");
                let hint = "give it a listener of its own, or leave its `pool` out";
                self.report.add(at, message, hint);
            }
        }
        own.is_some_and(|cluster| self.pooled.contains(cluster))
    }
}
