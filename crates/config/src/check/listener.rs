//! Listeners: addresses, protocols, the clusters that they lead to, and time limits.

use super::{Check, given, number, or};
use crate::{
    file::Listener,
    listener_loop::{ListenerLoop, listener_loops},
    plan::{ConnectionLimits, ListenerPlan, UpstreamConnectMode},
};
use cluster::{ClusterPlan, FailoverPlan};
use protocols::{ListenerContext, ListenerProtocol, ProtocolSettings, UnfitCluster};
use session::Timeouts;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use values::{
    NamedMap, OrOff, Size, Span, Text, recording,
    spanned::{Opt, Spanned},
};

impl Check<'_> {
    pub(super) fn listeners(
        &mut self,
        Spanned { at, value }: Spanned<NamedMap<Listener>>,
        clusters: Option<&[String]>,
        max_connections: usize,
    ) -> (Vec<Arc<ListenerPlan>>, BTreeMap<Arc<str>, ConnectionLimits>) {
        let Some(NamedMap(entries)) = value else { return Default::default() };
        if entries.is_empty() {
            let hint = "name one: `db: { address: …, protocol: …, cluster: … }`";
            self.report.add(at, "there is no listener", hint);
        }
        let (mut plans, mut wanted) = (Vec::new(), Vec::new());
        for (name, listener) in entries {
            let at = name.at;
            let name = self.name("listener", name);
            let Some(mut listener) = listener.value else { continue };
            let max = number(listener.max_connections.take(), max_connections);
            wanted.push((max, listener.reserved_connections.take()));
            let (plan, files) = recording(|| self.listener(&name, at, listener, clusters));
            let source = self.source(&["listeners", &name], &ConnectionLimits::KEYS, files);
            plans.push(plan.map(|plan| Arc::new(ListenerPlan { source, ..plan })));
        }
        let limits = self.connection_limits(wanted, max_connections);
        let named = plans.iter().zip(limits);
        let limits = named.filter_map(|(plan, it)| Some((Arc::clone(&plan.as_ref()?.name), it)));
        let limits = limits.collect();
        (plans.into_iter().flatten().collect(), limits)
    }

    /// The plan of a listener. Everything is checked before an invalid part ends it.
    fn listener(
        &mut self,
        name: &str,
        at: Span,
        mut listener: Listener,
        clusters: Option<&[String]>,
    ) -> Option<ListenerPlan> {
        let address = self.listen_address(name, at, listener.address.take());
        let hint = format!("write what clients speak: {}", protocols::NAMES.join(" or "));
        let protocol = self.need("protocol", at, &hint, listener.protocol.take());
        if let Some(rest) = protocol.as_ref().and_then(|it| it.rest.as_ref()) {
            self.rest(name, &**rest, clusters);
        }
        let invalid = protocol.as_ref().is_some_and(|it| it.value.is_none());
        let settings = protocol.and_then(|it| it.value);
        let settings = settings.as_deref();
        let sni = self.sni(name, settings, &listener, clusters);
        let optional =
            invalid || !sni.is_empty() || settings.is_some_and(ProtocolSettings::has_routes);
        let hint = "write the name of one of the `clusters`";
        let cluster = match optional {
            true => listener.cluster.take(),
            false => self.need("cluster", at, hint, listener.cluster.take()),
        };
        if let Some(settings) = settings {
            self.listener_clusters(name, at, settings, cluster.as_ref(), clusters);
        }
        if let Some(cluster) = &cluster {
            self.refers_to(cluster, clusters);
        }
        let is_written = cluster.is_some();
        let cluster = cluster.and_then(|it| it.value);
        let pooled = self.listener_is_pooled(name, cluster.as_deref(), sni.values().cloned());
        let follows_members = cluster.as_ref().is_some_and(|it| self.followed.contains(&**it));
        let failover = cluster.as_ref().and_then(|it| self.failovers.get(&**it));
        let replay = failover.map(FailoverPlan::replay_config).unwrap_or_default();
        let context =
            ListenerContext { cluster: cluster.as_deref(), pooled, follows_members, replay };
        let protocol = settings.and_then(|it| self.protocol(name, it, context));
        if is_written || !optional {
            cluster.as_ref()?;
        }
        let plan = ListenerPlan::new(name, address?, protocol?, "");
        let proxy_protocol = self.proxy_protocol(name, listener.proxy_protocol.take());
        let starttls = self.starttls(&*plan.protocol, &listener);
        let tls = self.listener_tls(name, &*plan.protocol, starttls, listener.tls.take());
        let plan = self.limits(plan, &listener);
        let upstream_connect_mode =
            self.connect_mode(&*plan.protocol, listener.upstream_connect_mode);
        let max_held_bytes = or(listener.max_held_bytes, Size(plan.max_held_bytes as u64)).bytes();
        Some(ListenerPlan {
            upstream_connect_mode,
            cluster: cluster.map(Into::into),
            tls,
            starttls,
            sni,
            proxy_protocol,
            max_held_bytes: max_held_bytes.try_into().unwrap_or(usize::MAX),
            on_reload: or(listener.on_reload, plan.on_reload),
            on_violation: or(listener.on_violation, plan.on_violation),
            ..plan
        })
    }

    fn listen_address(
        &mut self,
        name: &str,
        at: Span,
        written: Opt<SocketAddr>,
    ) -> Option<SocketAddr> {
        let hint = "write where clients connect: `address: 127.0.0.1:27017`";
        let Spanned { at, value } = self.need("address", at, hint, written)?;
        let Text(address) = value?;
        self.take(address, format!("the listener `{name}`"), at);
        Some(address)
    }

    /// Reports clusters that a protocol's settings name and that do not exist, and clusters that it
    /// can't use. `own` is the listener's `cluster`.
    fn listener_clusters(
        &mut self,
        name: &str,
        at: Span,
        settings: &dyn ProtocolSettings,
        own: Option<&Spanned<String>>,
        clusters: Option<&[String]>,
    ) {
        for (path, cluster) in settings.clusters() {
            let at = self.in_protocol(name, &path);
            let is_known = clusters.is_some_and(|known| known.contains(&cluster));
            if settings.pools_operations() && is_known && !self.pooled.contains(&cluster) {
                let message = format!("`{cluster}` gets single operations, and has no `pool`");
                self.report.add(at, message, "add `pool: {}` to that cluster");
            }
            self.refers_to(&Spanned { at, value: Some(cluster) }, clusters);
        }
        let own_name = own.and_then(|it| it.value.as_deref());
        for unfit in settings.unfit_clusters(own_name, &self.poolings) {
            let UnfitCluster { path, message, hint } = unfit;
            let own_at = own.map_or(at, |it| it.at);
            let at = path.map_or(own_at, |path| self.in_protocol(name, &path));
            self.report.add(at, message, hint);
        }
    }

    /// The timeouts of a listener.
    fn limits(&mut self, plan: ListenerPlan, listener: &Listener) -> ListenerPlan {
        let default = default_user_timeout(plan.tcp_user_timeout, &listener.write_timeout);
        let tcp_user_timeout = self.user_timeout(listener.tcp_user_timeout.clone(), default);
        let usual = &plan.timeouts;
        let timeouts = Timeouts {
            idle: given(&listener.idle_timeout).unwrap_or(usual.idle),
            max_duration: given(&listener.max_connection_duration).unwrap_or(usual.max_duration),
            first_byte: given(&listener.first_byte_timeout).unwrap_or(usual.first_byte),
            handshake: given(&listener.handshake_timeout).unwrap_or(usual.handshake),
            message: given(&listener.message_timeout).unwrap_or(usual.message),
            half_close: given(&listener.half_close_timeout).unwrap_or(usual.half_close),
            write: given(&listener.write_timeout).unwrap_or(usual.write),
        };
        ListenerPlan { tcp_user_timeout, timeouts, ..plan }
    }

    /// When a listener connects to its upstream, if the service may speak first.
    fn connect_mode(
        &mut self,
        protocol: &dyn ListenerProtocol,
        written: Opt<UpstreamConnectMode>,
    ) -> Option<UpstreamConnectMode> {
        if !protocol.client_speaks_first() {
            return Some(or(written, UpstreamConnectMode::Immediate));
        }
        if let Some(Spanned { at, .. }) = written {
            let message =
                format!("a `{}` listener has no `upstream_connect_mode`", protocol.name());
            let hint = "leave it out: its clients send the first byte, and it is waited for";
            self.report.add(at, message, hint);
        }
        None
    }

    /// The span of a path in a listener's protocol.
    pub(super) fn in_protocol(&self, listener: &str, path: &[String]) -> Span {
        let keys = ["listeners", listener, "protocol"].into_iter();
        let place: Vec<_> = keys.chain(path.iter().map(String::as_str)).collect();
        self.tree.place(&place)
    }

    fn protocol(
        &mut self,
        listener: &str,
        written: &dyn ProtocolSettings,
        context: ListenerContext<'_>,
    ) -> Option<Arc<dyn ListenerProtocol>> {
        match written.protocol(context) {
            Ok(protocol) => Some(protocol),
            Err(errors) => {
                for error in errors {
                    self.report.add_diagnostic(self.in_protocol(listener, &error.path), error);
                }
                None
            }
        }
    }

    /// Reports listeners that always lead back to themselves.
    pub(super) fn listener_loops(
        &mut self,
        listeners: &[Arc<ListenerPlan>],
        clusters: &[Arc<ClusterPlan>],
    ) {
        for found in
            listener_loops(listeners, clusters).into_iter().filter(|found| found.unconditional)
        {
            let ListenerLoop { cluster, endpoint, .. } = &found;
            let at = ["clusters", cluster, "endpoints", &endpoint.to_string()];
            let at = self.tree.place(&at);
            let hint = "name where the service is; on this machine it needs a port of its own";
            self.report.add(at, found.to_string(), hint);
        }
    }

    /// Reserves an address, unless it is in use.
    pub(super) fn take(&mut self, address: SocketAddr, who: String, at: Span) {
        if let Some((other, owner)) = self.taken.iter().find(|(other, _)| overlap(*other, address))
        {
            let message = format!("{who} can't listen on {address}: {owner} listens on {other}");
            self.report.add(at, message, "give one of them another port, or another address");
        }
        self.taken.push((address, who));
    }
}

/// Whether two sockets can't both listen. `[::]` covers IPv4 too, as in Linux.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| {
        a.ip() == b.ip() || a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4())
    };
    a.port() == b.port() && a.port() != 0 && (covers(a, b) || covers(b, a))
}

/// The default of `tcp_user_timeout`: at least a set `write_timeout`, and off with it, since a peer
/// with a closed window acknowledges nothing.
fn default_user_timeout(usual: Option<Duration>, write: &Opt<OrOff<Duration>>) -> Option<Duration> {
    match (given(write), usual) {
        (Some(write), Some(usual)) => write.map(|write| write.max(usual)),
        _ => usual,
    }
}
