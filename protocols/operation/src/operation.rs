//! What a client asked for, in words that every policy understands.

use crate::{AttributeValue, Rejection};
use std::net::IpAddr;

/// The attribute for an operation's further resources, beside its main one: the collections
/// of a `$lookup`, the target of a rename. Policies match `resource` by these as well.
pub const OTHER_RESOURCES: &str = "other_resources";

/// The attribute for whether an operation may change something: `true` or `false`.
pub const WRITES: &str = "writes";

/// The attribute for whether the client waits before it tries again, if an operation is rejected
/// because of overload: `true` or `false`.
pub const BACKS_OFF: &str = "backs_off";

/// What a client asked for. Borrows the read buffer: building one allocates nothing.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// The protocol it was found in.
    pub protocol: &'static Protocol,
    /// What to do: `find`, `GET`, `pkg.Service/Call`, `session`.
    pub name: &'a str,
    /// What to do it to: `shop.orders`, a route's name, or nothing. A `?` instead of all of it, of
    /// the part before its first dot, or of the part after it, means that this is not known; a
    /// policy that guards treats it as if it could be anything. A name of `?` does the same.
    pub resource: &'a str,
    /// The bytes at the front of the request that its attributes are found in.
    pub head: &'a [u8],
    /// Everything else, found only when a policy asks.
    pub attributes: &'a dyn Attributes,
    /// The service may take as long as it likes to answer (a tailing cursor, a streaming
    /// `hello`): the wait is no latency, and holds up neither time-outs nor a drain.
    pub long_poll: bool,
    /// It costs the service nothing: a greeting, a log-in, a ping, or the end of something that the
    /// service holds. Limits let it pass: a client whose ping fails considers the service lost,
    /// and a resource that is not released costs the service more, not less.
    pub limit_exempt: bool,
    /// The attribute `callsite` may have a value. If `false`, policies skip
    /// the search for it: few operations have one.
    pub may_have_callsite: bool,
    /// Name and resource are of lists that the proxy knows: no client made them up, and so they
    /// count by their own names whatever the service answers.
    pub known_names: bool,
    /// The request continues behind the bytes that have been read, so facts may be
    /// [`Unread`](crate::AttributeValue::Unread): a gate that can't decide without them asks for
    /// more of it ([`crate::Verdict::NeedMore`]).
    pub partial: bool,
    /// The attribute [`OTHER_RESOURCES`] may have a value.
    pub may_have_other_resources: bool,
}

impl<'a> Operation<'a> {
    /// A fact that costs something to find, such as `app`, `user`, `comment` or `peer`.
    pub fn attribute(&self, name: &str) -> AttributeValue<'a> {
        self.attributes.get(self.head, name)
    }

    /// Whether it may change something; `None` if that is not known.
    pub fn writes(&self) -> Option<bool> {
        self.attribute(WRITES).as_bool()
    }

    /// Whether the client is known to wait before it tries again.
    pub fn client_backs_off(&self) -> bool {
        self.attribute(BACKS_OFF).as_bool() == Some(true)
    }
}

/// Facts about operations that cost something to find.
///
/// `front` is the front of the operation's request. A gate may keep a copy of it, and ask again
/// with that copy when the operation settles and the bytes themselves have long gone.
pub trait Attributes {
    /// What is known of the attribute `name`.
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> AttributeValue<'a>;

    /// The client's address, which costs nothing to find.
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// The operation is rejected, and settles next. An implementation that knows the client's error
    /// reply records it now, for the log line.
    fn on_rejected(&self, no: &Rejection) {
        let _ = no;
    }
}

/// No attributes at all.
impl Attributes for () {
    fn get<'a>(&'a self, _: &'a [u8], _: &str) -> AttributeValue<'a> {
        AttributeValue::Absent
    }
}

/// What a protocol is called, and what it counts beyond what every protocol counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The name in the config, in logs and in metrics: `mongo`, `tcp`.
    pub name: &'static str,
    /// Counts the things that requests and replies carry: documents, messages.
    /// Labels: listener, operation, resource, direction.
    pub items: Option<ExtraCounter>,
    /// Counts error codes by name. Labels: listener, operation, code.
    pub codes: Option<ExtraCounter>,
    /// Counts the shapes of requests. Labels: listener, resource, shape.
    pub shapes: Option<ExtraCounter>,
    /// The name in an access-log line of what `items` counts: `documents`.
    pub item_name: &'static str,
    /// Its operation is the connection itself: a stream of bytes.
    pub stream: bool,
    /// Every attribute that its codec knows, for who matches by them. One that ends in a dot
    /// stands for all that begin so: `header.`.
    pub attributes: &'static [&'static str],
    /// Attributes, also of those that every protocol has, of which nothing is known before an
    /// operation has gone on: they are for logs, and no policy can go by them.
    pub log_only: &'static [&'static str],
    /// What operations are called that are not known by a name of their own; empty where all are.
    pub unknown_operation: &'static str,
    /// Attributes whose values all have this text in them, with how they are written: a pattern
    /// without it, and without `*`, matches nothing.
    pub value_formats: &'static [(&'static str, &'static str, &'static str)],
    /// Attributes that an access-log line carries beyond the common ones.
    pub logged: &'static [&'static str],
    /// Attributes that only a slow operation's log line carries, since they cost more to find.
    pub logged_when_slow: &'static [&'static str],
    /// Attributes that a slow operation's log line carries only where the operator asked for
    /// values: they show what documents hold.
    pub logged_with_values: &'static [&'static str],
}

impl Protocol {
    /// A protocol that counts and logs nothing of its own.
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
