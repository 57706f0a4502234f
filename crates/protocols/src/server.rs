//! Serves the listeners of protocols that end both connections themselves.

use cluster::PreconnectPool;
use operation::{Close, Rejection};
use session::Session;
use std::{collections::BTreeMap, pin::Pin, rc::Rc, sync::Arc};
use tokio::net::TcpStream;
use tollgate_http::PoolPlan;
pub use tollgate_http::{ClusterSettings as Pooling, Pools, Server};

/// The clusters of these names, and how connections to each are pooled; `http2` unless their
/// settings say otherwise.
pub(super) fn reached<'a>(
    names: &'a [Arc<str>],
    clusters: &'a BTreeMap<Arc<str>, Rc<PreconnectPool>>,
    pooling: &'a BTreeMap<Arc<str>, Pooling>,
    http2: bool,
) -> impl Iterator<Item = (Rc<PreconnectPool>, PoolPlan)> + 'a {
    let usual = Pooling::default();
    names.iter().filter_map(|name| clusters.get(name)).map(move |preconnects| {
        let pooling = pooling.get(preconnects.cluster().name()).unwrap_or(&usual);
        (Rc::clone(preconnects), pooling.pool_plan(http2))
    })
}

/// Serves a connection until it ends.
pub fn host(
    server: &Rc<Server>,
    session: Rc<dyn Session>,
    client: TcpStream,
) -> Pin<Box<dyn Future<Output = Close>>> {
    Rc::clone(server).serve(session, client)
}

/// Answers the first request on this connection with a rejection, and closes the connection.
pub fn refuse(
    server: &Rc<Server>,
    session: Rc<dyn Session>,
    client: TcpStream,
    no: Rejection,
) -> Pin<Box<dyn Future<Output = Close>>> {
    Rc::clone(server).reject(session, client, no)
}
