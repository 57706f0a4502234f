//! One health check: a connection, a question, an answer.

use crate::cluster::connect::{is_local, words};
use bytes::BytesMut;
use operation::{Probe, ProbeResult};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// The most that is read of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// What a check comes to; what the endpoint told if it is good.
pub(super) type Verdict = Result<String, Unanswered>;

/// Why a check is not good.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The endpoint failed it, in words.
    Failed(String),
    /// It could not be made: this machine lacks what a connection takes.
    Local(io::Error),
}

/// Checks one endpoint.
#[derive(Debug)]
pub(super) struct Checker {
    address: SocketAddr,
    timeout: Duration,
    reuse: bool,
    /// The connection of the last check.
    kept: Option<TcpStream>,
}

/// Why an exchange has no judgement.
enum Failed {
    /// The connection ended or broke.
    Connection(io::Error),
    /// In words.
    Answer(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed::Connection(error)
    }
}

impl Checker {
    pub(super) fn new(address: SocketAddr, timeout: Duration, reuse: bool) -> Self {
        Self { address, timeout, reuse, kept: None }
    }

    /// Checks once, with a probe that `begin` makes.
    pub(super) async fn check(&mut self, begin: impl Fn() -> Box<dyn Probe>) -> Verdict {
        let kept = self.kept.take();
        match time::timeout(self.timeout, self.attempt(kept, begin)).await {
            Ok(Ok(words)) => Ok(words),
            Ok(Err(Failed::Answer(words))) => Err(Unanswered::Failed(words)),
            Ok(Err(Failed::Connection(error))) if is_local(&error) => Err(Unanswered::Local(error)),
            Ok(Err(Failed::Connection(error))) => Err(Unanswered::Failed(words(&error))),
            Err(_) => Err(Unanswered::Failed(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn attempt(
        &mut self,
        kept: Option<TcpStream>,
        begin: impl Fn() -> Box<dyn Probe>,
    ) -> Result<String, Failed> {
        if let Some(stream) = kept {
            // That the connection has ended meanwhile tells nothing about the endpoint.
            match self.exchange(stream, begin()).await {
                Err(Failed::Connection(_)) => {}
                judged => return judged,
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.exchange(stream, begin()).await
    }

    /// Asks, and reads until there is a judgement.
    async fn exchange(
        &mut self,
        mut stream: TcpStream,
        mut probe: Box<dyn Probe>,
    ) -> Result<String, Failed> {
        let mut bytes = BytesMut::new();
        probe.write_request(&mut bytes);
        if bytes.is_empty() {
            return Ok("connected".to_owned());
        }
        stream.write_all(&bytes).await?;
        bytes.clear();
        loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                let early = "the connection ended before the answer did";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, early).into());
            }
            match probe.evaluate(&bytes) {
                ProbeResult::Healthy(words) => {
                    self.kept = self.reuse.then_some(stream);
                    return Ok(words);
                }
                ProbeResult::Unhealthy(words) => return Err(Failed::Answer(words)),
                ProbeResult::NeedMore if bytes.len() >= MAX_ANSWER => {
                    let words = format!("no end of the answer within {} KiB", MAX_ANSWER / 1024);
                    return Err(Failed::Answer(words));
                }
                ProbeResult::NeedMore => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
