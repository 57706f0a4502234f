//! Protocols over HTTP: a server terminates the client's connection and the upstream one.

use super::{
    Serving,
    entry::{DryRequest, ListenerContext, ListenerProtocol, ProtocolSettings, UncheckedProbe},
    row::{ProtocolParts, below, to_json},
};
use cluster::PreconnectPool;
use net::Stream;
use operation::{Close, Protocol, RejectMode, RejectionRef};
use relay::{Buffers, RelayUpstream};
use serde_json::{Value, json};
use session::Session;
use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, rc::Rc, sync::Arc};
use tollgate_http::{
    CertificateStyle, Dialect, RouteSettings, Routes, ServerPlan, UpstreamVersion, dry_run,
};
pub use tollgate_http::{
    ClusterSettings as Pooling, Pools, Server, UnfitCluster, dry_run::DryRunReport,
};
use values::Diagnostic;

/// A dialect and a server's plan, as they were built of settings.
pub(crate) type Built<D> = (Arc<D>, Arc<ServerPlan>);

/// What the registry needs of a protocol over HTTP.
pub(super) trait TerminatedParts: ProtocolParts {
    /// The dialect.
    type Dialect: Dialect;

    /// The routes of a listener.
    fn route_settings(settings: &Self::Settings) -> &[RouteSettings];

    /// The dialect and the server's plan. Requests without a route go to `cluster`.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    fn build(
        settings: &Self::Settings,
        cluster: Option<&str>,
    ) -> Result<Built<Self::Dialect>, Vec<Diagnostic>>;

    /// The checked routes.
    fn routes(dialect: &Self::Dialect) -> &Routes;

    /// See [`ProtocolSettings::unfit_clusters`].
    fn unfit_clusters(
        settings: &Self::Settings,
        own: Option<&str>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
    ) -> Vec<UnfitCluster>;

    /// Whether services must speak HTTP/2, unless their cluster's settings say HTTP/1.1.
    fn needs_http2(settings: &Self::Settings) -> bool;

    /// Changes a request of [`ListenerProtocol::dry_run`] into one of the protocol.
    fn adapt(request: &mut dry_run::DryRequest) {
        let _ = request;
    }
}

/// The settings of a listener as written.
#[derive(Debug)]
pub(super) struct TerminatedSettings<P: ProtocolParts>(pub(super) P::Settings);

/// A listener.
struct TerminatedListener<P: TerminatedParts> {
    settings: P::Settings,
    dialect: Arc<P::Dialect>,
    plan: Arc<ServerPlan>,
}

impl<P: TerminatedParts> ProtocolSettings for TerminatedSettings<P> {
    fn describe(&self) -> &'static Protocol {
        P::describe()
    }

    fn has_routes(&self) -> bool {
        !P::route_settings(&self.0).is_empty()
    }

    fn route_names(&self, has_own_cluster: bool) -> Option<Vec<Arc<str>>> {
        let names = P::route_settings(&self.0).iter().map(|route| Arc::clone(route.name.text()));
        Some(names.chain(has_own_cluster.then(|| "default".into())).collect())
    }

    fn unreachable_routes(&self, unsure: &dyn Fn(usize) -> bool) -> Vec<Diagnostic> {
        let routes = P::route_settings(&self.0);
        below(P::describe().name)(tollgate_http::unreachable_routes(routes, unsure))
    }

    fn clusters(&self) -> Vec<(Vec<String>, String)> {
        let named = tollgate_http::clusters(P::route_settings(&self.0)).into_iter();
        named.map(|(path, name)| (under::<P>(path), name.to_owned())).collect()
    }

    fn unfit_clusters(
        &self,
        own: Option<&str>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
    ) -> Vec<UnfitCluster> {
        let unfit = P::unfit_clusters(&self.0, own, pooling).into_iter();
        unfit.map(|it| UnfitCluster { path: it.path.map(under::<P>), ..it }).collect()
    }

    fn shares_connections(&self) -> bool {
        true
    }

    fn upstream_alpn(&self, pooling: &Pooling) -> Vec<Vec<u8>> {
        pooling.pool_plan(P::needs_http2(&self.0)).version.alpn()
    }

    fn fallback_probe(&self) -> Arc<dyn UncheckedProbe> {
        P::fallback_probe(&self.0)
    }

    fn protocol(
        &self,
        context: ListenerContext<'_>,
    ) -> Result<Arc<dyn ListenerProtocol>, Vec<Diagnostic>> {
        let built = P::build(&self.0, context.cluster).map_err(below(P::describe().name));
        let ((dialect, plan), settings) = (built?, self.0.clone());
        Ok(Arc::new(TerminatedListener::<P> { settings, dialect, plan }))
    }
}

/// Puts the protocol's key before a path of keys.
fn under<P: ProtocolParts>(path: Vec<String>) -> Vec<String> {
    [vec![P::describe().name.to_owned()], path].concat()
}

impl<P: TerminatedParts> fmt::Debug for TerminatedListener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", P::describe().name, self.settings)
    }
}

impl<P: TerminatedParts> ListenerProtocol for TerminatedListener<P> {
    fn describe(&self) -> &'static Protocol {
        P::describe()
    }

    fn clusters(&self) -> Vec<Arc<str>> {
        P::routes(&self.dialect).clusters()
    }

    fn routes(&self) -> Option<Vec<Arc<str>>> {
        Some(P::routes(&self.dialect).iter().map(|route| (*route.name).into()).collect())
    }

    fn to_json(&self) -> Value {
        json!({ P::describe().name: to_json(&self.settings) })
    }

    /// Clients of HTTP/1.1 may speak to gRPC services too, by transcoding.
    fn alpn(&self) -> Vec<Vec<u8>> {
        UpstreamVersion::Auto.alpn()
    }

    fn forwards_client_certificates(&self) -> bool {
        self.plan.header_policy.certificate != CertificateStyle::Off
    }

    fn dry_run(&self, request: &DryRequest<'_>) -> Option<Result<DryRunReport, String>> {
        let mut asked = dry_run::DryRequest {
            method: request.method.to_owned(),
            target: request.target.to_owned(),
            headers: request.headers.clone(),
            http2: false,
        };
        P::adapt(&mut asked);
        let report = asked.report(&*self.dialect, P::route_settings(&self.settings), request.peer);
        Some(report.map_err(|why| why.to_string()))
    }

    fn server(
        &self,
        clusters: &BTreeMap<Arc<str>, Rc<PreconnectPool>>,
        pooling: &BTreeMap<Arc<str>, Pooling>,
        pools: &Pools,
    ) -> Option<Rc<Server>> {
        let dialect = Arc::clone(&self.dialect);
        let http2 = P::needs_http2(&self.settings);
        let usual = Pooling::default();
        let names = self.clusters();
        let reached = names.iter().filter_map(|name| clusters.get(name)).map(|preconnects| {
            let pooling = pooling.get(preconnects.cluster().name()).unwrap_or(&usual);
            (Rc::clone(preconnects), pooling.pool_plan(http2))
        });
        Some(Server::new(dialect, Arc::clone(&self.plan), reached, pools))
    }

    /// A connection has no upstream: the server connects one for a request.
    fn serve(&self, _: Rc<dyn Session>, _: &Rc<Buffers>, _: Stream, _: RelayUpstream) -> Serving {
        Box::pin(std::future::ready(Close::NoEndpoint))
    }

    /// The server sends the error itself.
    fn reject<'a>(
        &'a self,
        _: &'a dyn Session,
        _: &'a mut Stream,
        _: (Close, RejectMode),
        _: &'a RejectionRef<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(std::future::ready(()))
    }
}
