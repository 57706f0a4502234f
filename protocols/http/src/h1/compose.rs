//! Heads as they are sent on: runs of the bytes that were read, without the fields that end here.

use super::{
    attributes::HeadView,
    client_fields::{CLIENT_FIELDS, ClientFields},
    field::{Field, FieldName, FieldSet},
    request_head::BodyLength,
    response_head::{ResponseHead, ResponseLength},
};
use crate::{
    date,
    header_policy::{HeaderPolicy, ViaHeader, is_end_to_end},
};
use http::{StatusCode, Version};

/// Fields about a connection, which are not passed on (RFC 9110, 7.6.1).
const HOP_BY_HOP: FieldSet = FieldSet::of(&[
    FieldName::Connection,
    FieldName::KeepAlive,
    FieldName::ProxyConnection,
    FieldName::Upgrade,
    FieldName::Http2Settings,
]);

/// What a request gets on its way.
pub(super) struct RequestFields<'a> {
    /// The fields that the client may not set.
    pub(super) replaced: FieldSet,
    pub(super) client: &'a ClientFields,
    pub(super) policy: &'a HeaderPolicy,
    /// A new `x-request-id`.
    pub(super) request_id: Option<&'a [u8]>,
    /// A new `traceparent`.
    pub(super) traceparent: Option<&'a [u8]>,
}

/// Writes a request's head for the service.
pub(super) fn request(out: &mut Vec<u8>, view: &HeadView<'_>, add: &RequestFields<'_>) {
    let HeadView { bytes, head, fields } = *view;
    let authority = head.authority.of(bytes);
    // `host` comes first (RFC 9110, 7.2).
    let host_first = fields.first().is_some_and(|field| field.known == FieldName::Host);
    out.extend_from_slice(&bytes[..head.fields_start]);
    if !host_first {
        write_field(out, b"host", authority);
    }
    let drops = |field: &Field| {
        HOP_BY_HOP.contains(field.known)
            || CLIENT_FIELDS.contains(field.known)
            || add.replaced.contains(field.known)
            || field.known == FieldName::Host && !host_first
    };
    write_runs(out, bytes, fields, (head.fields_start, head.len - 2), drops);
    add.client.write(out, view, add.policy);
    if let Some(via) = &add.policy.via {
        write_field(out, b"via", via.value(Version::HTTP_11).as_bytes());
    }
    if let Some(id) = add.request_id {
        write_field(out, b"x-request-id", id);
    }
    if let Some(traceparent) = add.traceparent {
        write_field(out, b"traceparent", traceparent);
    }
    // Some services want it of methods that usually have a body (RFC 9110, 8.6).
    let wants_length = matches!(head.method.of(bytes), b"POST" | b"PUT" | b"PATCH");
    let unsaid = !head.present.contains(FieldName::ContentLength);
    if wants_length && unsaid && head.body == BodyLength::Length(0) {
        write_field(out, b"content-length", b"0");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a response's head goes to the client as it was read.
pub(super) fn is_passed_as_read(head: &ResponseHead, last: bool) -> bool {
    head.is_canonical
        && head.is_1_1
        && !last
        && head.single_length
        && !head.present.intersects(HOP_BY_HOP)
        && !head.present.contains(FieldName::TransferEncoding)
        && head.length != ResponseLength::UntilClose
        && head.status != StatusCode::NO_CONTENT
        && head.present.contains(FieldName::Date)
}

/// Writes a response's head for the client. `last`: the connection closes after it.
pub(super) fn response(
    out: &mut Vec<u8>,
    bytes: &[u8],
    head: &ResponseHead,
    fields: &[Field],
    via: Option<&ViaHeader>,
    last: bool,
) {
    out.extend_from_slice(b"HTTP/1.1");
    let line = bytes[..head.fields_start].get(8..).unwrap_or_default().trim_ascii_end();
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
    let bare = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    let upgrade =
        head.status == StatusCode::UPGRADE_REQUIRED && head.present.contains(FieldName::Upgrade);
    let named = named_fields(bytes, head, fields);
    for field in fields {
        let drops = match field.known {
            FieldName::Upgrade => !upgrade,
            FieldName::TransferEncoding => true,
            FieldName::ContentLength => bare || !head.single_length || head.declared.is_none(),
            FieldName::Trailer => bare,
            known => HOP_BY_HOP.contains(known) || is_named(&named, field.name.of(bytes)),
        };
        if !drops {
            write_field(out, field.name.of(bytes), field.value.of(bytes));
        }
    }
    if let Some(length) = head.declared.filter(|_| !head.single_length && !bare) {
        write_field(out, b"content-length", length.to_string().as_bytes());
    }
    if let ResponseLength::Chunked | ResponseLength::UntilClose = head.length {
        write_field(out, b"transfer-encoding", b"chunked");
    }
    if let Some(via) = via {
        let version = if head.is_1_1 { Version::HTTP_11 } else { Version::HTTP_10 };
        write_field(out, b"via", via.value(version).as_bytes());
    }
    if !head.present.contains(FieldName::Date) && !head.status.is_informational() {
        write_date(out);
    }
    match (last, upgrade) {
        (true, _) => write_field(out, b"connection", b"close"),
        (false, true) => write_field(out, b"connection", b"upgrade"),
        (false, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the current time as `date`.
pub(super) fn write_date(out: &mut Vec<u8>) {
    write_field(out, b"date", date::now().as_bytes());
}

/// Writes a field line.
pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Copies the lines between two places, but for those of some fields.
fn write_runs(
    out: &mut Vec<u8>,
    bytes: &[u8],
    fields: &[Field],
    (start, end): (usize, usize),
    drops: impl Fn(&Field) -> bool,
) {
    let mut run = start;
    let mut fields = fields.iter().peekable();
    while let Some(field) = fields.next() {
        if drops(field) {
            out.extend_from_slice(&bytes[run..field.name.start()]);
            run = fields.peek().map_or(end, |next| next.name.start());
        }
    }
    out.extend_from_slice(&bytes[run..end]);
}

/// The fields that `connection` names, but for those that are end-to-end anyway: a service could use it to hide them.
fn named_fields<'b>(bytes: &'b [u8], head: &ResponseHead, fields: &[Field]) -> Vec<&'b [u8]> {
    if !head.names_fields {
        return Vec::new();
    }
    let connection = fields.iter().filter(|field| field.known == FieldName::Connection);
    let options = connection.flat_map(|field| field.value.of(bytes).split(|byte| *byte == b','));
    let named = options.map(<[u8]>::trim_ascii).filter(|option| !option.is_empty());
    let removable = |name: &&[u8]| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        !matches!(&*name, "close" | "keep-alive" | "upgrade" | "te") && !is_end_to_end(&name)
    };
    named.filter(removable).collect()
}

fn is_named(named: &[&[u8]], name: &[u8]) -> bool {
    named.iter().any(|it| it.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        h1::{
            client_fields::PerRequest,
            request_head::{HeadLimits, RequestHead},
        },
        header_policy::ForwardedStyle,
    };

    const LIMITS: HeadLimits = HeadLimits { bytes: 4096, target: 512, fields: 32 };

    /// The request as it is sent: with nothing about the client, and with these ids.
    fn sent(text: &str, replaced: FieldSet, ids: [Option<&[u8]>; 2]) -> String {
        let client = ClientFields::PerRequest(Box::new(PerRequest::plain("1.2.3.4")));
        let policy = HeaderPolicy { forwarded: ForwardedStyle::Off, ..HeaderPolicy::default() };
        let [request_id, traceparent] = ids;
        let add =
            RequestFields { replaced, client: &client, policy: &policy, request_id, traceparent };
        let (mut fields, mut out) = (Vec::new(), Vec::new());
        let head = RequestHead::read(text.as_bytes(), &LIMITS, &mut fields).unwrap().unwrap();
        let view = HeadView { bytes: text.as_bytes(), head: &head, fields: &fields };
        request(&mut out, &view, &add);
        String::from_utf8(out).unwrap()
    }

    fn answered(text: &str, last: bool) -> String {
        let (mut fields, mut out) = (Vec::new(), Vec::new());
        let head = ResponseHead::read(text.as_bytes(), 4096, false, &mut fields).unwrap().unwrap();
        response(&mut out, text.as_bytes(), &head, &fields, None, last);
        let text = String::from_utf8(out).unwrap();
        text.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_request_keeps_its_lines_but_for_those_about_connections() {
        let text = "GET /a HTTP/1.1\r\nAccept: x\r\nConnection: keep-alive\r\nHost: a:80\r\n\
                    X-B: 1\r\nx-b: 2\r\n\r\n";
        let expected = "GET /a HTTP/1.1\r\nhost: a:80\r\nAccept: x\r\nX-B: 1\r\nx-b: 2\r\n\r\n";
        assert_eq!(sent(text, FieldSet::default(), [None; 2]), expected);
    }

    #[test]
    fn new_ids_replace_those_of_the_client() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nTraceparent: 1\r\nx-request-id: \r\n\r\n";
        let replaced = FieldSet::of(&[FieldName::Traceparent, FieldName::XRequestId]);
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nx-request-id: id\r\ntraceparent: 00\r\n\r\n";
        assert_eq!(sent(text, replaced, [Some(b"id"), Some(b"00")]), expected);
    }

    #[test]
    fn a_post_without_body_has_a_length() {
        let text = "POST / HTTP/1.1\r\nhost: a\r\n\r\n";
        let sent = sent(text, FieldSet::default(), [None; 2]);
        assert_eq!(sent, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn a_response_has_no_field_about_the_services_connection() {
        let text = "HTTP/1.0 200 Fine\r\nConnection: keep-alive, x-a, date\r\nX-A: 1\r\n\
                    Keep-Alive: 5\r\nDate: x\r\nContent-Length: 2, 2\r\n\r\nab";
        assert_eq!(
            answered(text, true),
            "HTTP/1.1 200 Fine|Date: x|content-length: 2|connection: close|"
        );
    }

    #[test]
    fn a_response_is_framed_for_the_client() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                "HTTP/1.1 200 OK|transfer-encoding: chunked|",
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK|transfer-encoding: chunked|"),
            ("HTTP/1.1 204 No\r\nContent-Length: 5\r\nTrailer: a\r\n\r\n", "HTTP/1.1 204 No|"),
            ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 304 No|Content-Length: 5|"),
            (
                "HTTP/1.1 426 No\r\nUpgrade: h2c\r\nConnection: Upgrade\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 426 No|Upgrade: h2c|content-length: 0|connection: upgrade|",
            ),
        ] {
            assert_eq!(answered(text, false), expected, "{text}");
        }
    }

    #[test]
    fn a_response_is_passed_as_read_if_nothing_changes() {
        let passed = |text: &str| {
            let head = ResponseHead::read(text.as_bytes(), 4096, false, &mut Vec::new());
            is_passed_as_read(&head.unwrap().unwrap(), false)
        };
        let line = "HTTP/1.1 200 OK\r\ndate: x\r\ncontent-length: 0\r\n";
        assert!(passed(&format!("{line}\r\n")));
        for more in ["connection: keep-alive\r\n", "keep-alive: 5\r\n", "a: b\n"] {
            assert!(!passed(&format!("{line}{more}\r\n")), "{more:?}");
        }
        assert!(!passed("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!passed("HTTP/1.1 200 OK\r\ndate: x\r\n\r\n"));
        assert!(!passed("HTTP/1.0 200 OK\r\ndate: x\r\ncontent-length: 0\r\n\r\n"));
    }
}
