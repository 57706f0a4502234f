//! One health check: connect, send the probe, judge the answer.

use crate::{
    Endpoint,
    connect::{Preamble, describe, establish, header_without_client, is_local},
    exchange,
    plan::ClusterPlan,
};
use bytes::BytesMut;
use net::Stream;
use operation::{Probe, ProbeResult};
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tls::{ClientTls, StartTls};
use tokio::{net::TcpStream, time};

/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The result of a check, as text.
pub(super) type CheckVerdict = Result<String, CheckError>;

/// Why a check did not succeed.
#[derive(Debug)]
pub(super) enum CheckError {
    /// The endpoint failed the check, as text.
    Failed(String),
    /// The check could not be made: this machine lacks a resource.
    Local(io::Error),
}

/// Checks one endpoint.
#[derive(Debug)]
pub(super) struct Checker {
    endpoint: Arc<Endpoint>,
    timeout: Duration,
    reuse: bool,
    /// The PROXY protocol header of the proxy itself, if the cluster has one.
    header: Option<Vec<u8>>,
    /// The cluster's request for TLS, in the endpoint's protocol.
    starttls: Option<StartTls>,
    /// The TLS of the cluster.
    tls: Option<Arc<ClientTls>>,
    /// The connection of the last check, to be used again.
    reusable: Option<Stream>,
}

/// Why an exchange has no judgement.
enum ExchangeError {
    /// The connection ended or broke.
    Connection(io::Error),
    /// The probe rejected the answer, as text.
    Answer(String),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        ExchangeError::Connection(error)
    }
}

impl Checker {
    pub(super) fn new(endpoint: Arc<Endpoint>, timeout: Duration, reuse: bool) -> Self {
        Self { endpoint, timeout, reuse, header: None, starttls: None, tls: None, reusable: None }
    }

    /// The same with the PROXY header and the TLS of this cluster.
    pub(super) fn prepared(self, plan: &ClusterPlan, tls: Option<Arc<ClientTls>>) -> Self {
        let header = header_without_client(plan);
        Self { header, starttls: plan.starttls, tls, ..self }
    }

    /// Checks once, with a probe from `new_probe`.
    pub(super) async fn check(&mut self, begin: impl Fn() -> Box<dyn Probe>) -> CheckVerdict {
        let now = SystemTime::now();
        let is_valid = |stream: &Stream| stream.certificate_end().is_none_or(|end| now < end);
        let kept = self.reusable.take().filter(is_valid);
        match time::timeout(self.timeout, self.attempt(kept, begin)).await {
            Ok(Ok(words)) => Ok(words),
            Ok(Err(ExchangeError::Answer(words))) => Err(CheckError::Failed(words)),
            Ok(Err(ExchangeError::Connection(error))) if is_local(&error) => {
                Err(CheckError::Local(error))
            }
            Ok(Err(ExchangeError::Connection(error))) => Err(CheckError::Failed(describe(&error))),
            Err(_) => Err(CheckError::Failed(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn attempt(
        &mut self,
        kept: Option<Stream>,
        new_probe: impl Fn() -> Box<dyn Probe>,
    ) -> Result<String, ExchangeError> {
        if let Some(stream) = kept {
            // A reused connection may have ended, which says nothing about the endpoint.
            match self.exchange(stream, new_probe()).await {
                Err(ExchangeError::Connection(_)) => {}
                judged => return judged,
            }
        }
        let stream = TcpStream::connect(self.endpoint.address()).await?;
        stream.set_nodelay(true)?;
        let preamble = Preamble { header: self.header.as_deref(), starttls: self.starttls };
        let stream =
            establish(stream, &self.endpoint.server_name(), preamble, self.tls.as_deref()).await?;
        self.exchange(stream, new_probe()).await
    }

    /// Sends the probe, and reads until there is a judgement.
    async fn exchange(
        &mut self,
        mut stream: Stream,
        mut probe: Box<dyn Probe>,
    ) -> Result<String, ExchangeError> {
        let mut bytes = BytesMut::new();
        if let Some(protocol) = stream.alpn() {
            probe.protocol_agreed(protocol);
        }
        probe.write_request(&mut bytes);
        if bytes.is_empty() {
            return Ok("connected".to_owned());
        }
        exchange::send(&mut stream, &mut bytes).await?;
        loop {
            let early = "the connection ended before the answer did";
            exchange::read_more(&mut stream, &mut bytes, early).await?;
            match probe.evaluate(&bytes) {
                ProbeResult::Healthy(words) => {
                    self.reusable = self.reuse.then_some(stream);
                    return Ok(words);
                }
                ProbeResult::Unhealthy(words) => return Err(ExchangeError::Answer(words)),
                ProbeResult::NeedMore if bytes.len() >= MAX_ANSWER => {
                    let words = format!("no end of the answer within {} KiB", MAX_ANSWER / 1024);
                    return Err(ExchangeError::Answer(words));
                }
                ProbeResult::NeedMore => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
