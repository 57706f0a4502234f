//! One attempt to connect: a dial, and if that is slow a race with an address of the other family
//! for the same name (happy eyeballs, RFC 8305).

use super::{
    super::balance, FailedAttempt, Preamble, UpstreamConnection, classify, describe, establish,
    is_local,
};
use crate::{Cluster, Endpoint, Lease, events::Event};
use net::Stream;
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time};

/// How long the first address is tried alone (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

impl Cluster {
    /// Dials the endpoint of `lease`, and another address of its name if that takes long. The loser
    /// is dropped and not counted as a success or a failure.
    pub(super) async fn dial_racing(
        self: &Arc<Self>,
        lease: Lease,
        tried: &[Arc<Endpoint>],
        preamble: Preamble<'_>,
        dial: &impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> Result<UpstreamConnection, Vec<FailedAttempt>> {
        let endpoint = Arc::clone(lease.endpoint());
        let mut first = pin!(self.dial_with_timeout(&endpoint, preamble, dial));
        if let Ok(result) = time::timeout(HEAD_START, &mut first).await {
            return self.finish_dial(lease, result).map_err(|attempt| vec![attempt]);
        }
        let Some(other) = self.other_family(lease.endpoint(), tried) else {
            return self.finish_dial(lease, first.await).map_err(|attempt| vec![attempt]);
        };
        let endpoint = Arc::clone(other.endpoint());
        let mut second = pin!(self.dial_with_timeout(&endpoint, preamble, dial));
        let (failed, left) = tokio::select! {
            biased;
            result = &mut first => match self.finish_dial(lease, result) {
                Ok(upstream) => return Ok(upstream),
                Err(attempt) => (attempt, self.finish_dial(other, second.await)),
            },
            result = &mut second => match self.finish_dial(other, result) {
                Ok(upstream) => return Ok(upstream),
                Err(attempt) => (attempt, self.finish_dial(lease, first.await)),
            },
        };
        left.map_err(|attempt| vec![failed, attempt])
    }

    /// Dials, and sends what comes before the protocol, for no longer than
    /// `connect_timeout`.
    pub(crate) async fn dial_with_timeout(
        &self,
        endpoint: &Endpoint,
        preamble: Preamble<'_>,
        dial: &impl AsyncFn(SocketAddr) -> io::Result<TcpStream>,
    ) -> io::Result<Stream> {
        let connect = async {
            let socket = dial(endpoint.address()).await?;
            let starttls = preamble.starttls.or(self.plan().starttls);
            let preamble = Preamble { starttls, ..preamble };
            let destination = self.destination.load();
            establish(socket, &endpoint.server_name(), preamble, destination.tls.as_deref()).await
        };
        let dialed = time::timeout(self.plan().connect_timeout, connect).await;
        dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn finish_dial(
        &self,
        lease: Lease,
        result: io::Result<Stream>,
    ) -> Result<UpstreamConnection, FailedAttempt> {
        self.record_dial(lease.endpoint(), &result);
        match result {
            Ok(stream) => Ok(UpstreamConnection { stream, lease, queued: Duration::ZERO }),
            Err(error) => Err(FailedAttempt { endpoint: Arc::clone(lease.endpoint()), error }),
        }
    }

    /// Records the result of a dial. Every completed dial is recorded here, including those for
    /// preconnected sockets; outlier detection sees connects only here.
    pub(crate) fn record_dial(&self, endpoint: &Arc<Endpoint>, result: &io::Result<Stream>) {
        match result {
            Err(error) if is_local(error) => self.report_local_error(endpoint, error),
            _ => self.observe_connect(endpoint, result.is_ok()),
        }
        match result {
            Ok(stream) => endpoint.record_connected(stream),
            Err(error) => {
                endpoint.record_connect_failure(classify(error), describe(error));
                self.request_refresh();
            }
        }
    }

    /// Reports that this machine lacks a resource, at most once a minute.
    pub(crate) fn report_local_error(&self, endpoint: &Endpoint, error: &io::Error) {
        if self.local_errors.is_due() {
            let reason = format!("{} (on this machine)", describe(error));
            self.events.report(&Event::LocalError { endpoint, reason: &reason });
        }
    }

    /// A usable endpoint of the same name with capacity and an address of the other family.
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
        ahead.iter().chain(behind).find_map(|other| Lease::try_new(self, other, most))
    }
}
