//! What a service says before its answer, as with `103 Early Hints`. It is for the client too (RFC
//! 9110, section 15.2). hyper hands it on to nobody, and so the line writes it, between two answers.

use crate::hygiene;
use http::{
    HeaderMap, StatusCode, Version,
    header::{CONTENT_LENGTH, TRAILER},
};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// How much of it may wait for a client that takes nothing, in bytes. What is more is lost.
const MOST: usize = 64 * 1024;

/// Heads of 1xx that the client is still to be told.
#[derive(Debug, Default)]
pub(crate) struct InformationalQueue {
    any: AtomicBool,
    heads: Mutex<Vec<u8>>,
}

impl InformationalQueue {
    /// A service said it, of the request that is under way.
    pub(crate) fn say(&self, status: StatusCode, headers: &HeaderMap) {
        let head = head(status, headers.clone());
        let Ok(mut heads) = self.heads.lock() else { return };
        if heads.len() + head.len() <= MOST {
            heads.extend_from_slice(&head);
            self.any.store(true, Ordering::Relaxed);
        }
    }

    /// All that is to be told, in HTTP/1.1.
    pub(crate) fn take(&self) -> Vec<u8> {
        if !self.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.any.store(false, Ordering::Relaxed);
        self.heads.lock().map(|mut heads| std::mem::take(&mut *heads)).unwrap_or_default()
    }
}

fn head(status: StatusCode, mut headers: HeaderMap) -> Vec<u8> {
    hygiene::strip(&mut headers, Version::HTTP_11);
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
