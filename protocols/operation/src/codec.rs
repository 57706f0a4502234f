//! Codecs: bytes in, operations out, and rejections in the protocol's own messages.

use crate::{
    AttributeSet, AttributeValue, CursorChange, LocalAnswer, MirroredRead, Next, Orphan, Outcome,
    PinChange, Placement, PoolUser, Protocol, QueryShape, ReadPreference, ReadRoute, Recovery,
    RejectReason, Rejection, RejectionRef, ServiceQuery, TakenUpstream, UpstreamUse, Violation,
};
use bytes::{Bytes, BytesMut};
use std::{net::SocketAddr, sync::Arc};

/// The most requests in flight of one connection that are tracked. Clients have one or a few.
pub const MAX_IN_FLIGHT: usize = 1000;

/// Identifies the request of a reply: the protocol's request id, or a counter if replies come in the
/// order of requests.
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

/// A request found at the front of a buffer. [`Codec::names`] returns its name and resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `None` if no reply will come: the operation then settles when its request has passed.
    pub tag: Option<Tag>,
    /// See [`crate::Operation::long_poll`].
    pub long_poll: bool,
    /// See [`crate::Operation::limit_exempt`].
    pub limit_exempt: bool,
    /// See [`crate::Operation::may_have_callsite`].
    pub may_have_callsite: bool,
    /// See [`crate::Operation::partial`]: only a part of the request was read, and the rest may
    /// contain more attributes. The relay may then call [`Codec::reread`].
    pub partial: bool,
    /// See [`crate::Operation::may_have_other_resources`].
    pub may_have_other_resources: bool,
    /// The label of the request's shape, for protocols that count shapes (see [`Protocol::shapes`]).
    pub shape: Option<&'static str>,
    /// See [`crate::Operation::query_shape`].
    pub query_shape: Option<QueryShape>,
    /// Attributes that the request is known not to have. Log lines do not ask for them.
    pub absent: AttributeSet,
    /// The message violates the protocol but its length is known: it is counted and forwarded, and
    /// reading resumes after it.
    pub violation: Option<Violation>,
}

/// The name and resource of the request that [`Codec::request`] marked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationNames<'b> {
    /// The operation's name: `find`.
    pub name: &'b str,
    /// The operation's target: `shop.orders`.
    pub resource: &'b str,
}

/// Details found in the rest of a request after its operation was admitted: see
/// [`Codec::late_details`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateDetails {
    /// The operation's name.
    pub name: Box<str>,
    /// The operation's target.
    pub resource: Box<str>,
    /// Bytes for [`Codec::attribute`] to read in place of the request's front. They contain every
    /// attribute that was found; their length is bounded.
    pub head: Box<[u8]>,
}

/// The end of an operation, as reported by its last reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The tag of the request.
    pub tag: Tag,
    /// How the operation ended.
    pub outcome: Outcome,
    /// The error's name, from the codec's own list; never text from the service.
    pub code: Option<&'static str>,
    /// How many items (documents, messages) the replies carried.
    pub items: u64,
    /// A successful reply to this operation proves that the named resource exists: the service checks
    /// the client's permissions and the name.
    pub confirms_names: bool,
    /// The operation is a handshake or a ping: its success does not show that the service works.
    pub is_control: bool,
    /// What later operations continue at this endpoint.
    pub pin: Option<PinChange>,
    /// What the operation has done with a cursor, for observers.
    pub cursor: Option<CursorChange>,
    /// The endpoint has lost the role for which it got the request: it is not used until its monitor has
    /// asked it again.
    pub lost_role: bool,
    /// The message violates the protocol but its length is known; see [`Request::violation`].
    pub violation: Option<Violation>,
}

impl Reply {
    /// A reply without details.
    pub fn new(tag: Tag, outcome: Outcome) -> Self {
        Self {
            tag,
            outcome,
            code: None,
            items: 0,
            confirms_names: false,
            is_control: false,
            pin: None,
            cursor: None,
            lost_role: false,
            violation: None,
        }
    }
}

/// Finds operations in the bytes of one connection.
///
/// A codec does no I/O, has no clock, and keeps only the bytes that it needs for names. It examines
/// slices; the relay moves the bytes.
///
/// An `Err` from [`request`](Codec::request) or [`reply`](Codec::reply) means that framing is lost:
/// nothing after these bytes can be read. A single message that can't be read is no error: the
/// codec marks it with a [`Violation`] and resumes at the next one. Bytes from a peer must never
/// make a codec panic, or allocate memory by a length that the peer claims.
pub trait Codec: Sized + 'static {
    /// The protocol's description.
    const PROTOCOL: Protocol;

    /// State shared by all connections of one listener: settings, and tables of bounded size.
    type Shared: Send + Sync + 'static;

    /// The codec of one connection.
    fn new(shared: &Arc<Self::Shared>, link: ConnectionInfo) -> Self;

    /// What to do with the bytes at the front of the client's stream.
    ///
    /// The first call has no bytes, so that a protocol whose operation is the connection can mark it.
    /// Only the first bytes of a message mark a [`Request`]. If the relay discards a rejected message,
    /// it still calls this until the message ends.
    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation>;

    /// The name and resource of the request marked last; `front` is the slice given to `request`.
    fn names<'b>(&'b self, front: &'b [u8]) -> OperationNames<'b>;

    /// The number of items in the request that ended last.
    fn request_items(&self) -> u64 {
        0
    }

    /// What to do with the bytes at the front of the upstream's stream.
    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation>;

    /// The attribute `name` of the connection, or of the request that begins with these bytes.
    fn attribute<'b>(&'b self, _front: &'b [u8], _name: &str) -> AttributeValue<'b> {
        AttributeValue::Absent
    }

    /// An attribute that was unread in `front`, read again with the details from the rest of the
    /// request.
    fn late_attribute<'b>(
        &'b self,
        _front: &'b [u8],
        details: &'b LateDetails,
        name: &str,
    ) -> AttributeValue<'b> {
        self.attribute(&details.head, name)
    }

    /// Called when the request marked last was [`partial`](Request::partial) and a policy needs an
    /// attribute from its unread rest. The codec forgets the request. Returns the number of bytes,
    /// counted from the request's first one, that [`request`](Codec::request) needs to know more: more
    /// than `front`, the slice that it was given. The relay then calls `request` for it again.
    fn reread(&mut self, _tag: Option<Tag>, _front: &[u8]) -> usize {
        0
    }

    /// The number of bytes that the codec keeps only because of the request marked last, such as
    /// decompressed data. They count against the listener's `max_held_bytes`.
    fn retained_bytes(&self) -> usize {
        0
    }

    /// Details from the rest of the request that ended last, if it had more than its front. Called
    /// once, when the request has passed.
    fn late_details(&mut self) -> Option<Box<LateDetails>> {
        None
    }

    /// Whether this violation can only be an attack: the connection is then closed whatever the
    /// listener's `on_violation` is.
    fn is_hostile(_violation: Violation) -> bool {
        false
    }

    /// Called before [`reject`](Codec::reject) when a policy rejects the request marked last. Returns a
    /// request for the service in its place, if the service must know of the rejection: a request that
    /// fails, so that a transaction cannot commit without the rejected one. Its reply is the reply to
    /// this tag; the codec replaces it by the rejection ([`Next::Swap`]). `None`: the service gets
    /// nothing, and `reject` is called.
    fn replace_rejected(&mut self, _tag: Tag, _why: &RejectionRef<'_>) -> Option<Bytes> {
        None
    }

    /// Writes the protocol's error reply to the request with this tag, which is not forwarded: the
    /// service sends no reply to it. Called as soon as the request is rejected, when replies to older
    /// requests may still be due; the relay sends the error after these. Returns `false` if the
    /// protocol has no error reply and the connection must be closed.
    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool;

    /// Whether the relay should close the connection instead of sending an error reply with this
    /// reason, because clients overreact to the error. `others`: whether the cluster has other open
    /// connections, which may be this client's.
    fn prefers_close(&self, _tag: Tag, _reason: RejectReason, _others: bool) -> bool {
        false
    }

    /// Writes an error reply to a forwarded request, and discards the service's reply if it arrives
    /// later. Returns `false` without an effect if the protocol can't distinguish that reply from
    /// others and the connection must be closed.
    fn give_up(&mut self, _tag: Tag, _why: &RejectionRef<'_>, _out: &mut BytesMut) -> bool {
        false
    }

    /// Writes the next reply to a request for which the codec has returned [`Next::Answer`].
    fn answer(&mut self, _tag: Tag, _out: &mut BytesMut) -> LocalAnswer {
        LocalAnswer::Done
    }

    /// The subject of the client's certificate, as RFC 4514 writes it: the proxy has verified the
    /// certificate. Called before the first request, where operations take their connections of a pool.
    fn client_certificate(&mut self, subject: &str) {
        let _ = subject;
    }

    /// What the service must be asked before the request can be answered: see
    /// [`LocalAnswer::NeedsQuery`].
    fn query(&mut self) -> Option<ServiceQuery> {
        None
    }

    /// The user with whose rights operations are done. Asked where operations take their connections of a
    /// pool; `None`: the connection has no user.
    fn upstream_user(&self) -> Option<&PoolUser> {
        None
    }

    /// Why the codec refuses the request marked last, which policies have admitted: the client has not
    /// logged in. Asked where operations take their connections of a pool.
    fn refusal(&mut self) -> Option<Rejection> {
        None
    }

    /// Where the request marked last may go. Asked where operations take their connections of a pool.
    fn placement(&self) -> Placement {
        Placement::Primary
    }

    /// Whether a copy of the request marked last is needed, for [`Next::Resend`]. Asked where operations
    /// take their connections of a pool, if the whole request is in the buffer.
    fn keeps_request(&self) -> bool {
        false
    }

    /// The request marked last for a second cluster, which gets it after the client was answered; `None` if
    /// it is no read whose answer ends with one reply. `request` is the whole request as it is sent. With
    /// `keeps_answer` the codec keeps a copy of the reply. Asked where operations take their connections of
    /// a pool and their listener has a mirror.
    fn mirrored_read(&mut self, request: &[u8], keeps_answer: bool) -> Option<MirroredRead> {
        let _ = (request, keeps_answer);
        None
    }

    /// The copy of the reply that [`mirrored_read`](Codec::mirrored_read) has asked for; `None` if it was too
    /// long.
    fn mirrored_answer(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// How the request marked last goes on if its endpoint or its client fails. Asked where operations
    /// take their connections of a pool.
    fn recovery(&self) -> Recovery {
        Recovery::default()
    }

    /// The copy of the request marked last, as it is sent again.
    fn rewrite_resent(&mut self, request: Box<[u8]>) -> Box<[u8]> {
        request
    }

    /// A policy routes the request marked last by this preference, instead of the request's own. `front` is
    /// the slice given to [`request`](Codec::request).
    fn route_read(&mut self, front: &[u8], preference: &ReadPreference) -> ReadRoute {
        let _ = (front, preference);
        ReadRoute::NotRoutable
    }

    /// Changes the front of the request marked last before it is forwarded, for example so that the service
    /// does it once however often it arrives: how many bytes are replaced, and with which. `front` is the slice given to [`request`](Codec::request). Asked where operations take
    /// their connections of a pool, unless [`route_read`](Codec::route_read) has changed the front.
    fn edit_front(&mut self, front: &[u8]) -> Option<(usize, Bytes)> {
        let _ = front;
        None
    }

    /// Whether the request marked last continues what the client has open at the service, such as a
    /// transaction or a cursor. It is not held back while its cluster is paused, so that this can end. Asked
    /// where operations take their connections of a pool.
    fn continues_state(&self) -> bool {
        false
    }

    /// Whether the client can go on when its cluster points to another service from now on. If not, its
    /// connection closes when it is idle. Asked where operations take their connections of a pool.
    fn outlives_switch(&self) -> bool {
        false
    }

    /// The request marked last goes to this endpoint. Called where operations take their connections of
    /// a pool, before the request is sent.
    fn upstream_taken(&mut self, upstream: TakenUpstream) {
        let _ = upstream;
    }

    /// Whether the upstream connection may serve another client, asked at the end of a reply when no
    /// operation is in flight.
    fn upstream_use(&self) -> UpstreamUse {
        UpstreamUse::Free
    }

    /// What the client has open at services and leaves behind. Called when the client's connection has
    /// ended, where operations take their connections of a pool.
    fn left_behind(&mut self) -> Vec<Box<dyn Orphan>> {
        Vec::new()
    }

    /// A notice about the service for operators, found in handshake replies. Each notice is returned
    /// once for all connections of a listener.
    fn operator_notice(&mut self) -> Option<String> {
        None
    }
}
