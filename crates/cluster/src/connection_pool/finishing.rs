//! Operations that go on at the service although their client has vanished.

use super::{ConnectionPool, PooledConnection};
use std::rc::Rc;
use tokio::{task::spawn_local, time};

impl ConnectionPool {
    /// Lets the service end the operation that uses a connection, for at most `cancel_grace`, and closes the
    /// connection then: the reply has no reader.
    pub fn finish(self: &Rc<Self>, mut connection: PooledConnection) {
        let Some(grace) = self.failover.get().cancel_grace else { return };
        spawn_local(async move {
            let stream = &mut connection.socket.stream;
            // The first byte of the reply, or the end of the connection.
            let ended = std::future::poll_fn(|cx| stream.poll_read_ready(cx));
            let _ = time::timeout(grace, ended).await;
        });
    }
}
