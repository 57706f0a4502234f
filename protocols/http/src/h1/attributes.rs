//! The attributes of a request whose head is still in its buffer.

use super::{
    field::{ByteRange, Field, FieldName},
    request_head::RequestHead,
};
use crate::{
    header_policy::{HeaderPolicy, is_request_id, uuid_text},
    normalize,
    request_attributes::{RequestFacts, RequestProgress, plain, text, without_port},
    routes,
};
use http::{HeaderName, Version};
use operation::{AttributeValue, Attributes, LoggedValue, OpenSpan, Rejection, ResolvedAttribute};
use session::Session;
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    net::{IpAddr, SocketAddr},
};

/// A head in its buffer.
#[derive(Clone, Copy)]
pub(super) struct HeadView<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) head: &'b RequestHead,
    pub(super) fields: &'b [Field],
}

impl<'b> HeadView<'b> {
    pub(super) fn text(&self, span: ByteRange) -> &'b str {
        span.text(self.bytes)
    }

    pub(super) fn method(&self) -> &'b str {
        self.text(self.head.method)
    }

    pub(super) fn path(&self) -> &'b str {
        self.text(self.head.path)
    }

    pub(super) fn query(&self) -> Option<&'b str> {
        self.head.query(self.bytes)
    }

    pub(super) fn host(&self) -> &'b str {
        self.text(self.head.host)
    }

    /// The values of a field.
    pub(super) fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        let bytes = self.bytes;
        let named =
            move |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(move |field| field.value.of(bytes))
    }

    /// The value of a field of which there is one at most.
    pub(super) fn value(&self, name: FieldName) -> Option<&'b [u8]> {
        let field = self.fields.iter().find(|field| field.known == name)?;
        Some(field.value.of(self.bytes))
    }
}

impl routes::RequestHead for HeadView<'_> {
    fn method(&self) -> &str {
        HeadView::method(self)
    }

    fn path(&self) -> &str {
        HeadView::path(self)
    }

    fn query(&self) -> Option<&str> {
        HeadView::query(self)
    }

    fn authority(&self) -> Option<&str> {
        Some(self.text(self.head.authority))
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.values(name.as_str()).next()
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.values(name.as_str()).any(test)
    }
}

/// The attributes, for policies and the access log.
pub(super) struct HeadAttributes<'b> {
    pub(super) view: HeadView<'b>,
    pub(super) session: &'b dyn Session,
    /// The session, if it has attributes of TLS or of a PROXY protocol header.
    preface: Option<&'b dyn Session>,
    /// The client's address and port as text.
    pub(super) peer: &'b str,
    /// Its address as far as proxies are trusted, if that is another one.
    client: Option<IpAddr>,
    pub(super) request_id: OnceCell<RequestId<'b>>,
    pub(super) trace_id: Cell<Option<u128>>,
    normal_path: OnceCell<Option<Cow<'b, str>>>,
    /// The span that was opened for it.
    pub(super) span: RefCell<Option<OpenSpan>>,
    pub(super) progress: RequestProgress,
    /// Called with the rejection of a policy, before that is logged: sets the status.
    pub(super) on_rejected: &'b dyn Fn(&HeadAttributes<'_>, &Rejection),
}

/// A request's id.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestId<'b> {
    /// The client's.
    Received(&'b str),
    /// A new one.
    New([u8; 36]),
}

impl<'b> RequestId<'b> {
    /// The client's id, or a new one if the policy asks for one and the client's is not valid.
    pub(super) fn of(view: &HeadView<'b>, policy: &HeaderPolicy) -> Option<Self> {
        let received = view.value(FieldName::XRequestId);
        let text = received.filter(|id| id.is_ascii() && (!policy.request_id || is_request_id(id)));
        match text.and_then(|id| std::str::from_utf8(id).ok()) {
            Some(id) => Some(RequestId::Received(id)),
            None => policy.request_id.then(|| RequestId::New(uuid_text(fastrand::u128(..)))),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            RequestId::Received(text) => text,
            RequestId::New(text) => std::str::from_utf8(text).unwrap_or_default(),
        }
    }
}

impl<'b> HeadAttributes<'b> {
    pub(super) fn new(
        view: HeadView<'b>,
        session: &'b dyn Session,
        (peer, client): (&'b str, Option<IpAddr>),
        on_rejected: &'b dyn Fn(&HeadAttributes<'_>, &Rejection),
    ) -> Self {
        Self {
            view,
            session,
            preface: session.has_preface().then_some(session),
            peer,
            client,
            request_id: OnceCell::new(),
            trace_id: Cell::default(),
            normal_path: OnceCell::new(),
            span: RefCell::default(),
            progress: RequestProgress::default(),
            on_rejected,
        }
    }

    /// The id of a request that is not forwarded.
    pub(super) fn assign_request_id(&self, policy: &HeaderPolicy) -> Option<&str> {
        let id = RequestId::of(&self.view, policy)?;
        Some(self.request_id.get_or_init(|| id).as_str())
    }

    /// With its port too, as the client sent it.
    fn authority(&self) -> AttributeValue<'_> {
        let (host, written) = (self.view.host(), self.view.text(self.view.head.authority));
        match host == written {
            true => AttributeValue::known(host),
            false => AttributeValue::Repeated(vec![host.into(), written.into()]),
        }
    }

    /// All lines of a field. A policy may name it as services spell it: with `_`.
    fn header<'a>(&'a self, name: &str) -> AttributeValue<'a> {
        let folded: String;
        let name = match name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            false => name,
            true => {
                folded = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
                &folded
            }
        };
        let mut values = self.view.values(name).map(String::from_utf8_lossy);
        let Some(first) = values.next() else { return AttributeValue::Absent };
        let more: Vec<_> = values.collect();
        if more.is_empty() {
            return AttributeValue::Known(first);
        }
        AttributeValue::Repeated([first].into_iter().chain(more).collect())
    }
}

impl RequestFacts for HeadAttributes<'_> {
    fn preface(&self) -> Option<&dyn Session> {
        self.preface
    }

    fn peer_text(&self) -> &str {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.session.info().local
    }

    fn is_encrypted(&self) -> bool {
        self.session.is_encrypted()
    }

    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn host(&self) -> Option<LoggedValue<'_>> {
        Some(LoggedValue::Plain(self.view.head.host.of(self.view.bytes)))
    }

    fn path(&self) -> LoggedValue<'_> {
        let HeadView { head, bytes, .. } = self.view;
        let path = head.path.of(bytes);
        if head.odd_path { LoggedValue::Bytes(path) } else { LoggedValue::Plain(path) }
    }

    fn normal_path(&self) -> Option<&str> {
        if !self.view.head.odd_path {
            return None;
        }
        let path = self.view.path();
        let normal = || Some(normalize::path(path)).filter(|normal| normal != path);
        self.normal_path.get_or_init(normal).as_deref()
    }

    fn query(&self) -> Option<&str> {
        self.view.query()
    }

    fn user_agent(&self) -> Option<&[u8]> {
        let HeadView { head, bytes, .. } = self.view;
        head.present.contains(FieldName::UserAgent).then(|| head.user_agent.of(bytes))
    }

    fn client(&self) -> Option<LoggedValue<'_>> {
        let peer = || plain(without_port(self.peer));
        Some(self.client.map_or_else(peer, LoggedValue::Ip))
    }

    fn request_id(&self) -> Option<LoggedValue<'_>> {
        self.request_id.get().map(|id| match id {
            RequestId::Received(id) => text(id),
            RequestId::New(id) => LoggedValue::Plain(id),
        })
    }

    fn trace_id(&self) -> Option<u128> {
        self.trace_id.get()
    }

    /// A request with a span is not forwarded here.
    fn span_id(&self) -> Option<u64> {
        None
    }

    fn progress(&self) -> &RequestProgress {
        &self.progress
    }
}

impl Attributes for HeadAttributes<'_> {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            // Policies see all readings.
            "path" if self.view.head.odd_path && !self.progress.has_ended() => {
                normalize::path_fact(self.view.path())
            }
            "query" if !self.progress.has_ended() => {
                self.view.query().map_or(AttributeValue::Absent, normalize::query_fact)
            }
            "traceparent" | "tracestate" => self.header(name),
            _ => match name.strip_prefix("header.") {
                Some(name) if name.eq_ignore_ascii_case("host") => self.authority(),
                Some(name) => self.header(name),
                None => self.named(name),
            },
        }
    }

    fn logged<'a>(
        &'a self,
        front: &'a [u8],
        attribute: ResolvedAttribute,
    ) -> Option<LoggedValue<'a>> {
        match self.progress.has_ended() {
            true => self.resolved(attribute),
            // The line of a rejected request has all readings, as the policy has.
            false => self.get(front, attribute.name).text().map(LoggedValue::Text),
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.session.info().peer.ip())
    }

    fn on_traced(&self, span: OpenSpan) {
        self.span.replace(Some(span));
    }

    fn on_rejected(&self, rejection: &Rejection) {
        (self.on_rejected)(self, rejection);
    }
}

#[cfg(test)]
mod tests;
