//! Reads that a mirror gets too, after their clients were answered.

use super::{Relay, in_flight::InFlightRequest};
use cluster::Mirror;
use operation::{Codec, MirroredRead, Outcome, Reply};
use std::{rc::Rc, time::Instant};

/// What a mirror gets of one client's operations.
pub(super) struct MirroredReads {
    mirror: Rc<Mirror>,
    /// The read under way, if the mirror gets it.
    read: Option<Box<MirroredRead>>,
}

impl MirroredReads {
    /// Nothing yet.
    pub(super) fn new(mirror: Rc<Mirror>) -> Self {
        Self { mirror, read: None }
    }

    /// Forgets the read that was under way.
    pub(super) fn forget(&mut self) {
        self.read = None;
    }
}

impl<C: Codec> Relay<C> {
    /// Keeps a copy of the request at the front for the mirror, if that gets it. A request that is sent again
    /// was chosen, or not, before.
    pub(super) fn keep_for_mirror(&mut self, is_first: bool) {
        let Some(reads) = self.upstream.mirrored() else { return };
        if !is_first || self.front.action.is_some() || !reads.mirror.chooses() {
            return;
        }
        if let Some(request) = self.requests.whole_front() {
            let read = self.codec.mirrored_read(request, reads.mirror.compares());
            reads.read = read.map(Box::new);
        }
    }

    /// Sends the read that has ended with this reply to the mirror, if it was chosen.
    pub(super) fn mirror_read(&mut self, open: &InFlightRequest, reply: &Reply, now: Instant) {
        let Some(reads) = self.upstream.mirrored() else { return };
        let Some(read) = reads.read.take() else { return };
        // What has opened something is answered by several replies.
        if reply.outcome != Outcome::Ok || reply.cursor.is_some() {
            return;
        }
        let took = now.saturating_duration_since(open.started);
        let took = took.saturating_sub(open.pool_wait.unwrap_or_default());
        reads.mirror.send(*read, self.codec.mirrored_answer(), took);
    }
}
