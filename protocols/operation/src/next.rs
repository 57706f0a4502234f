//! What a codec decides about the bytes at the front of a buffer, and about where a request goes.

use crate::Violation;
use bytes::Bytes;
use std::{net::SocketAddr, time::Duration};

/// The endpoint that an operation goes to: see [`Codec::upstream_taken`](crate::Codec::upstream_taken).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenUpstream {
    /// Its address.
    pub endpoint: SocketAddr,
    /// There are endpoints that the request was not sent to yet, and that may hold what it continues.
    pub has_untried: bool,
    /// The request may be sent again.
    pub may_resend: bool,
}

/// How a read goes where a policy routes it: see [`Codec::route_read`](crate::Codec::route_read).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRoute {
    /// The request is no read, or it has to go where the ones before it went.
    NotRoutable,
    /// The request goes there as it is.
    Unchanged,
    /// The request's first bytes are replaced, so that the endpoint accepts it.
    Rewritten {
        /// How many bytes are replaced.
        len: usize,
        /// The replacement.
        with: Bytes,
    },
}

/// What a pooled upstream connection may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamUse {
    /// Operations of any client.
    Free,
    /// Operations of this client, for now.
    Held,
    /// Operations of this client, as long as it lasts: the connection has a state that other clients must
    /// not see, such as a logged-in user.
    Own,
}

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendReason {
    /// The endpoint does not hold what the request continues: one that was not asked gets it. Only while
    /// [`TakenUpstream::has_untried`].
    NotHeld,
    /// The endpoint has lost the role for which it got the request: it is in doubt, and one that fits gets
    /// it. Only while [`TakenUpstream::may_resend`].
    LostRole,
    /// The endpoint can't do the request in the form that the codec has given it: see
    /// [`Codec::rewrite_resent`](crate::Codec::rewrite_resent). Only while [`TakenUpstream::may_resend`].
    Unsupported,
    /// The connection was lost before the reply began. The relay's own: see
    /// [`Codec::recovery`](crate::Codec::recovery).
    LostConnection,
}

impl ResendReason {
    /// As metrics label it.
    pub fn as_str(self) -> &'static str {
        match self {
            ResendReason::NotHeld => "cursor",
            ResendReason::LostRole => "role",
            ResendReason::Unsupported => "unsupported",
            ResendReason::LostConnection => "connection",
        }
    }
}

/// What to do with the bytes at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<M> {
    /// Keep them: at least `n` bytes are needed to decide. `n` is more than the buffer has.
    Hold(usize),
    /// Forward the next `len` bytes unchanged, buffered ones and later ones. Long parts should be passed
    /// with one answer: they need not enter the proxy's memory.
    Pass {
        /// How many bytes; `u64::MAX` means the whole rest of the stream.
        len: u64,
        /// The request that begins, or the operation that ends, with these bytes.
        mark: Option<M>,
        /// Whether the message ends with these bytes.
        ends: bool,
    },
    /// Forward the next `len` bytes unchanged, like `Pass`, but as a part of a message that answers no
    /// request: a push of Redis, a notice of PostgreSQL. They do not count for the operations in flight:
    /// not for their time limits, faults, bandwidth or bytes. All parts of the message are passed so.
    /// Only for replies.
    PassUnsolicited {
        /// How many bytes.
        len: u64,
        /// Whether the message ends with these bytes.
        ends: bool,
    },
    /// Discard the next `len` bytes, buffered ones and later ones. Only for replies to abandoned
    /// requests (see [`Codec::give_up`](crate::Codec::give_up)).
    Drop {
        /// How many bytes.
        len: u64,
        /// Whether the message ends with these bytes.
        ends: bool,
    },
    /// A protocol violation was found in the rest of a request that is already marked. The relay counts
    /// it. If a policy of the listener fails closed, it closes the connection before the message ends;
    /// otherwise it calls the codec again with the same bytes. Only for requests.
    Violates(Violation),
    /// Replace the next `len` bytes, which are all in the buffer, with `with`. The message ends.
    Swap {
        /// How many bytes are replaced.
        len: usize,
        /// The replacement.
        with: Bytes,
        /// The request that begins, or the operation that ends, with these bytes.
        mark: Option<M>,
    },
    /// The endpoint has not done what this reply answers: its `len` bytes, which are all in the buffer, are
    /// discarded, and the request is sent to another endpoint. Only for replies to a request of which
    /// [`Codec::keeps_request`](crate::Codec::keeps_request) has asked for a copy.
    Resend {
        /// The length of the reply.
        len: usize,
        /// Why.
        reason: ResendReason,
    },
    /// The codec answers this request in the service's place. Its `len` bytes, which are all in the
    /// buffer, are discarded, and [`Codec::answer`](crate::Codec::answer) is called when the request is
    /// admitted. Only for requests.
    Answer {
        /// The length of the request.
        len: usize,
        /// The request.
        mark: M,
    },
}

/// What follows an answer of the codec's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalAnswer {
    /// The last reply to the request was written.
    Done,
    /// Another reply is due after this time. At most one request of a connection may wait so.
    Later(Duration),
    /// Nothing was written: the answer depends on what the handshake with a service shows. The relay
    /// takes a connection of the pool, gives it back, and asks again.
    NeedsUpstream,
    /// Nothing was written: the answer depends on that of [`Codec::query`](crate::Codec::query). The relay
    /// asks the service, and then the codec again.
    NeedsQuery,
    /// The last reply to the request was written, and it is an error with this name, from the codec's own
    /// list.
    Failed(&'static str),
}

impl<M> Next<M> {
    /// A whole message.
    pub fn whole(len: u64, mark: M) -> Self {
        Next::Pass { len, mark: Some(mark), ends: true }
    }

    /// The first bytes of a message that continues.
    pub fn start(len: u64, mark: M) -> Self {
        Next::Pass { len, mark: Some(mark), ends: false }
    }

    /// More bytes of a message that continues.
    pub fn more(len: u64) -> Self {
        Next::Pass { len, mark: None, ends: false }
    }
}
