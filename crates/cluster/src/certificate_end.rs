//! The end of the certificate that the cluster shows to its endpoints: connections that were opened
//! with it close before.
//!
//! Both peers verify a certificate only when a connection is opened. One that outlives its certificate
//! works until it breaks, and what replaces it fails for a reason that is long past.

use crate::{CloseRequest, Cluster};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time;

/// How often the ends are compared with the clock.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long before the end of its certificate a connection closes, in seconds: not less than
/// `INTERVAL`, so that none is open at the end.
const LEAD: u64 = 1;

/// When a connection closes because of the certificate that it was opened with, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CertificateEnd {
    /// From this time on when it is idle…
    idle: u64,
    /// …and from this time on at once.
    now: u64,
}

impl CertificateEnd {
    /// For a connection that is opened at `now` with a certificate that ends at `end`. The connection
    /// has `drain_timeout` to become idle, unless less is left already: then it may be used till the
    /// end. `None` if the certificate has ended: an endpoint that accepts it all the same does not mind.
    fn new(end: u64, now: u64, drain_timeout: u64) -> Option<Self> {
        let close = (end > now).then(|| end.saturating_sub(LEAD).max(now + 1))?;
        let idle = close.saturating_sub(drain_timeout);
        Some(Self { idle: if idle > now { idle } else { close }, now: close })
    }
}

/// The ends of the certificates with which connections were opened.
#[derive(Debug, Default)]
pub(super) struct CertificateEnds {
    /// The times at which connections have to be notified.
    times: Mutex<BTreeSet<u64>>,
    /// When they were last compared with the clock, in seconds since 1970.
    clock: AtomicU64,
}

impl CertificateEnds {
    /// What a connection with this end is asked to do.
    pub(super) fn close_request(&self, end: CertificateEnd) -> CloseRequest {
        match self.clock.load(Relaxed) {
            clock if clock >= end.now => CloseRequest::Expired,
            clock if clock >= end.idle => CloseRequest::Expiring,
            _ => CloseRequest::None,
        }
    }

    fn record(&self, end: CertificateEnd) {
        self.lock().extend([end.idle, end.now]);
    }

    /// Compares the times with the clock. Returns whether one of them has come.
    fn advance(&self, clock: u64) -> bool {
        self.clock.store(clock, Relaxed);
        let mut times = self.lock();
        let later = times.split_off(&(clock + 1));
        !std::mem::replace(&mut *times, later).is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Bounds a connection that is opened now with a certificate that ends at `end`.
    pub(super) fn bound_by(&self, end: SystemTime) -> Option<CertificateEnd> {
        let now = seconds(SystemTime::now());
        let end = CertificateEnd::new(seconds(end), now, self.plan().drain_timeout.as_secs())?;
        self.certificate_ends.record(end);
        Some(end)
    }

    /// Closes connections whose certificate is about to end: during the last `drain_timeout` those that
    /// are idle, at the end all. Runs until dropped; returns at once if the cluster shows no
    /// certificate.
    pub async fn close_expired(self: Arc<Self>) {
        let Some(files) = self.plan().tls.as_ref().and_then(|tls| tls.plan().certificate.clone())
        else {
            return;
        };
        loop {
            time::sleep(INTERVAL).await;
            if self.certificate_ends.advance(seconds(SystemTime::now())) {
                tracing::info!(
                    cluster = &*self.name,
                    file = %files.chain.display(),
                    "a certificate is about to expire: connections that were opened with it close"
                );
                self.notify_connections();
            }
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use CloseRequest::{Expired, Expiring, None as Keep};

    #[test]
    fn a_connection_closes_when_idle_and_at_the_end_at_once() {
        let ends = CertificateEnds::default();
        let end = CertificateEnd::new(1100, 1000, 30).unwrap();
        ends.record(end);
        for (clock, comes, request) in [
            (1001, false, Keep),
            (1068, false, Keep),
            (1069, true, Expiring),
            (1098, false, Expiring),
            (1099, true, Expired),
            (1100, false, Expired),
        ] {
            assert_eq!((ends.advance(clock), ends.close_request(end)), (comes, request), "{clock}");
        }
    }

    #[test]
    fn with_little_time_left_a_connection_is_used_to_the_end() {
        for (opened, closes) in [(1069, 1099), (1098, 1099), (1099, 1100)] {
            let end = CertificateEnd::new(1100, opened, 30).unwrap();
            assert_eq!(end, CertificateEnd { idle: closes, now: closes }, "{opened}");
        }
        assert_eq!(CertificateEnd::new(1100, 1068, 30).unwrap().idle, 1069);
    }

    #[test]
    fn a_certificate_that_has_ended_closes_no_connection() {
        assert_eq!(CertificateEnd::new(1100, 1100, 30), None);
    }

    #[test]
    fn a_time_that_was_skipped_comes_all_the_same() {
        let ends = CertificateEnds::default();
        ends.record(CertificateEnd::new(1100, 1000, 30).unwrap());
        assert!(ends.advance(5000));
        assert!(!ends.advance(5001));
    }
}
