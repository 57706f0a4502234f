//! The traits of the registry: a protocol's row, its settings as written, and its checked settings.

use super::{DryRunReport, Pooling, Pools, ProbePlan, Server, Serving, UnfitCluster};
use cluster::{MirrorPlan, PreconnectPool};
use erased_serde::Deserializer;
use net::Stream;
use operation::{
    AttributeValue, Close, HandshakeConfig, MonitorConfig, Protocol, RejectMode, RejectionRef,
    ReplayConfig,
};
use relay::{Buffers, RelayUpstream};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;
use session::Session;
use std::{
    collections::BTreeMap, fmt::Debug, future::Future, net::IpAddr, pin::Pin, rc::Rc, sync::Arc,
};
use values::{Diagnostic, Node};

/// A schema with its name and a line about it.
pub struct NamedSchema {
    /// The protocol's name.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// The schema.
    pub schema: Schema,
}

/// A protocol, as the registry knows it.
pub trait ProtocolEntry: Debug + Sync {
    /// Its name, its attributes and what it counts.
    fn describe(&self) -> &'static Protocol;

    /// The name of its crate, with which the targets of its log messages begin.
    fn crate_name(&self) -> &'static str;

    /// The schema of a listener's settings.
    fn schema(&self, generator: &mut SchemaGenerator) -> NamedSchema;

    /// The schema of a health check's settings.
    fn probe_schema(&self, generator: &mut SchemaGenerator) -> NamedSchema;

    /// Reads a listener's settings.
    ///
    /// # Errors
    /// The first error; the deserializer may report more.
    fn read(
        &self,
        from: &mut dyn Deserializer<'_>,
    ) -> Result<Arc<dyn ProtocolSettings>, erased_serde::Error>;

    /// Reads a health check's settings.
    ///
    /// # Errors
    /// The first error; the deserializer may report more.
    fn read_probe(
        &self,
        from: &mut dyn Deserializer<'_>,
    ) -> Result<Arc<dyn UncheckedProbe>, erased_serde::Error>;

    /// The settings of a listener without any.
    fn default_settings(&self) -> Arc<dyn ProtocolSettings>;

    /// The settings of a listener that no file describes; `None` if there are none, and `cluster` is
    /// the listener's own.
    fn without_file(&self, cluster: &str) -> Option<Node>;

    /// Why no operation has a name that this glob matches; `None` if one can.
    fn no_operation(&self, glob: &str) -> Option<Diagnostic>;

    /// A policy's glob in the normal form of the attribute's values; `None` if it is in that form.
    fn normal_glob(&self, attribute: &str, glob: &str) -> Option<String>;

    /// The value that policies see for an attribute with this text.
    fn attribute_value<'a>(&self, attribute: &str, text: &'a str) -> AttributeValue<'a>;

    /// Whether operations are requests with a target.
    fn has_targets(&self) -> bool;
}

/// A listener's protocol settings as written.
pub trait ProtocolSettings: Debug + Send + Sync {
    /// The protocol.
    fn describe(&self) -> &'static Protocol;

    /// Whether the settings say where every operation goes, or how it is answered.
    fn has_routes(&self) -> bool {
        false
    }

    /// The names of the routes, which are the resources of operations; `None` if operations may have
    /// any resource. What goes to the listener's own cluster is the route `default`.
    fn route_names(&self, has_own_cluster: bool) -> Option<Vec<Arc<str>>> {
        let _ = has_own_cluster;
        None
    }

    /// Mistakes in the order of the routes. It is not known which requests the routes that `unsure`
    /// returns `true` for match.
    fn unreachable_routes(&self, unsure: &dyn Fn(usize) -> bool) -> Vec<Diagnostic> {
        let _ = unsure;
        Vec::new()
    }

    /// The clusters that the settings name, each with its path of keys.
    fn clusters(&self) -> Vec<(Vec<String>, String)> {
        Vec::new()
    }

    /// The clusters that can't do what is asked of them; `own` is the listener's `cluster`.
    fn unfit_clusters(
        &self,
        own: Option<&str>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
    ) -> Vec<UnfitCluster> {
        let _ = (own, pooling);
        Vec::new()
    }

    /// The application protocols (ALPN) that are offered to the endpoints of a cluster, best first. None:
    /// the protocol has no names in TLS.
    fn upstream_alpn(&self, pooling: &Pooling) -> Vec<Vec<u8>> {
        let _ = pooling;
        Vec::new()
    }

    /// Whether a connection to an endpoint serves several clients.
    fn shares_connections(&self) -> bool {
        false
    }

    /// Whether operations of several clients can share a connection, one after the other.
    fn pools_operations(&self) -> bool {
        false
    }

    /// Follows the members of the replica set with this name; `None`: the protocol has no replica sets.
    fn member_monitors(&self, replica_set: &str) -> Option<Arc<dyn MonitorConfig>> {
        let _ = replica_set;
        None
    }

    /// The health check of a service that speaks this, unless another one is configured.
    fn fallback_probe(&self) -> Arc<dyn UncheckedProbe>;

    /// The checked settings.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    fn protocol(
        &self,
        context: ListenerContext<'_>,
    ) -> Result<Arc<dyn ListenerProtocol>, Vec<Diagnostic>>;
}

/// What a protocol's settings are checked with.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenerContext<'a> {
    /// The cluster of operations without a route.
    pub cluster: Option<&'a str>,
    /// Whether operations share the connections of a pool.
    pub pooled: bool,
    /// Whether the cluster follows the members of a replica set.
    pub follows_members: bool,
    /// Which requests are sent again when their endpoint fails.
    pub replay: ReplayConfig,
}

/// A health check's settings as written.
pub trait UncheckedProbe: Debug + Send + Sync {
    /// The protocol's name.
    fn name(&self) -> &'static str;

    /// The checked settings, for this cluster.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    fn plan(&self, cluster: &str, pooling: &Pooling) -> Result<ProbePlan, Vec<Diagnostic>>;
}

/// The protocol of a listener, with what all its connections share.
pub trait ListenerProtocol: Debug + Send + Sync {
    /// Its name, its attributes and what it counts.
    fn describe(&self) -> &'static Protocol;

    /// Its name in the config, in logs and in metrics.
    fn name(&self) -> &'static str {
        self.describe().name
    }

    /// The clusters that it selects for operations.
    fn clusters(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The names of its routes, which are the resources of its operations; `None` if operations may
    /// have any resource.
    fn routes(&self) -> Option<Vec<Arc<str>>> {
        None
    }

    /// What to do about several servers behind one listener, if what a client did before holds it
    /// to the server that did it.
    fn several_servers(&self) -> Option<&'static str> {
        None
    }

    /// The replica set members whose addresses are rewritten for clients.
    fn members(&self) -> Vec<String> {
        Vec::new()
    }

    /// The addresses that the settings give to clients in replies, `host:port`.
    fn advertised(&self) -> Vec<String> {
        Vec::new()
    }

    /// Its settings in the shape of the config.
    fn to_json(&self) -> Value;

    /// The application protocols (ALPN) that clients may agree upon, best first. None: the protocol has
    /// no names in TLS.
    fn alpn(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Whether services get the client's certificate in headers.
    fn forwards_client_certificates(&self) -> bool {
        false
    }

    /// Whether the client always sends the first byte of a connection. If not, that depends on the
    /// service.
    fn client_speaks_first(&self) -> bool {
        true
    }

    /// What the listener does with a request; `None` if the protocol has no requests with a target.
    /// The error is the reason why the request would not be forwarded.
    fn dry_run(&self, request: &DryRequest<'_>) -> Option<Result<DryRunReport, String>> {
        let _ = request;
        None
    }

    /// Whether operations are counted by the shape of their query.
    fn has_query_shapes(&self) -> bool {
        false
    }

    /// What serves the listener's clients on this worker, if the protocol terminates both
    /// connections.
    fn server(
        &self,
        clusters: &BTreeMap<Arc<str>, Rc<PreconnectPool>>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
        pools: &Pools,
    ) -> Option<Rc<Server>> {
        let _ = (clusters, pooling, pools);
        None
    }

    /// What makes the connections of a pool ready for operations; `None`: nothing.
    fn pool_handshake(&self) -> Option<Arc<dyn HandshakeConfig>> {
        None
    }

    /// Which reads a second cluster gets too, where operations share connections.
    fn mirror(&self) -> Option<MirrorPlan> {
        None
    }

    /// What makes the connections to that cluster ready; `None`: nothing.
    fn mirror_handshake(&self) -> Option<Arc<dyn HandshakeConfig>> {
        None
    }

    /// Serves a connection until it ends, if the protocol has no server.
    fn serve(
        &self,
        session: Rc<dyn Session>,
        buffers: &Rc<Buffers>,
        client: Stream,
        upstream: RelayUpstream,
    ) -> Serving;

    /// Rejects a client's connection that has no upstream, if the protocol has no server.
    fn reject<'a>(
        &'a self,
        session: &'a dyn Session,
        client: &'a mut Stream,
        end: (Close, RejectMode),
        why: &'a RejectionRef<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + 'a>>;
}

/// A request of [`ListenerProtocol::dry_run`].
#[derive(Clone, Debug)]
pub struct DryRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The target: a path, or a whole URL.
    pub target: &'a str,
    /// Headers, by name.
    pub headers: Vec<(String, String)>,
    /// The client's address; `None`: this machine.
    pub peer: Option<IpAddr>,
}
