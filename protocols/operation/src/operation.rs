//! The operation: a client's request in terms that every policy understands.

use crate::{
    Attempt, AttributeValue, LoggedValue, LookupRun, OpenSpan, QueryShape, Rejection,
    ResolvedAttribute, SpanConventions,
};
use std::{cell::Cell, net::IpAddr};

/// The attribute with an operation's resources besides the main one: the collections of a `$lookup`,
/// the target of a rename. A policy's `resource` matches these too.
pub const OTHER_RESOURCES: &str = "other_resources";

/// The attribute for whether an operation may change data: `true` or `false`.
pub const WRITES: &str = "writes";

/// The attribute for whether the client backs off before it retries an operation that was rejected
/// because of overload: `true` or `false`.
pub const BACKS_OFF: &str = "backs_off";

/// A client's request. Borrows the read buffer, so that building one allocates nothing.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// The protocol that it was read in.
    pub protocol: &'static Protocol,
    /// The operation's name: `find`, `GET`, `pkg.Service/Call`, `session`.
    pub name: &'a str,
    /// Its target: `shop.orders`, a route's name, or empty. A `?` in place of the whole, of the part
    /// before the first dot, or of the part after it means that this part is not known; a policy that
    /// fails closed treats it as if it could be anything. The same holds for a name of `?`.
    pub resource: &'a str,
    /// The first bytes of the request, which contain its attributes.
    pub head: &'a [u8],
    /// Reads all other attributes, on demand.
    pub attributes: &'a dyn Attributes,
    /// The service may wait with its reply (a tailing cursor, a streaming `hello`): the wait does not
    /// count as latency, nor against time-outs, and does not delay a drain.
    pub long_poll: bool,
    /// It costs the service nothing: a handshake, a login, a ping, or the release of a resource. Limits
    /// do not apply: a client whose ping fails considers the service lost, and an unreleased resource
    /// costs the service more.
    pub limit_exempt: bool,
    /// The attributes `callsite` and `traceparent` may have a value. If `false`, policies skip
    /// the search for them: few operations have one.
    pub may_have_callsite: bool,
    /// Name and resource are from lists that the proxy knows, not invented by a client, so their
    /// metrics have these labels whatever the service replies.
    pub known_names: bool,
    /// Only a part of the request was read, so attributes may be
    /// [`Unread`](crate::AttributeValue::Unread). A gate that needs them returns
    /// [`crate::Verdict::NeedMore`].
    pub partial: bool,
    /// The attribute [`OTHER_RESOURCES`] may have a value.
    pub may_have_other_resources: bool,
    /// The shape of its query; `None` if it is not counted by its shape.
    pub query_shape: Option<QueryShape>,
}

impl<'a> Operation<'a> {
    /// Reads an attribute, such as `app`, `user`, `comment` or `peer`.
    pub fn attribute(&self, name: &str) -> AttributeValue<'a> {
        self.attributes.get(self.head, name)
    }

    /// Whether it may change data; `None` if that is not known.
    pub fn writes(&self) -> Option<bool> {
        self.attribute(WRITES).as_bool()
    }

    /// Whether the client is known to back off before it retries.
    pub fn client_backs_off(&self) -> bool {
        self.attribute(BACKS_OFF).as_bool() == Some(true)
    }
}

/// Attributes of operations that are read on demand, since each takes time.
///
/// `front` is the first bytes of the operation's request. A gate may keep a copy of it, and read
/// attributes from the copy when the operation settles.
pub trait Attributes {
    /// Reads the attribute `name`.
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a>;

    /// Reads an attribute for a log line: the same value as [`get`](Self::get), in the form in which it is
    /// at hand. `None` if it is absent or not known.
    fn logged<'a>(
        &'a self,
        front: &'a [u8],
        attribute: ResolvedAttribute,
    ) -> Option<LoggedValue<'a>> {
        self.get(front, attribute.name).text().map(LoggedValue::Text)
    }

    /// The client's address, which is always at hand.
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// The lookups that the connection has sent last, for observers of repeated ones; `None` if the
    /// connection does not keep them.
    fn lookups(&self) -> Option<&Cell<LookupRun>> {
        None
    }

    /// Called when the operation's span has begun, for protocols that pass its context on.
    fn on_traced(&self, span: OpenSpan) {
        let _ = span;
    }

    /// The operation's span, if [`on_traced`](Self::on_traced) was called, and its attempts.
    fn span(&self) -> Option<(&OpenSpan, Vec<Attempt>)> {
        None
    }

    /// Called when the operation is rejected, before it settles. An implementation that knows the
    /// client's error reply records it for the log line.
    fn on_rejected(&self, rejection: &Rejection) {
        let _ = rejection;
    }
}

/// No attributes at all.
impl Attributes for () {
    fn get<'a>(&'a self, _: &'a [u8], _: &str) -> AttributeValue<'a> {
        AttributeValue::Absent
    }
}

/// The description of a protocol: its name, attributes and extra metrics.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The name in the config, in logs and in metrics: `mongo`, `tcp`.
    pub name: &'static str,
    /// Counts the items in requests and replies: documents, messages.
    /// Labels: listener, operation, resource, direction.
    pub items: Option<ExtraCounter>,
    /// Counts error codes by name. Labels: listener, operation, code.
    pub codes: Option<ExtraCounter>,
    /// Counts the shapes of requests. Labels: listener, resource, shape.
    pub shapes: Option<ExtraCounter>,
    /// The access-log field with the number of items: `documents`.
    pub item_name: &'static str,
    /// Each connection is one operation: a byte stream.
    pub stream: bool,
    /// Every attribute of its operations. A name that ends in a dot stands for all names with this
    /// prefix: `header.`. The place of an attribute is its number: see [`ResolvedAttribute`].
    pub attributes: &'static [&'static str],
    /// Attributes, including common ones, that are known only after admission: for logs, not for
    /// policies.
    pub log_only: &'static [&'static str],
    /// The name of operations that the protocol does not know; empty if it names all.
    pub unknown_operation: &'static str,
    /// Attributes whose values all contain a certain text: name, text, and an example. A glob without
    /// this text and without `*` matches nothing.
    pub value_formats: &'static [(&'static str, &'static str, &'static str)],
    /// Attributes in access-log lines besides the common ones.
    pub logged: &'static [&'static str],
    /// Attributes only in lines of slow operations, since they take more time to read.
    pub logged_when_slow: &'static [&'static str],
    /// Attributes only in lines of slow operations, and only if the operator enabled `values`: they
    /// show the contents of documents.
    pub logged_with_values: &'static [&'static str],
    /// How the spans of its operations are named and described.
    pub span: SpanConventions,
}

impl Protocol {
    /// A protocol without extra attributes and metrics.
    pub const fn plain(name: &'static str) -> Self {
        Self {
            name,
            stream: false,
            items: None,
            codes: None,
            shapes: None,
            item_name: "",
            attributes: &[],
            log_only: &[],
            unknown_operation: "",
            value_formats: &[],
            logged: &[],
            logged_when_slow: &[],
            logged_with_values: &[],
            span: SpanConventions::PLAIN,
        }
    }
}

/// A counter that only one protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraCounter {
    /// The metric's whole name: `tollgate_mongo_documents_total`.
    pub metric: &'static str,
    /// What it counts, in one line.
    pub help: &'static str,
}
