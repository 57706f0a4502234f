//! Questions of codecs to the service, on connections of the pool.

use super::{ConnectionPool, PooledConnection, TakeError, TakeOptions, handshake::shake_hands};
use operation::{Identity, ServiceQuery};
use std::{io, rc::Rc, sync::Arc};
use tokio::{
    sync::watch,
    task::spawn_local,
    time::{self, Instant},
};

impl ConnectionPool {
    /// Asks the service. If the same question is being asked already, waits for the end of that one.
    ///
    /// # Errors
    /// Why there is no connection, or no answer.
    pub async fn ask(self: Rc<Self>, query: ServiceQuery) -> Result<(), TakeError> {
        let asked = self.queries.borrow().get(&query.subject).cloned();
        if let Some(mut asked) = asked {
            // Its end drops the sender.
            let _ = asked.changed().await;
            return Ok(());
        }
        let (sender, asked) = watch::channel(());
        let subject = Arc::clone(&query.subject);
        self.queries.borrow_mut().insert(Arc::clone(&subject), asked);
        // A client that vanishes meanwhile does not end the question of others.
        let asking = spawn_local(async move {
            let answered = Rc::clone(&self).exchange(query).await;
            self.queries.borrow_mut().remove(&subject);
            drop(sender);
            answered.map(PooledConnection::give_back)
        });
        asking.await.unwrap_or(Ok(()))
    }

    /// Asks the service, and returns the connection on which it has answered.
    async fn exchange(self: Rc<Self>, query: ServiceQuery) -> Result<PooledConnection, TakeError> {
        let options = TakeOptions { identity: query.identity, ..TakeOptions::default() };
        let mut connection = Rc::clone(&self).take(options, None).await?;
        let asked = shake_hands(&mut connection.socket.stream, query.exchange);
        let asked = time::timeout(self.cluster.plan().connect_timeout, asked).await;
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
        let handshakes = self.handshakes.lock();
        for query in handshakes.iter().flat_map(|it| it.due_queries(now)) {
            let pool = Rc::clone(self);
            spawn_local(async move {
                // Without an answer the listener asks again.
                let _ = pool.ask(query).await;
            });
        }
    }

    /// Whether connections with this identity are of use.
    pub(super) fn serves(&self, identity: &Identity) -> bool {
        let handshakes = self.handshakes.lock();
        handshakes.is_empty() || handshakes.iter().any(|it| it.serves(identity))
    }
}
