//! Counts the TLS handshakes of a listener on one worker, and logs connections that fail, no more than one
//! of each reason in a minute.

use metrics::Histogram;
use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    fmt::Display,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tls::{HandshakeFailure, TlsInfo};
use tollgate_metrics::{Metrics, table as names};

/// How often a failure of one reason is logged: a scanner must not fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The TLS handshakes of a listener on one worker.
pub struct Handshakes {
    listener: Arc<str>,
    metrics: Metrics,
    duration: OnceCell<Histogram>,
    /// By reason: when a failure was last logged, and how many were not logged since.
    logged: RefCell<BTreeMap<&'static str, (Instant, u64)>>,
}

impl Handshakes {
    /// No handshake so far.
    pub(super) fn new(listener: &Arc<str>, metrics: &Metrics) -> Self {
        Self {
            listener: Arc::clone(listener),
            metrics: metrics.clone(),
            duration: OnceCell::new(),
            logged: RefCell::default(),
        }
    }

    /// Counts a connection: what both sides have agreed upon, or `None` for one without TLS that is
    /// allowed.
    pub fn record(&self, info: Option<&TlsInfo>, took: Duration) {
        let Some(info) = info else { return self.count("plaintext_allowed") };
        self.count(if info.resumed { "resumed" } else { "ok" });
        let labels = [("listener", &*self.listener)];
        let new = || self.metrics.histogram(names::TLS_HANDSHAKE_SECONDS, &labels);
        self.duration.get_or_init(new).record(took);
        let [listener] = labels;
        let labels = [listener, ("version", info.version), ("cipher", info.cipher)];
        self.metrics.counter(names::TLS_CONNECTIONS_TOTAL, &labels).increment(1);
    }

    /// Counts a handshake that failed, and logs it if no other of its reason was logged lately.
    /// `server_name` is the name that the client asked for (SNI).
    pub fn record_failure(
        &self,
        failure: &HandshakeFailure,
        peer: SocketAddr,
        server_name: Option<&str>,
    ) {
        self.count(failure.reason());
        self.log(failure.reason(), failure, peer, server_name);
    }

    /// Logs why a connection is closed before its protocol, if no other of its reason was logged lately.
    pub fn log(
        &self,
        reason: &'static str,
        error: &dyn Display,
        peer: SocketAddr,
        server_name: Option<&str>,
    ) {
        let Some(unlogged) = self.unlogged(reason) else { return };
        tracing::warn!(
            listener = &*self.listener,
            %peer,
            reason,
            sni = server_name,
            %error,
            unlogged,
            "a connection is closed before its protocol begins"
        );
    }

    /// How many failures of this reason were not logged since the last one that was, if this one is to be
    /// logged.
    pub fn unlogged(&self, reason: &'static str) -> Option<u64> {
        let mut logged = self.logged.borrow_mut();
        let now = Instant::now();
        let unlogged = match logged.get_mut(reason) {
            Some((last, unlogged)) if now - *last < LOG_INTERVAL => {
                *unlogged += 1;
                return None;
            }
            Some((_, unlogged)) => std::mem::take(unlogged),
            None => 0,
        };
        logged.insert(reason, (now, 0));
        Some(unlogged)
    }

    fn count(&self, result: &str) {
        let labels = [("listener", &*self.listener), ("result", result)];
        self.metrics.counter(names::TLS_HANDSHAKES_TOTAL, &labels).increment(1);
    }
}
