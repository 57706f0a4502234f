//! Places of header fields in a head, and the names that mean something to a proxy.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A range of bytes, counted from the front of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRange {
    start: u32,
    end: u32,
}

impl ByteRange {
    /// `start..end`. Heads are shorter than 4 GiB.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The first byte's place.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// The place after the last byte.
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// The bytes of the head that it covers.
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.start()..self.end()).unwrap_or_default()
    }

    /// The text that it covers; empty if that is no UTF-8.
    pub fn text(self, head: &[u8]) -> &str {
        std::str::from_utf8(self.of(head)).unwrap_or_default()
    }
}

/// A field line. The line of the next field, or the empty line, follows its CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name as written.
    pub name: ByteRange,
    /// Its value without surrounding blanks.
    pub value: ByteRange,
    /// Which field it is.
    pub known: FieldName,
}

/// Fields that mean something to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FieldName {
    /// Any other.
    Other,
    /// `connection`
    Connection,
    /// `keep-alive`
    KeepAlive,
    /// `proxy-connection`
    ProxyConnection,
    /// `http2-settings`
    Http2Settings,
    /// `transfer-encoding`
    TransferEncoding,
    /// `upgrade`
    Upgrade,
    /// `te`
    Te,
    /// `trailer`
    Trailer,
    /// `expect`
    Expect,
    /// `host`
    Host,
    /// `content-length`
    ContentLength,
    /// `x-forwarded-for`
    XForwardedFor,
    /// `x-forwarded-proto`
    XForwardedProto,
    /// `x-forwarded-host`
    XForwardedHost,
    /// `forwarded`
    Forwarded,
    /// Another field that describes the client.
    ClientIdentity,
    /// `x-request-id`
    XRequestId,
    /// `traceparent`
    Traceparent,
    /// `tracestate`
    Tracestate,
    /// `user-agent`
    UserAgent,
    /// `date`
    Date,
    /// `cookie`
    Cookie,
    /// `authorization`
    Authorization,
    /// `content-type`
    ContentType,
    /// `content-location`
    ContentLocation,
    /// `content-range`
    ContentRange,
    /// `from`
    From,
    /// `if-modified-since`
    IfModifiedSince,
    /// `if-range`
    IfRange,
    /// `if-unmodified-since`
    IfUnmodifiedSince,
    /// `max-forwards`
    MaxForwards,
    /// `origin`
    Origin,
    /// `proxy-authorization`
    ProxyAuthorization,
    /// `range`
    Range,
    /// `referer`
    Referer,
}

/// A set of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u64);

impl FieldSet {
    /// These names.
    pub const fn of(names: &[FieldName]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= 1 << names[at] as u8;
            at += 1;
        }
        Self(set)
    }

    /// Whether it has this name.
    pub const fn contains(self, name: FieldName) -> bool {
        self.0 & (1 << name as u8) != 0
    }

    /// Whether both have a name in common.
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds a name.
    pub(super) fn insert(&mut self, name: FieldName) {
        self.0 |= 1 << name as u8;
    }
}

/// These fields of a head as a map; those that no map can hold are left out.
pub(super) fn header_map<'f>(head: &[u8], fields: impl Iterator<Item = &'f Field>) -> HeaderMap {
    let line = |field: &Field| {
        let name = HeaderName::from_bytes(field.name.of(head)).ok()?;
        Some((name, HeaderValue::from_bytes(field.value.of(head)).ok()?))
    };
    fields.filter_map(line).collect()
}

/// Names by their length, since nearly all others differ in that.
fn names_of_length(length: usize) -> &'static [(&'static str, FieldName)] {
    use FieldName as F;
    match length {
        2 => &[("te", F::Te)],
        4 => &[("host", F::Host), ("date", F::Date), ("from", F::From)],
        5 => &[("range", F::Range)],
        6 => &[("cookie", F::Cookie), ("origin", F::Origin), ("expect", F::Expect)],
        7 => &[("referer", F::Referer), ("upgrade", F::Upgrade), ("trailer", F::Trailer)],
        8 => &[("if-range", F::IfRange)],
        9 => &[("forwarded", F::Forwarded), ("x-real-ip", F::ClientIdentity)],
        10 => &[
            ("user-agent", F::UserAgent),
            ("connection", F::Connection),
            ("keep-alive", F::KeepAlive),
            ("tracestate", F::Tracestate),
        ],
        11 => &[
            ("traceparent", F::Traceparent),
            ("x-client-ip", F::ClientIdentity),
            ("client-cert", F::ClientIdentity),
        ],
        12 => &[
            ("content-type", F::ContentType),
            ("x-request-id", F::XRequestId),
            ("max-forwards", F::MaxForwards),
        ],
        13 => &[("authorization", F::Authorization), ("content-range", F::ContentRange)],
        14 => &[
            ("content-length", F::ContentLength),
            ("true-client-ip", F::ClientIdentity),
            ("http2-settings", F::Http2Settings),
        ],
        15 => &[("x-forwarded-for", F::XForwardedFor)],
        16 => &[
            ("x-forwarded-host", F::XForwardedHost),
            ("content-location", F::ContentLocation),
            ("proxy-connection", F::ProxyConnection),
            ("cf-connecting-ip", F::ClientIdentity),
            ("fastly-client-ip", F::ClientIdentity),
        ],
        17 => &[
            ("if-modified-since", F::IfModifiedSince),
            ("transfer-encoding", F::TransferEncoding),
            ("x-forwarded-proto", F::XForwardedProto),
            ("client-cert-chain", F::ClientIdentity),
        ],
        19 => &[
            ("if-unmodified-since", F::IfUnmodifiedSince),
            ("proxy-authorization", F::ProxyAuthorization),
            ("x-cluster-client-ip", F::ClientIdentity),
        ],
        _ => &[],
    }
}

impl FieldName {
    /// The field of this name, in any case.
    pub(super) fn of(name: &[u8]) -> Self {
        const FORWARDED: &[u8] = b"x-forwarded-";
        let named = |(text, _): &&(&str, FieldName)| name.eq_ignore_ascii_case(text.as_bytes());
        if let Some((_, known)) = names_of_length(name.len()).iter().find(named) {
            return *known;
        }
        let front = name.get(..FORWARDED.len());
        match front.is_some_and(|front| front.eq_ignore_ascii_case(FORWARDED)) {
            true => FieldName::ClientIdentity,
            false => FieldName::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_stand_at_their_length() {
        for length in 0..32 {
            for (text, known) in names_of_length(length) {
                assert_eq!(text.len(), length, "{text}");
                assert_eq!(FieldName::of(text.as_bytes()), *known);
                assert_eq!(FieldName::of(text.to_uppercase().as_bytes()), *known);
                assert_eq!(FieldName::of(&text.as_bytes()[1..]), FieldName::Other, "{text}");
            }
        }
        assert_eq!(FieldName::of(b"X-Forwarded-Port"), FieldName::ClientIdentity);
        assert_eq!(FieldName::of(b"x-forwarded"), FieldName::Other);
    }

    #[test]
    fn a_set_has_the_names_it_was_made_of() {
        let mut set = FieldSet::of(&[FieldName::Host, FieldName::Referer]);
        assert!(set.contains(FieldName::Referer) && !set.contains(FieldName::Te));
        set.insert(FieldName::Te);
        assert!(set.contains(FieldName::Te) && set.intersects(FieldSet::of(&[FieldName::Te])));
    }
}
