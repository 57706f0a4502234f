//! The registry: one row for each protocol. Only this file names a protocol's crate.

use super::{
    Pooling, ProbePlan, UnfitCluster,
    entry::{ListenerContext, ProtocolEntry, ProtocolSettings, UncheckedProbe},
    relayed::{RelayedParts, RelayedSettings},
    row::{ProtocolParts, Row, WrittenProbe, to_json},
    terminated::{TerminatedParts, TerminatedSettings},
};
use cluster::MirrorPlan;
use operation::{AttributeValue, Codec, HandshakeConfig, MonitorConfig, Protocol};
use std::{collections::BTreeMap, sync::Arc};
use tollgate_http::{RouteSettings, Routes, ServerPlan, dry_run::DryRequest, normalize};
use values::{Diagnostic, Node};

/// Every protocol that listeners can have.
pub static PROTOCOLS: &[&dyn ProtocolEntry] =
    &[&Row::<Tcp>::new(), &Row::<Mongo>::new(), &Row::<Http>::new(), &Row::<Grpc>::new()];

/// Connecting is enough.
impl Default for ProbePlan {
    fn default() -> Self {
        tcp_probe(tcp::Exchange::default())
    }
}

/// Raw TCP.
#[derive(Debug)]
struct Tcp;

impl ProtocolParts for Tcp {
    const CRATE: &'static str = "tcp";
    const SUMMARY: &'static str = "Any bytes: one operation a connection.";
    const PROBE_SUMMARY: &'static str = "Connect, and exchange bytes.";

    type Settings = tcp::Settings;
    type Probe = tcp::ProbeSettings;

    fn describe() -> &'static Protocol {
        const { &tcp::Tcp::PROTOCOL }
    }

    fn written(settings: tcp::Settings) -> Arc<dyn ProtocolSettings> {
        Arc::new(RelayedSettings::<Self>(settings))
    }

    fn probe(
        settings: tcp::ProbeSettings,
        _: &str,
        _: &Pooling,
    ) -> Result<ProbePlan, Vec<Diagnostic>> {
        settings.exchange().map(tcp_probe)
    }

    fn fallback_probe(_: &tcp::Settings) -> Arc<dyn UncheckedProbe> {
        Arc::new(WrittenProbe::<Self>(tcp::ProbeSettings::default()))
    }

    fn no_operation(glob: &str) -> Option<Diagnostic> {
        tcp::no_operation(glob)
    }
}

fn tcp_probe(exchange: tcp::Exchange) -> ProbePlan {
    ProbePlan::new(Tcp::describe().name, exchange.to_json(), move || {
        Box::new(tcp::TcpProbe::new(exchange.clone()))
    })
}

impl RelayedParts for Tcp {
    const CLIENT_SPEAKS_FIRST: bool = false;

    type Codec = tcp::Tcp;

    fn shared(_: &tcp::Settings, _: ListenerContext<'_>) -> Result<(), Vec<Diagnostic>> {
        Ok(())
    }
}

/// MongoDB.
#[derive(Debug)]
struct Mongo;

impl ProtocolParts for Mongo {
    const CRATE: &'static str = "mongo";
    const SUMMARY: &'static str = "MongoDB's wire protocol.";
    const PROBE_SUMMARY: &'static str = "`hello`.";

    type Settings = mongo::Settings;
    type Probe = mongo::ProbeSettings;

    fn describe() -> &'static Protocol {
        const { &mongo::Mongo::PROTOCOL }
    }

    fn written(settings: mongo::Settings) -> Arc<dyn ProtocolSettings> {
        Arc::new(RelayedSettings::<Self>(settings))
    }

    fn probe(
        settings: mongo::ProbeSettings,
        _: &str,
        _: &Pooling,
    ) -> Result<ProbePlan, Vec<Diagnostic>> {
        let json = to_json(&settings);
        let writable = settings.writable;
        let check = Arc::new(mongo::MongoProbeContext::new(settings)?);
        let begin = move || Box::new(mongo::MongoProbe::new(Arc::clone(&check))) as _;
        let plan = ProbePlan::new(Self::describe().name, json, begin);
        Ok(plan.reusing_connections().of_the_primary(writable))
    }

    fn fallback_probe(_: &mongo::Settings) -> Arc<dyn UncheckedProbe> {
        Arc::new(WrittenProbe::<Self>(mongo::ProbeSettings::default()))
    }

    fn no_operation(glob: &str) -> Option<Diagnostic> {
        mongo::no_operation(glob)
    }
}

impl RelayedParts for Mongo {
    const CLIENT_SPEAKS_FIRST: bool = true;
    const SEVERAL_SERVERS: Option<&str> = Some(mongo::SEVERAL_SERVERS);
    const POOLS_OPERATIONS: bool = true;

    type Codec = mongo::Mongo;

    fn shared(
        settings: &mongo::Settings,
        context: ListenerContext<'_>,
    ) -> Result<mongo::MongoListener, Vec<Diagnostic>> {
        settings.check(context.pooled)?;
        let settings = settings.clone();
        let listener = match context.pooled {
            true => mongo::MongoListener::pooled(settings).logging_in()?,
            false => mongo::MongoListener::new(settings),
        };
        let listener = listener.replaying(context.replay);
        Ok(if context.follows_members { listener.following_members() } else { listener })
    }

    fn pool_handshake(shared: &Arc<mongo::MongoListener>) -> Option<Arc<dyn HandshakeConfig>> {
        Some(Arc::new(mongo::PoolHandshake(Arc::clone(shared))))
    }

    fn mirror(settings: &mongo::Settings) -> Option<MirrorPlan> {
        let mirror = settings.mirror.as_ref()?;
        let (share, compare) = (mirror.share(), mirror.compare.unwrap_or(false));
        Some(MirrorPlan { cluster: mirror.to.as_str().into(), share, compare })
    }

    fn mirror_handshake() -> Option<Arc<dyn HandshakeConfig>> {
        Some(Arc::new(mongo::PoolHandshake::of_mirror()))
    }

    fn member_monitors(replica_set: &str) -> Option<Arc<dyn MonitorConfig>> {
        Some(Arc::new(mongo::MemberMonitors::new(replica_set)))
    }

    fn has_query_shapes(settings: &mongo::Settings) -> bool {
        settings.query_shapes
    }

    fn members(settings: &mongo::Settings) -> Vec<String> {
        settings.members.keys().cloned().collect()
    }

    fn advertised(settings: &mongo::Settings) -> Vec<String> {
        settings.advertise.iter().chain(settings.members.values()).cloned().collect()
    }
}

/// HTTP, either version.
#[derive(Debug)]
struct Http;

impl ProtocolParts for Http {
    const CRATE: &'static str = "tollgate_http";
    const SUMMARY: &'static str = "HTTP/1.1 and HTTP/2.";
    const PROBE_SUMMARY: &'static str = "A GET.";
    const HAS_TARGETS: bool = true;

    type Settings = tollgate_http::Settings;
    type Probe = tollgate_http::probe::CheckSettings;

    fn describe() -> &'static Protocol {
        const { &tollgate_http::PROTOCOL }
    }

    fn written(settings: tollgate_http::Settings) -> Arc<dyn ProtocolSettings> {
        Arc::new(TerminatedSettings::<Self>(settings))
    }

    fn probe(
        settings: tollgate_http::probe::CheckSettings,
        cluster: &str,
        pooling: &Pooling,
    ) -> Result<ProbePlan, Vec<Diagnostic>> {
        let json = to_json(&settings);
        let check = tollgate_http::probe::HttpCheck::new(settings, pooling.version(), cluster)?;
        let check = Arc::new(check);
        let begin = move || Box::new(tollgate_http::probe::HttpProbe::new(Arc::clone(&check))) as _;
        Ok(ProbePlan::new(Self::describe().name, json, begin))
    }

    fn fallback_probe(_: &tollgate_http::Settings) -> Arc<dyn UncheckedProbe> {
        Arc::new(WrittenProbe::<Self>(tollgate_http::probe::CheckSettings::fallback()))
    }

    fn no_operation(glob: &str) -> Option<Diagnostic> {
        tollgate_http::no_operation(glob)
    }

    /// Upgrades are allowed: WebSockets should work without a file.
    fn without_file(cluster: &str) -> Option<Node> {
        let route = [
            ("name", Node::text("default")),
            ("cluster", Node::text(cluster)),
            ("upgrade", Node::word("true")),
        ];
        Some(Node::map([("routes", Node::list([Node::map(route)]))]))
    }

    fn normal_glob(attribute: &str, glob: &str) -> Option<String> {
        normalize::glob(attribute, glob)
    }

    fn attribute_value<'a>(attribute: &str, text: &'a str) -> AttributeValue<'a> {
        normalize::fact(attribute, text)
    }
}

impl TerminatedParts for Http {
    type Dialect = tollgate_http::PlainHttp;

    fn route_settings(settings: &tollgate_http::Settings) -> &[RouteSettings] {
        &settings.routes
    }

    fn build(
        settings: &tollgate_http::Settings,
        cluster: Option<&str>,
    ) -> Result<(Arc<tollgate_http::PlainHttp>, Arc<ServerPlan>), Vec<Diagnostic>> {
        let listener = tollgate_http::HttpListener::new(settings.clone(), cluster)?;
        Ok((listener.http, listener.plan))
    }

    fn routes(dialect: &tollgate_http::PlainHttp) -> &Routes {
        &dialect.routes
    }

    fn unfit_clusters(
        settings: &tollgate_http::Settings,
        _: Option<&str>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
    ) -> Vec<UnfitCluster> {
        settings.unfit_clusters(pooling)
    }

    fn needs_http2(_: &tollgate_http::Settings) -> bool {
        false
    }
}

/// gRPC.
#[derive(Debug)]
struct Grpc;

impl ProtocolParts for Grpc {
    const CRATE: &'static str = "grpc";
    const SUMMARY: &'static str = "gRPC.";
    const PROBE_SUMMARY: &'static str = "`grpc.health.v1.Health/Check`.";
    const HAS_TARGETS: bool = true;

    type Settings = grpc::Settings;
    type Probe = grpc::probe::HealthCheckSettings;

    fn describe() -> &'static Protocol {
        const { &grpc::Grpc::PROTOCOL }
    }

    fn written(settings: grpc::Settings) -> Arc<dyn ProtocolSettings> {
        Arc::new(TerminatedSettings::<Self>(settings))
    }

    fn probe(
        settings: grpc::probe::HealthCheckSettings,
        cluster: &str,
        _: &Pooling,
    ) -> Result<ProbePlan, Vec<Diagnostic>> {
        let json = to_json(&settings);
        let check = Arc::new(grpc::probe::HealthCheck::new(settings, cluster));
        let begin = move || Box::new(grpc::probe::GrpcProbe::new(Arc::clone(&check))) as _;
        Ok(ProbePlan::new(Self::describe().name, json, begin))
    }

    fn fallback_probe(settings: &grpc::Settings) -> Arc<dyn UncheckedProbe> {
        if settings.has_plain_services() {
            return Http::fallback_probe(&tollgate_http::Settings::default());
        }
        Arc::new(WrittenProbe::<Self>(grpc::probe::HealthCheckSettings::lenient()))
    }

    fn no_operation(glob: &str) -> Option<Diagnostic> {
        grpc::no_operation(glob)
    }

    fn normal_glob(attribute: &str, glob: &str) -> Option<String> {
        normalize::glob(attribute, glob)
    }

    fn attribute_value<'a>(attribute: &str, text: &'a str) -> AttributeValue<'a> {
        normalize::fact(attribute, text)
    }
}

impl TerminatedParts for Grpc {
    type Dialect = grpc::Grpc;

    fn route_settings(settings: &grpc::Settings) -> &[RouteSettings] {
        &settings.routes
    }

    fn build(
        settings: &grpc::Settings,
        cluster: Option<&str>,
    ) -> Result<(Arc<grpc::Grpc>, Arc<ServerPlan>), Vec<Diagnostic>> {
        let listener = grpc::GrpcListener::new(settings.clone(), cluster)?;
        Ok((listener.grpc, listener.plan))
    }

    fn routes(dialect: &grpc::Grpc) -> &Routes {
        dialect.routes()
    }

    fn unfit_clusters(
        settings: &grpc::Settings,
        own: Option<&str>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
    ) -> Vec<UnfitCluster> {
        settings.unfit_clusters(own, pooling)
    }

    fn needs_http2(settings: &grpc::Settings) -> bool {
        !settings.has_plain_services()
    }

    fn adapt(request: &mut DryRequest) {
        if !request.headers.iter().any(|(name, _)| name == "content-type") {
            request.headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
            request.http2 = true;
        }
    }
}
