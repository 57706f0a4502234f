//! What happens to a pool's connections and queues without an operation: idle connections are inspected,
//! and operations that wait for an endpoint follow it.

use super::{ConnectionPool, Handed, endpoint_pool::EndpointPool};
use crate::Endpoint;
use operation::{Identity, Role};
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// How often idle connections are inspected.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

impl ConnectionPool {
    /// Closes connections that are idle for too long, too old or dead, and keeps `min_pool_size` ready,
    /// until the pool is closed.
    pub(super) async fn inspect(self: Rc<Self>) {
        while !self.closed.get() {
            self.ask_due_queries();
            self.close_expired();
            self.leave_unusable();
            if self.plan().min_pool_size > 0
                && let Some(identity) = self.ready_identity()
            {
                let set = self.cluster.set.load_full();
                let is_used = |it: &&Arc<Endpoint>| {
                    it.usable() && (!self.cluster.has_roles() || it.role() != Role::Unknown)
                };
                for endpoint in set.endpoints().filter(is_used) {
                    self.connect_missing(&self.endpoint_pool(endpoint, &identity));
                }
            }
            time::sleep(INTERVAL).await;
        }
    }

    /// The identity of connections that are kept ready.
    fn ready_identity(&self) -> Option<Identity> {
        let handshakes = self.handshakes.lock();
        match &**handshakes {
            [] => Some(Identity::default()),
            all => all.iter().find_map(|it| it.ready_identity()),
        }
    }

    fn close_expired(&self) {
        let now = Instant::now();
        let mut expired = Vec::new();
        self.endpoints.borrow_mut().retain(|_, shared| {
            let mut pool = shared.borrow_mut();
            let mut ready = pool.idle.len();
            let serves = self.serves(&pool.identity);
            expired.extend(pool.remove_idle(|connection| {
                let is_idle = now - connection.since >= self.plan().max_idle_time
                    && ready > self.plan().min_pool_size;
                let closes = is_idle
                    || !serves
                    || self.closes_idle()
                    || !connection.is_usable(&self.plan(), now)
                    || !connection.stream.is_idle();
                ready -= usize::from(closes);
                closes
            }));
            pool.publish();
            !pool.is_empty()
        });
        // It may have been removed.
        self.latest.take();
        drop(expired);
    }

    /// Follows the endpoints of the cluster and what they are, until the pool is closed.
    pub(super) async fn follow_changes(self: Rc<Self>) {
        let mut changes = self.cluster.changes.subscribe();
        changes.mark_changed();
        let mut switches = self.cluster.cutover.switches();
        while !self.closed.get() && changes.changed().await.is_ok() {
            let now = self.cluster.cutover.switches();
            if std::mem::replace(&mut switches, now) != now {
                // Those to the endpoints of before.
                self.close_expired();
                self.leave_unusable();
            }
            if self.cluster.has_roles() {
                let replies = self.cluster.member_replies();
                self.handshakes.lock().iter().for_each(|it| it.members_changed(&replies));
                self.leave_unusable();
            }
        }
    }

    /// Operations that wait for an endpoint which is not used any more pick another one.
    fn leave_unusable(&self) {
        self.release_waiters(|pool| {
            let has_other_role = pool.role != pool.endpoint.role();
            pool.role = pool.endpoint.role();
            has_other_role || !pool.endpoint.usable()
        });
    }

    /// Operations that wait for a connection of these endpoints pick again.
    pub(super) fn release_waiters(&self, which: impl Fn(&mut EndpointPool) -> bool) {
        let mut waiters = Vec::new();
        for pool in self.endpoints.borrow().values() {
            let mut pool = pool.borrow_mut();
            if which(&mut pool) && pool.waiting() > 0 {
                waiters.extend(pool.take_waiters());
                pool.publish();
            }
        }
        for waiter in waiters {
            // It may have given up.
            let _ = waiter.send(Handed::PickAgain);
        }
    }
}
