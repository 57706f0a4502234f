//! Opens connections that operations wait for.

use super::{
    ConnectionPool, Handed, PooledSocket, SharedEndpointPool, endpoint_pool::Use,
    handshake::shake_hands,
};
use crate::{ConnectOptions, Endpoint, TakeError, UpstreamConnection};
use operation::{Handshake, Identity};
use std::{io, rc::Rc, sync::Arc};
use tokio::{
    task::spawn_local,
    time::{self, Instant},
};

impl ConnectionPool {
    /// Opens connections to an endpoint, as many as are waited for and allowed.
    pub(super) fn connect_missing(self: &Rc<Self>, endpoint_pool: &SharedEndpointPool) {
        let idle = if self.closed.get() { 0 } else { self.plan().min_pool_size };
        let missing = {
            let mut pool = endpoint_pool.borrow_mut();
            let missing = pool.begin_connecting(idle);
            pool.publish();
            missing
        };
        for usage in missing {
            let (pool, endpoint_pool) = (Rc::clone(self), Rc::clone(endpoint_pool));
            spawn_local(async move {
                let (endpoint, identity) = endpoint_pool.borrow().destination();
                let opened = pool.open(&endpoint, &identity).await;
                pool.connecting_ended(&endpoint_pool, usage, opened);
            });
        }
    }

    async fn open(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
    ) -> Result<UpstreamConnection, TakeError> {
        let handshake = self.handshake(identity)?;
        let preferred = Some(Arc::clone(endpoint));
        // With other endpoints, the operation picks again.
        let only_preferred =
            self.cluster.has_roles() || self.cluster.has_others(std::slice::from_ref(endpoint));
        let options = ConnectOptions { preferred, only_preferred, ..ConnectOptions::default() };
        let mut upstream = self.cluster.connect(options).await?;
        if let Some(handshake) = handshake {
            let shaken = shake_hands(&mut upstream.stream, handshake);
            let limit = self.cluster.plan().connect_timeout;
            let shaken = time::timeout(limit, shaken).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, "no reply to the handshake"))
            });
            match shaken {
                Ok(greeting) => {
                    self.handshakes.lock().iter().for_each(|it| it.connected(&greeting));
                    self.greeting.replace(greeting);
                }
                // The service works: its word is about the user.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(TakeError::Refused { words: error.to_string() });
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::TimedOut {
                        upstream.lease.record_no_answer();
                    }
                    return Err(self.cluster.handshake_error(&upstream.lease, error).into());
                }
            }
        }
        Ok(upstream)
    }

    /// The handshake of a connection with this identity; `None`: it needs none.
    fn handshake(&self, identity: &Identity) -> Result<Option<Box<dyn Handshake>>, TakeError> {
        let begun = self.handshakes.lock().iter().find_map(|it| it.begin(identity));
        match &identity.user {
            Some(user) if begun.is_none() => {
                let words = format!("the log-in of `{}` is not valid any more", user.name);
                Err(TakeError::Refused { words })
            }
            _ => Ok(begun),
        }
    }

    fn connecting_ended(
        self: &Rc<Self>,
        endpoint_pool: &SharedEndpointPool,
        usage: Use,
        opened: Result<UpstreamConnection, TakeError>,
    ) {
        endpoint_pool.borrow_mut().connecting_ended(usage);
        match opened {
            Ok(UpstreamConnection { stream, lease, .. }) => {
                let now = Instant::now();
                let identity = endpoint_pool.borrow().destination().1;
                // It may be to another address of the endpoint's name.
                let opened_at = self.endpoint_pool(lease.endpoint(), &identity);
                let connection = PooledSocket { stream, lease, opened: now, since: now };
                self.hand_out(&opened_at, Box::new(connection));
            }
            Err(error) => {
                // All of them: each would have to wait for an attempt of its own.
                for waiter in endpoint_pool.borrow_mut().take_waiters() {
                    // It may have given up.
                    let _ = waiter.send(Handed::Failed(Box::new(error.clone())));
                }
            }
        }
        self.connect_missing(endpoint_pool);
    }
}
