//! The attributes of a request whose head is still in its buffer.

use super::{
    field::{ByteRange, Field, FieldName},
    request_head::RequestHead,
};
use crate::{
    header_policy::{HeaderPolicy, is_request_id, uuid_text},
    normalize,
    request_attributes::{
        RequestFlags, UpstreamTarget, WaitTimes, millis, status_name, version_name,
    },
    routes,
};
use http::{HeaderName, StatusCode, Version};
use operation::{AttributeValue, Attributes, OpenSpan, Rejection};
use session::Session;
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
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

    fn query(&self) -> &str {
        HeadView::query(self).unwrap_or_default()
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.values(name.as_str()).any(test)
    }
}

/// The attributes, for policies and the access log.
pub(super) struct HeadAttributes<'b> {
    pub(super) view: HeadView<'b>,
    pub(super) session: &'b dyn Session,
    /// The client's address and port as text.
    pub(super) peer: &'b str,
    pub(super) request_id: OnceCell<RequestId<'b>>,
    pub(super) trace_id: Cell<Option<u128>>,
    normal_path: OnceCell<Cow<'b, str>>,
    /// The span that was opened for it.
    pub(super) span: RefCell<Option<OpenSpan>>,
    pub(super) target: RefCell<Option<UpstreamTarget>>,
    pub(super) status: Cell<Option<StatusCode>>,
    pub(super) attempts: Cell<u32>,
    pub(super) wait_times: Cell<WaitTimes>,
    pub(super) flags: Cell<RequestFlags>,
    /// The operation has ended, and is logged.
    pub(super) has_ended: Cell<bool>,
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
        let text = received.filter(|id| !policy.request_id || is_request_id(id));
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
        peer: &'b str,
        on_rejected: &'b dyn Fn(&HeadAttributes<'_>, &Rejection),
    ) -> Self {
        Self {
            view,
            session,
            peer,
            request_id: OnceCell::new(),
            trace_id: Cell::default(),
            normal_path: OnceCell::new(),
            span: RefCell::default(),
            target: RefCell::default(),
            status: Cell::default(),
            attempts: Cell::default(),
            wait_times: Cell::default(),
            flags: Cell::default(),
            has_ended: Cell::default(),
            on_rejected,
        }
    }

    pub(super) fn add_flag(&self, flag: RequestFlags) {
        self.flags.set(self.flags.get().with(flag));
    }

    /// The id of a request that is not forwarded.
    pub(super) fn assign_request_id(&self, policy: &HeaderPolicy) -> Option<&str> {
        let id = RequestId::of(&self.view, policy)?;
        Some(self.request_id.get_or_init(|| id).as_str())
    }

    /// The path in normal form.
    pub(super) fn normal_path(&self) -> &str {
        self.normal_path.get_or_init(|| match self.view.head.odd_path {
            true => normalize::path(self.view.path()),
            false => Cow::Borrowed(self.view.path()),
        })
    }

    fn client(&self) -> &str {
        let port = self.peer.rfind(':').unwrap_or(self.peer.len());
        self.peer[..port].trim_matches(['[', ']'])
    }

    /// What the target says of an ended request.
    fn reached<T>(&self, of: impl FnOnce(&UpstreamTarget) -> Option<T>) -> Option<T> {
        self.target.borrow().as_ref().and_then(of)
    }

    fn find<'a>(&'a self, name: &str) -> Option<Cow<'a, str>> {
        let view = &self.view;
        match name {
            "peer" => Some(self.peer.into()),
            "client" => Some(self.client().into()),
            "local" => Some(self.session.info().local.to_string().into()),
            "endpoint" => self.reached(|it| it.endpoint.as_deref().map(|it| it.to_owned().into())),
            "cluster" => self.reached(|it| Some(it.cluster.to_string().into())),
            "upstream_version" => self.reached(|it| Some(version_name(it.version?).into())),
            "host" => Some(view.host().into()),
            "path" => Some(self.normal_path().into()),
            "raw_path" => Some(view.path()).filter(|it| *it != self.normal_path()).map(Cow::from),
            "query" => view.query().map(|query| normalize::query(query).into()),
            "raw_query" => {
                view.query().filter(|query| normalize::query(query) != *query).map(Cow::from)
            }
            "version" => Some(version_name(Version::HTTP_11).into()),
            "user_agent" => {
                let present = view.head.present.contains(FieldName::UserAgent);
                present.then(|| String::from_utf8_lossy(view.head.user_agent.of(view.bytes)))
            }
            "request_id" => self.request_id.get().map(|id| id.as_str().into()),
            "trace_id" => self.trace_id.get().map(|id| format!("{id:032x}").into()),
            "scheme" => Some(if self.session.is_encrypted() { "https" } else { "http" }.into()),
            "status" => self.status.get().and_then(status_name).map(Cow::from),
            "attempts" => {
                Some(self.attempts.get()).filter(|n| *n > 1).map(|n| n.to_string().into())
            }
            "queue_ms" => millis(self.wait_times.get().queue),
            "connect_ms" => millis(self.wait_times.get().connect),
            "flags" => self.flags.get().names().map(Cow::from),
            _ => None,
        }
    }

    /// With its port too, as the client sent it.
    fn host(&self) -> AttributeValue<'_> {
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

impl Attributes for HeadAttributes<'_> {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            // Policies see all readings.
            "path" if self.view.head.odd_path && !self.has_ended.get() => {
                normalize::path_fact(self.view.path())
            }
            "query" if !self.has_ended.get() => {
                self.view.query().map_or(AttributeValue::Absent, normalize::query_fact)
            }
            "traceparent" | "tracestate" => self.header(name),
            _ => match (name.strip_prefix("header."), self.find(name)) {
                (Some(name), _) if name.eq_ignore_ascii_case("host") => self.host(),
                (Some(name), _) => self.header(name),
                (None, None) if self.session.has_preface() => self.session.attribute(name),
                (None, found) => found.into(),
            },
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
