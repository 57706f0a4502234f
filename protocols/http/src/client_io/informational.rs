//! 1xx responses of services, such as `103 Early Hints`, which are for the client too (RFC 9110,
//! section 15.2). hyper does not forward them, so `ClientIo` writes them between two responses.

use crate::header_policy;
use http::{
    HeaderMap, StatusCode, Version,
    header::{CONTENT_LENGTH, TRAILER},
};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// Most bytes queued for a client that does not read. Further heads are dropped.
const MAX_BYTES: usize = 64 * 1024;

/// 1xx heads to be sent to the client.
#[derive(Debug, Default)]
pub(crate) struct InformationalQueue {
    non_empty: AtomicBool,
    heads: Mutex<Vec<u8>>,
}

impl InformationalQueue {
    /// Queues a head that a service sent for the request in flight.
    pub(crate) fn push(&self, status: StatusCode, headers: &HeaderMap) {
        let head = head(status, headers.clone());
        let Ok(mut heads) = self.heads.lock() else { return };
        if heads.len() + head.len() <= MAX_BYTES {
            heads.extend_from_slice(&head);
            self.non_empty.store(true, Ordering::Relaxed);
        }
    }

    /// Takes all queued heads, in HTTP/1.1 encoding.
    pub(crate) fn take(&self) -> Vec<u8> {
        if !self.non_empty.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.non_empty.store(false, Ordering::Relaxed);
        self.heads.lock().map(|mut heads| std::mem::take(&mut *heads)).unwrap_or_default()
    }
}

fn head(status: StatusCode, mut headers: HeaderMap) -> Vec<u8> {
    header_policy::strip(&mut headers, Version::HTTP_11);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
