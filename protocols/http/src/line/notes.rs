//! What a client's connection tells of itself.

use super::early::InformationalQueue;
use crate::screen::H1Error;
use std::{cell::Cell, sync::Arc, time::Instant};

/// What a connection's bytes have told, for whoever serves its requests.
#[derive(Default)]
pub(crate) struct ConnectionState {
    /// How many operations are under way.
    pub(crate) busy: Cell<usize>,
    /// What is wrong with the request that can't be read.
    pub(crate) fault: Cell<Option<H1Error>>,
    /// There was such a request.
    pub(crate) faulty: Cell<bool>,
    /// The connection is to end with a reset.
    pub(crate) reset: Cell<bool>,
    /// How many requests were answered in HTTP.
    pub(crate) answered: Cell<u64>,
    /// When a byte was read or written last.
    pub(crate) moved: Cell<Option<Instant>>,
    /// Since when the client owes the rest of a head, or is waited for in the middle of a body.
    pub(crate) owes_since: Cell<Option<Instant>>,
    /// The client took nothing for as long as it may.
    pub(crate) stalled: Cell<bool>,
    /// How many bytes were read.
    pub(crate) received: Cell<u64>,
    /// The client speaks HTTP/2.
    pub(crate) http2: Cell<bool>,
    /// A header of some request may have a name of other characters than letters, digits and `-`.
    pub(crate) odd_names: Cell<bool>,
    /// A client of HTTP/2 asks for too much: it is told so, and its connection ends.
    pub(crate) flood: Cell<bool>,
    /// The client's socket broke.
    pub(crate) broken: Cell<bool>,
    /// A client that has ended its half may wait for its answer.
    pub(crate) half_close: Cell<bool>,
    /// The rest of a request's body has not come.
    pub(crate) in_body: Cell<bool>,
    /// The request's body is not read to its end, so that its connection can hardly go on.
    pub(crate) unread: Cell<bool>,
    /// A request was read, and its answer has not begun.
    pub(crate) due: Cell<bool>,
    /// The client closed its connection while an answer was due.
    pub(crate) left: Cell<bool>,
    /// The client ended its half.
    pub(crate) ended: Cell<bool>,
    /// What a service says before its answer.
    pub(crate) early: Arc<InformationalQueue>,
    /// All that hyper had to write was written.
    pub(super) at_rest: Cell<bool>,
}

impl ConnectionState {
    /// The answer is here. What was said before it, and can't be written ahead of it, is lost.
    pub(crate) fn forget_early(&self) {
        if !self.at_rest.get() {
            self.early.take();
        }
    }
}
