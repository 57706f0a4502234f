//! One attempt to connect: a dial, and where that is silent a race with the same name's address
//! of the other family (happy eyeballs, RFC 8305).

use super::{super::balance, Attempt, Upstream, failure, is_local, words};
use crate::cluster::{Cluster, Endpoint, Lease, events::Event};
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time};

/// How long the first address has the field to itself (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

impl Cluster {
    /// Dials where `lease` leads, and another address of its name if that takes long. Who comes
    /// second is dropped and counts neither as good nor as bad.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        lease: Lease,
        tried: &[Arc<Endpoint>],
        dial: &impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<Upstream, Vec<Attempt>> {
        let mut first = pin!(self.dialed(lease.endpoint().address(), dial));
        if let Ok(result) = time::timeout(HEAD_START, &mut first).await {
            return self.settle(lease, result).map_err(|attempt| vec![attempt]);
        }
        let Some(other) = self.other_family(lease.endpoint(), tried) else {
            return self.settle(lease, first.await).map_err(|attempt| vec![attempt]);
        };
        let mut second = pin!(self.dialed(other.endpoint().address(), dial));
        let (failed, left) = tokio::select! {
            biased;
            result = &mut first => match self.settle(lease, result) {
                Ok(upstream) => return Ok(upstream),
                Err(attempt) => (attempt, self.settle(other, second.await)),
            },
            result = &mut second => match self.settle(other, result) {
                Ok(upstream) => return Ok(upstream),
                Err(attempt) => (attempt, self.settle(lease, first.await)),
            },
        };
        left.map_err(|attempt| vec![failed, attempt])
    }

    /// Dials for no longer than `connect_timeout`.
    pub(in crate::cluster) async fn dialed(
        &self,
        address: SocketAddr,
        dial: &impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> io::Result<TcpStream> {
        let dialed = time::timeout(self.plan.connect_timeout, dial(address)).await;
        dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn settle(&self, lease: Lease, result: io::Result<TcpStream>) -> Result<Upstream, Attempt> {
        self.judge(lease.endpoint(), &result);
        match result {
            Ok(stream) => Ok(Upstream { stream, lease, queued: Duration::ZERO }),
            Err(error) => Err(Attempt { endpoint: Arc::clone(lease.endpoint()), error }),
        }
    }

    /// Takes note of how a dial went. Every dial that was seen to its end comes by here, those for
    /// spare connections too: this is where connecting tells whether an endpoint works.
    pub(in crate::cluster) fn judge(
        &self,
        endpoint: &Arc<Endpoint>,
        result: &io::Result<TcpStream>,
    ) {
        match result {
            Err(error) if is_local(error) => self.tell_local(endpoint, error),
            _ => self.observe_connect(endpoint, result.is_ok()),
        }
        match result {
            Ok(_) => endpoint.connected(),
            Err(error) => {
                endpoint.failed(failure(error), words(error));
                self.hurry();
            }
        }
    }

    /// Tells an operator that this machine lacks what a connection takes, though not each time.
    pub(in crate::cluster) fn tell_local(&self, endpoint: &Endpoint, error: &io::Error) {
        if self.local_errors.is_due() {
            let reason = format!("{} (on this machine)", words(error));
            self.events.tell(&Event::LocalError { endpoint, reason: &reason });
        }
    }

    /// A usable endpoint of the same name with room, whose address is of the other family.
    fn other_family(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        tried: &[Arc<Endpoint>],
    ) -> Option<Lease> {
        if !endpoint.usable() {
            return None;
        }
        let set = self.set.load();
        let others: Vec<_> = set
            .endpoints()
            .filter(|other| {
                other.name() == endpoint.name()
                    && other.address().is_ipv4() != endpoint.address().is_ipv4()
                    && other.usable()
                    && !tried.iter().any(|t| Arc::ptr_eq(t, other))
            })
            .collect();
        let from = (balance::share() * others.len() as f64) as usize;
        let (behind, ahead) = others.split_at_checked(from)?;
        let most = self.breaker.per_endpoint();
        ahead.iter().chain(behind).find_map(|other| Lease::within(self, other, most))
    }
}
