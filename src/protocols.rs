//! The registry: the only place in `src/` that names a protocol.

mod fits;
mod names;
mod probe;
mod routed;
mod server;
mod written;

use cluster::UpstreamConnection;
pub(crate) use fits::Unfit;
use mongo::Mongo;
pub(crate) use names::no_operation;
use operation::{Close, Codec, RejectMode, RejectionRef};
pub use probe::ProbePlan;
pub(crate) use probe::WrittenProbe;
use relay::{Buffers, relay};
pub(crate) use routed::{Routed, has_targets, question, routed};
pub use server::{Pooling, Pools, Server, host, refuse, server};
use session::Session;
use std::{pin::Pin, rc::Rc, sync::Arc};
use tcp::Tcp;
use tokio::net::TcpStream;
pub(crate) use tollgate_http::dry_run::DryRunError;
pub(crate) use written::{NAMES, ProtocolConfig, without_a_file};

/// What a listener's clients speak, with what all its connections share.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Any bytes.
    Tcp(Arc<()>),
    /// MongoDB.
    Mongo(Arc<mongo::MongoListener>),
    /// HTTP, either version.
    Http(Arc<tollgate_http::HttpListener>),
    /// gRPC.
    Grpc(Arc<grpc::GrpcListener>),
}

impl Protocol {
    /// What it is called, and what it counts.
    pub fn describe(&self) -> &'static operation::Protocol {
        match self {
            Protocol::Tcp(_) => const { &Tcp::PROTOCOL },
            Protocol::Mongo(_) => const { &Mongo::PROTOCOL },
            Protocol::Http(_) => const { &tollgate_http::PROTOCOL },
            Protocol::Grpc(_) => const { &grpc::Grpc::PROTOCOL },
        }
    }

    /// The clusters that it sends operations to, where it sends them itself.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        match self {
            Protocol::Tcp(_) | Protocol::Mongo(_) => Vec::new(),
            Protocol::Http(listener) => listener.clusters(),
            Protocol::Grpc(listener) => listener.clusters(),
        }
    }

    /// The names of its routes, which are the resources of its operations; `None` where operations
    /// may be about anything.
    pub fn routes(&self) -> Option<Vec<Arc<str>>> {
        let routes = match self {
            Protocol::Tcp(_) | Protocol::Mongo(_) => return None,
            Protocol::Http(listener) => &listener.http.routes,
            Protocol::Grpc(listener) => listener.grpc.routes(),
        };
        Some(routes.iter().map(|route| (*route.name).into()).collect())
    }

    /// What to do where several servers stand behind one listener, if what a client did before holds
    /// it to the server that did it.
    pub fn several_servers(&self) -> Option<&'static str> {
        match self {
            Protocol::Mongo(_) => Some(
                "clients that take them for one lose their cursors, sessions and the primary: give each \
                 member of a replica set a listener of its own (`members`), or let only the primary \
                 count as healthy (`probe: { mongo: { writable: true } }`); before several mongos write \
                 `lb_policy: maglev`. See docs/mongodb.md",
            ),
            Protocol::Tcp(_) | Protocol::Http(_) | Protocol::Grpc(_) => None,
        }
    }

    /// The replica set members whose addresses are rewritten for clients.
    pub fn members(&self) -> Vec<String> {
        match self {
            Protocol::Mongo(listener) => listener.settings.members.keys().cloned().collect(),
            Protocol::Tcp(_) | Protocol::Http(_) | Protocol::Grpc(_) => Vec::new(),
        }
    }

    /// Its settings as a config would have them.
    pub fn to_json(&self) -> serde_json::Value {
        let settings = match self {
            Protocol::Tcp(_) => serde_json::json!({}),
            Protocol::Mongo(listener) => settings_json(&listener.settings),
            Protocol::Http(listener) => settings_json(&listener.settings),
            Protocol::Grpc(listener) => settings_json(&listener.settings),
        };
        serde_json::json!({ self.name(): settings })
    }

    /// Whether the client is sure to send the first byte of a connection. Where it is not, that
    /// depends on the service.
    pub fn client_speaks_first(&self) -> bool {
        match self {
            Protocol::Tcp(_) => false,
            Protocol::Mongo(_) | Protocol::Http(_) | Protocol::Grpc(_) => true,
        }
    }

    /// Its name in the config, in logs and in metrics.
    pub fn name(&self) -> &'static str {
        self.describe().name
    }
}

/// Every protocol that can be read.
pub fn all() -> [&'static operation::Protocol; 4] {
    const { [&Tcp::PROTOCOL, &Mongo::PROTOCOL, &tollgate_http::PROTOCOL, &grpc::Grpc::PROTOCOL] }
}

fn settings_json(settings: &impl serde::Serialize) -> serde_json::Value {
    let mut json = serde_json::to_value(settings).unwrap_or_default();
    if let Some(keys) = json.as_object_mut() {
        keys.retain(|_, value| !value.is_null());
    }
    json
}

/// A policy's glob over an attribute, in the form in which a protocol has its values; `None` where
/// it has that form already.
pub(crate) fn glob(attribute: &str, glob: &str) -> Option<String> {
    tollgate_http::normalize::glob(attribute, glob)
}

/// The value that policies of this protocol see for an attribute with this text.
pub(crate) fn fact<'a>(
    protocol: &operation::Protocol,
    attribute: &str,
    text: &'a str,
) -> operation::AttributeValue<'a> {
    let by_http =
        [tollgate_http::PROTOCOL.name, grpc::Grpc::PROTOCOL.name].contains(&protocol.name);
    if by_http {
        tollgate_http::normalize::fact(attribute, text)
    } else {
        operation::AttributeValue::known(text)
    }
}

/// Serves a connection in its listener's protocol until it ends.
pub fn serve(
    protocol: &Protocol,
    session: Rc<dyn Session>,
    buffers: &Rc<Buffers>,
    client: TcpStream,
    upstream: UpstreamConnection,
) -> Pin<Box<dyn Future<Output = Close>>> {
    match protocol {
        Protocol::Tcp(shared) => relay::<Tcp>(shared, session, buffers, client, upstream),
        Protocol::Mongo(shared) => relay::<Mongo>(shared, session, buffers, client, upstream),
        // These terminate both connections, and are asked before there is an upstream.
        Protocol::Http(_) | Protocol::Grpc(_) => Box::pin(std::future::ready(Close::NoEndpoint)),
    }
}

/// Rejects a client's connection because there is no upstream for it.
pub async fn turn_away(
    protocol: &Protocol,
    session: &dyn Session,
    client: &mut TcpStream,
    end: (Close, RejectMode),
    why: &RejectionRef<'_>,
) {
    match protocol {
        Protocol::Tcp(shared) => relay::reject::<Tcp>(shared, session, client, end, why).await,
        Protocol::Mongo(shared) => {
            relay::reject::<Mongo>(shared, session, client, end, why).await;
        }
        // These terminate both connections, and send the error themselves.
        Protocol::Http(_) | Protocol::Grpc(_) => {}
    }
}
