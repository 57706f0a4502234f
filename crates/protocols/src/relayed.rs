//! Protocols of which the relay moves the bytes, guided by a codec.

use super::{
    Serving,
    entry::{ListenerContext, ListenerProtocol, ProtocolSettings, UncheckedProbe},
    row::{ProtocolParts, below, to_json},
};
use cluster::MirrorPlan;
use net::Stream;
use operation::{Close, Codec, HandshakeConfig, MonitorConfig, Protocol, RejectMode, RejectionRef};
use relay::{Buffers, RelayUpstream, relay};
use serde_json::{Value, json};
use session::Session;
use std::{fmt, future::Future, pin::Pin, rc::Rc, sync::Arc};
use values::Diagnostic;

/// What the registry needs of a protocol that has a codec.
pub(super) trait RelayedParts: ProtocolParts {
    /// Whether the client always sends the first byte.
    const CLIENT_SPEAKS_FIRST: bool;
    /// See [`ListenerProtocol::several_servers`].
    const SEVERAL_SERVERS: Option<&str> = None;

    /// The codec.
    type Codec: Codec<Shared: Send + Sync>;

    /// See [`ProtocolSettings::pools_operations`].
    const POOLS_OPERATIONS: bool = false;

    /// What all connections of a listener share.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    fn shared(
        settings: &Self::Settings,
        context: ListenerContext<'_>,
    ) -> Result<<Self::Codec as Codec>::Shared, Vec<Diagnostic>>;

    /// See [`ListenerProtocol::pool_handshake`].
    fn pool_handshake(
        shared: &Arc<<Self::Codec as Codec>::Shared>,
    ) -> Option<Arc<dyn HandshakeConfig>> {
        let _ = shared;
        None
    }

    /// See [`ListenerProtocol::mirror`].
    fn mirror(settings: &Self::Settings) -> Option<MirrorPlan> {
        let _ = settings;
        None
    }

    /// See [`ListenerProtocol::mirror_handshake`].
    fn mirror_handshake() -> Option<Arc<dyn HandshakeConfig>> {
        None
    }

    /// See [`ProtocolSettings::member_monitors`].
    fn member_monitors(replica_set: &str) -> Option<Arc<dyn MonitorConfig>> {
        let _ = replica_set;
        None
    }

    /// See [`ListenerProtocol::has_query_shapes`].
    fn has_query_shapes(settings: &Self::Settings) -> bool {
        let _ = settings;
        false
    }

    /// See [`ListenerProtocol::members`].
    fn members(settings: &Self::Settings) -> Vec<String> {
        let _ = settings;
        Vec::new()
    }

    /// See [`ListenerProtocol::advertised`].
    fn advertised(settings: &Self::Settings) -> Vec<String> {
        let _ = settings;
        Vec::new()
    }
}

/// The settings of a listener as written.
#[derive(Debug)]
pub(super) struct RelayedSettings<P: ProtocolParts>(pub(super) P::Settings);

/// A listener.
struct RelayedListener<P: RelayedParts> {
    settings: P::Settings,
    shared: Arc<<P::Codec as Codec>::Shared>,
}

impl<P: RelayedParts> ProtocolSettings for RelayedSettings<P> {
    fn describe(&self) -> &'static Protocol {
        P::describe()
    }

    fn clusters(&self) -> Vec<(Vec<String>, String)> {
        let path = [P::describe().name, "mirror", "to"].map(str::to_owned);
        P::mirror(&self.0)
            .map(|mirror| (path.into(), mirror.cluster.to_string()))
            .into_iter()
            .collect()
    }

    fn pools_operations(&self) -> bool {
        P::POOLS_OPERATIONS
    }

    fn member_monitors(&self, replica_set: &str) -> Option<Arc<dyn MonitorConfig>> {
        P::member_monitors(replica_set)
    }

    fn fallback_probe(&self) -> Arc<dyn UncheckedProbe> {
        P::fallback_probe(&self.0)
    }

    fn protocol(
        &self,
        context: ListenerContext<'_>,
    ) -> Result<Arc<dyn ListenerProtocol>, Vec<Diagnostic>> {
        let pooled = context.pooled && P::POOLS_OPERATIONS;
        let shared = P::shared(&self.0, ListenerContext { pooled, ..context })
            .map_err(below(P::describe().name))?;
        let settings = self.0.clone();
        Ok(Arc::new(RelayedListener::<P> { settings, shared: Arc::new(shared) }))
    }
}

impl<P: RelayedParts> fmt::Debug for RelayedListener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", P::describe().name, self.settings)
    }
}

impl<P: RelayedParts> ListenerProtocol for RelayedListener<P> {
    fn describe(&self) -> &'static Protocol {
        P::describe()
    }

    fn several_servers(&self) -> Option<&'static str> {
        P::SEVERAL_SERVERS
    }

    fn members(&self) -> Vec<String> {
        P::members(&self.settings)
    }

    fn advertised(&self) -> Vec<String> {
        P::advertised(&self.settings)
    }

    fn to_json(&self) -> Value {
        json!({ P::describe().name: to_json(&self.settings) })
    }

    fn client_speaks_first(&self) -> bool {
        P::CLIENT_SPEAKS_FIRST
    }

    fn has_query_shapes(&self) -> bool {
        P::has_query_shapes(&self.settings)
    }

    fn pool_handshake(&self) -> Option<Arc<dyn HandshakeConfig>> {
        P::pool_handshake(&self.shared)
    }

    fn clusters(&self) -> Vec<Arc<str>> {
        self.mirror().map(|mirror| mirror.cluster).into_iter().collect()
    }

    fn mirror(&self) -> Option<MirrorPlan> {
        P::mirror(&self.settings)
    }

    fn mirror_handshake(&self) -> Option<Arc<dyn HandshakeConfig>> {
        P::mirror_handshake()
    }

    fn serve(
        &self,
        session: Rc<dyn Session>,
        buffers: &Rc<Buffers>,
        client: Stream,
        upstream: RelayUpstream,
    ) -> Serving {
        relay::<P::Codec>(&self.shared, session, buffers, client, upstream)
    }

    fn reject<'a>(
        &'a self,
        session: &'a dyn Session,
        client: &'a mut Stream,
        end: (Close, RejectMode),
        why: &'a RejectionRef<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(relay::reject::<P::Codec>(&self.shared, session, client, end, why))
    }
}
