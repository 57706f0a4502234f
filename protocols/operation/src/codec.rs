//! Codecs: bytes in, operations out, and rejections in the protocol's own messages.

use crate::{AttributeValue, Outcome, Protocol, RejectReason, RejectionRef, Violation};
use bytes::{Bytes, BytesMut};
use std::{net::SocketAddr, sync::Arc};

/// Ties a reply to its request: an id off the wire, or a count where replies keep order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// The two ends of a connection, as far as a codec may know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address at which the client reached the proxy.
    pub local: SocketAddr,
}

/// A request, as found at the front of a buffer. Its words come from [`Codec::names`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `None` when no reply will come: the operation then settles when its request has passed.
    pub tag: Option<Tag>,
    /// See [`crate::Operation::long_poll`].
    pub long_poll: bool,
    /// See [`crate::Operation::limit_exempt`].
    pub limit_exempt: bool,
    /// See [`crate::Operation::may_have_callsite`].
    pub may_have_callsite: bool,
    /// See [`crate::Operation::partial`]: only a part of the request was read, and the rest may
    /// have more facts. The relay may then call [`Codec::reread`].
    pub partial: bool,
    /// See [`crate::Operation::may_have_other_resources`].
    pub may_have_other_resources: bool,
    /// What kind of request this is, for protocols that have shapes (see [`Protocol::shapes`]).
    pub shape: Option<&'static str>,
    /// The message breaks a rule but can be stepped over: counted, passed on, and reading resumes.
    pub violation: Option<Violation>,
}

/// The words for the request that [`Codec::request`] marked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationNames<'b> {
    /// The operation's name: `find`.
    pub name: &'b str,
    /// What it is about: `shop.orders`.
    pub resource: &'b str,
}

/// Details from the rest of a request whose operation was admitted with less: see
/// [`Codec::late_details`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateDetails {
    /// The operation's name.
    pub name: Box<str>,
    /// What it is about.
    pub resource: Box<str>,
    /// Bytes that [`Codec::attribute`] takes as the front of the request, with every fact in them
    /// that was read; bounded, however long the request was.
    pub head: Box<[u8]>,
}

/// The end of an operation, as its last reply reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request that this answers.
    pub tag: Tag,
    /// How it ended.
    pub outcome: Outcome,
    /// The error's name, from a list that the codec knows; never a peer's own words.
    pub code: Option<&'static str>,
    /// How many items (documents, messages) the replies carried.
    pub items: u64,
    /// A successful reply proves that the named resource exists: the service checks the client,
    /// and the name.
    pub confirms_names: bool,
    /// A greeting or a ping: its success says nothing about the service's work.
    pub is_control: bool,
    /// The message breaks a rule but can be stepped over.
    pub violation: Option<Violation>,
}

/// What to do with the bytes at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<M> {
    /// Keep them: nothing can be said before `n` bytes are here. `n` is more than there are.
    Hold(usize),
    /// Let the next `len` bytes through untouched, those here and those still to come. The more
    /// that leaves unseen, the cheaper: what is long need not enter the proxy's memory.
    Pass {
        /// How many bytes; `u64::MAX` means all there will ever be.
        len: u64,
        /// What begins (a request) or ended (a reply) with these bytes.
        mark: Option<M>,
        /// Whether the message ends with these bytes.
        ends: bool,
    },
    /// Let none of the next `len` bytes through, those here and those still to come. Only of
    /// replies to abandoned requests (see [`Codec::give_up`]).
    Drop {
        /// How many bytes.
        len: u64,
        /// Whether the message ends with these bytes.
        ends: bool,
    },
    /// The message under way breaks a rule that it seemed to keep when its request was marked: it is
    /// counted, and where a policy guards the connection is closed before the message can end. The
    /// codec is asked about the same bytes again otherwise. Only of requests.
    Violates(Violation),
    /// Replace the next `len` bytes, which are all here, by `with`. The message ends.
    Swap {
        /// How many bytes are replaced.
        len: usize,
        /// What goes on instead.
        with: Bytes,
        /// What begins or ended with these bytes.
        mark: Option<M>,
    },
}

impl<M> Next<M> {
    /// A whole message.
    pub fn whole(len: u64, mark: M) -> Self {
        Next::Pass { len, mark: Some(mark), ends: true }
    }

    /// The front of a message, with more to come.
    pub fn start(len: u64, mark: M) -> Self {
        Next::Pass { len, mark: Some(mark), ends: false }
    }

    /// More of a message.
    pub fn more(len: u64) -> Self {
        Next::Pass { len, mark: None, ends: false }
    }
}

/// Finds operations in the bytes of one connection.
///
/// A codec does no I/O, has no clock and keeps only the bytes that it needs to name what it saw. It
/// answers questions about a slice; the relay moves the bytes.
///
/// An `Err` from [`request`](Codec::request) or [`reply`](Codec::reply) says that framing is
/// lost: nothing after these bytes can be read. A single message that can't be read is no error:
/// the codec marks it with a [`Violation`] and resumes at the next one. Bytes from a peer must
/// never make a codec panic, nor make it reserve memory by a length that the peer claims.
pub trait Codec: Sized + 'static {
    /// What the protocol is called, and what it counts.
    const PROTOCOL: Protocol;

    /// What all connections of one listener share: settings, and tables of bounded size.
    type Shared: Send + Sync + 'static;

    /// The codec of one connection.
    fn new(shared: &Arc<Self::Shared>, link: ConnectionInfo) -> Self;

    /// What to do with the bytes at the front of the client's stream.
    ///
    /// Called first with no bytes at all, so that a protocol whose operation is the connection
    /// can begin it. A [`Request`] is marked on the first bytes of a message only; if the relay
    /// drops the message because it was refused, it goes on asking until the message ends.
    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation>;

    /// The words for the request marked last; `front` is what `request` was given.
    fn names<'b>(&'b self, front: &'b [u8]) -> OperationNames<'b>;

    /// How many items the request that ended last carried.
    fn request_items(&self) -> u64 {
        0
    }

    /// What to do with the bytes at the front of the upstream's stream.
    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation>;

    /// What is known of a fact about the connection, or about the request whose front bytes these
    /// are.
    fn attribute<'b>(&'b self, _front: &'b [u8], _name: &str) -> AttributeValue<'b> {
        AttributeValue::Absent
    }

    /// The same for a fact that was unread in `front`, with what the rest of the request contained.
    fn late_attribute<'b>(
        &'b self,
        _front: &'b [u8],
        learned: &'b LateDetails,
        name: &str,
    ) -> AttributeValue<'b> {
        self.attribute(&learned.head, name)
    }

    /// The request marked last, which was [`partial`](Request::partial), does not go on yet: a
    /// policy needs a fact that stands further on. The codec forgets the request, and returns how
    /// many bytes from its first one [`request`](Codec::request) has to be given to know more:
    /// more than it was given last. It is then asked about the same request again.
    ///
    /// `front` is what `request` was given.
    fn reread(&mut self, _tag: Option<Tag>, _front: &[u8]) -> usize {
        0
    }

    /// How many bytes the codec itself keeps of the request marked last, beyond what it keeps of
    /// any request: such as what was inflated to read it.
    fn retained_bytes(&self) -> usize {
        0
    }

    /// The facts in the rest of the request that ended last, if there were more than in its front.
    /// Called once, when the request has passed.
    fn late_details(&mut self) -> Option<Box<LateDetails>> {
        None
    }

    /// Whether this violation can only be an attack: the connection is then closed even where
    /// the listener only observes.
    fn is_hostile(_violation: Violation) -> bool {
        false
    }

    /// Writes the protocol's own error reply to the request with this tag. The codec then expects
    /// no reply to it. The client gets the error in the request's turn: a codec that matches
    /// replies to requests by their order has to delay it while older requests wait for theirs.
    /// Returns `false` if the protocol has no error reply and the connection must be closed.
    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool;

    /// Whether closing the connection is better for the client of this request than an error reply
    /// with this reason, to which it would react too strongly. `others`: whether connections to the
    /// service are open, which may be the client's.
    fn prefers_close(&self, _tag: Tag, _reason: RejectReason, _others: bool) -> bool {
        false
    }

    /// Answers a forwarded request instead of the service, and drops the service's own reply if it
    /// comes late. Returns `false`, having done nothing, if the protocol can't distinguish that
    /// reply from others and the connection must be closed.
    fn give_up(&mut self, _tag: Tag, _why: &RejectionRef<'_>, _out: &mut BytesMut) -> bool {
        false
    }

    /// A notice about the service for operators, found in replies to greetings. Each notice is
    /// returned once for all connections of a listener.
    fn operator_notice(&mut self) -> Option<String> {
        None
    }
}
