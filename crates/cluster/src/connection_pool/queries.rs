//! Questions of codecs to the service, on connections of the pool.

use super::{ConnectionPool, PooledConnection, TakeError, TakeOptions, handshake::shake_hands};
use operation::{Identity, ServiceQuery};
use std::{io, rc::Rc};
use tokio::{
    task::spawn_local,
    time::{self, Instant},
};

impl ConnectionPool {
    /// Asks the service, and returns the connection on which it has answered.
    ///
    /// # Errors
    /// Why there is no connection, or no answer.
    pub async fn ask(self: Rc<Self>, query: ServiceQuery) -> Result<PooledConnection, TakeError> {
        let options = TakeOptions { identity: query.identity, ..TakeOptions::default() };
        let mut connection = Rc::clone(&self).take(options, None).await?;
        let asked = shake_hands(&mut connection.socket.stream, query.exchange);
        let asked = time::timeout(self.cluster.plan.connect_timeout, asked).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no reply to a question of the proxy"))
        });
        match asked {
            Ok(_) => Ok(connection),
            Err(error) => Err(self.cluster.handshake_error(&connection.socket.lease, error).into()),
        }
    }

    /// Asks what listeners want to know now.
    pub(super) fn ask_due_queries(self: &Rc<Self>) {
        let now = Instant::now().into_std();
        let handshakes = self.handshakes.borrow();
        for query in handshakes.iter().flat_map(|it| it.due_queries(now)) {
            let pool = Rc::clone(self);
            spawn_local(async move {
                // Without an answer the listener asks again.
                if let Ok(connection) = pool.ask(query).await {
                    connection.give_back();
                }
            });
        }
    }

    /// Whether connections with this identity are of use.
    pub(super) fn serves(&self, identity: &Identity) -> bool {
        let handshakes = self.handshakes.borrow();
        handshakes.is_empty() || handshakes.iter().any(|it| it.serves(identity))
    }
}
