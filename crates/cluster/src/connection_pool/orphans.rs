//! Ends what clients that vanished have left at the service.

use super::{ConnectionPool, PooledConnection, TakeOptions};
use crate::exchange;
use bytes::BytesMut;
use operation::{Identity, Orphan, Placement};
use std::{io, rc::Rc};
use tokio::{task::spawn_local, time};
use tollgate_metrics::table as names;

/// The longest reply, in bytes.
const MAX_REPLY: usize = 64 * 1024;

impl ConnectionPool {
    /// Ends what a client has left when its connection was closed, after `orphan_grace`, unless the client
    /// continues it on another connection meanwhile. `identity` is what the client's operations had.
    pub fn end_orphans(self: &Rc<Self>, identity: &Identity, orphans: Vec<Box<dyn Orphan>>) {
        for orphan in orphans {
            match self.failover.get().orphan_grace {
                Some(_) => {
                    spawn_local(Rc::clone(self).end_orphan(identity.clone(), orphan));
                }
                // It is the service's. Asking forgets whose it was.
                None => _ = orphan.is_abandoned(),
            }
        }
    }

    async fn end_orphan(self: Rc<Self>, identity: Identity, orphan: Box<dyn Orphan>) {
        if !orphan.is_bound_to_connection() {
            time::sleep(self.failover.get().orphan_grace.unwrap_or_default()).await;
        }
        if !orphan.is_abandoned() {
            return;
        }
        let placement = match orphan.placement() {
            Placement::Pinned(key) => {
                self.pinned(key).map_or(Placement::Pinned(key), Placement::Endpoint)
            }
            placed => placed,
        };
        let options =
            TakeOptions { placement, identity, continues_state: true, ..TakeOptions::default() };
        let Ok(mut connection) = Rc::clone(&self).take(options, None).await else { return };
        let limit = self.cluster.plan().connect_timeout;
        if let Ok(Ok(())) = time::timeout(limit, ask_to_end(&mut connection, &*orphan)).await {
            connection.give_back();
            let labels = [("cluster", &**self.cluster.name()), ("kind", orphan.kind())];
            self.cluster.metrics.counter(names::ORPHANS_TOTAL, &labels).increment(1);
        }
    }
}

/// Sends the request that ends an orphan, and reads the reply. Whatever that says, there is nothing more
/// to do: what the service does not know has ended.
async fn ask_to_end(connection: &mut PooledConnection, orphan: &dyn Orphan) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    orphan.write_request(&mut bytes);
    let stream = &mut connection.socket.stream;
    exchange::send(stream, &mut bytes).await?;
    while !orphan.is_reply(&bytes) {
        exchange::read_more(stream, &mut bytes, "the connection ended before the answer").await?;
        if bytes.len() > MAX_REPLY {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}
