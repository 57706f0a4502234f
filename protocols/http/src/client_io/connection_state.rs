//! Shared state of a client's connection.

use super::informational::InformationalQueue;
use crate::h1_validator::H1Error;
use std::{cell::Cell, sync::Arc, time::Instant};

/// State of a client's connection, shared by its I/O and its requests.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// Operations in flight.
    pub(crate) active_operations: Cell<usize>,
    /// The error of an invalid request, until it is answered.
    pub(crate) h1_error: Cell<Option<H1Error>>,
    /// An invalid request was received.
    pub(crate) had_h1_error: Cell<bool>,
    /// The connection is to be closed by a reset.
    pub(crate) reset_on_close: Cell<bool>,
    /// Responses sent in HTTP.
    pub(crate) responses: Cell<u64>,
    /// When a byte was last read or written.
    pub(crate) last_activity: Cell<Option<Instant>>,
    /// Since when a head is incomplete, or the client is awaited in the middle of a body.
    pub(crate) incomplete_since: Cell<Option<Instant>>,
    /// The client read nothing for `write_timeout`.
    pub(crate) write_stalled: Cell<bool>,
    /// Bytes received.
    pub(crate) bytes_received: Cell<u64>,
    /// The client uses HTTP/2.
    pub(crate) http2: Cell<bool>,
    /// A header name may have characters other than letters, digits and `-`.
    pub(crate) has_odd_names: Cell<bool>,
    /// An HTTP/2 client exceeded its header budget: it gets GOAWAY and is closed.
    pub(crate) header_flood: Cell<bool>,
    /// Reading or writing the socket failed.
    pub(crate) socket_failed: Cell<bool>,
    /// A half-closed client may still wait for its response.
    pub(crate) allow_half_close: Cell<bool>,
    /// The body of the current request is incomplete.
    pub(crate) body_incomplete: Cell<bool>,
    /// The request's body will not be read to its end, so the connection can hardly be reused.
    pub(crate) body_abandoned: Cell<bool>,
    /// A request was received, and its response has not started.
    pub(crate) response_due: Cell<bool>,
    /// The client closed the connection while a response was due.
    pub(crate) client_left: Cell<bool>,
    /// The client closed its sending side.
    pub(crate) read_eof: Cell<bool>,
    /// 1xx heads to be sent.
    pub(crate) informational: Arc<InformationalQueue>,
    /// hyper has flushed everything.
    pub(super) flushed: Cell<bool>,
}

impl ConnectionState {
    /// The response is ready: 1xx heads that cannot be sent before it are dropped.
    pub(crate) fn discard_informational(&self) {
        if !self.flushed.get() {
            self.informational.take();
        }
    }
}
