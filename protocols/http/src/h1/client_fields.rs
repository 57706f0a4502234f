//! The fields that identify the client to a service: its address, its certificate, and the host that it named.

use super::{
    attributes::HeadView,
    compose::write_field,
    field::{Field, FieldName, FieldSet, header_map},
};
use crate::{
    header_policy::{
        self, Authority, CertificateStyle, ForwardedStyle, HeaderContext, HeaderPolicy, PeerAddress,
    },
    server::Server,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use net::Stream;
use session::Session;
use std::net::IpAddr;

/// The fields that clients may set only as far as proxies are trusted.
pub(super) const CLIENT_FIELDS: FieldSet = FieldSet::of(&[
    FieldName::XForwardedFor,
    FieldName::XForwardedProto,
    FieldName::XForwardedHost,
    FieldName::Forwarded,
    FieldName::ClientIdentity,
]);

/// How the requests of a connection identify the client to a service.
pub(super) enum ClientFields {
    /// By the same lines, but for the value of the last one, `x-forwarded-host`. What a client sends is dropped.
    Fixed(Box<[u8]>),
    /// Depending on what the client, which may be a trusted proxy, has sent.
    PerRequest(Box<PerRequest>),
}

/// What they depend on besides the request.
pub(super) struct PerRequest {
    peer: PeerAddress,
    /// Fields with the client's certificate.
    certificate: Vec<(HeaderName, HeaderValue)>,
    is_encrypted: bool,
}

impl ClientFields {
    pub(super) fn new(server: &Server, session: &dyn Session, client: &Stream) -> Self {
        let policy = &server.plan.header_policy;
        let (peer, is_encrypted) = (session.info().peer.ip(), session.is_encrypted());
        if policy.trusted_hops == 0
            && policy.forwarded == ForwardedStyle::XForwarded
            && policy.certificate == CertificateStyle::Off
        {
            let scheme = if is_encrypted { "https" } else { "http" };
            let lines = format!(
                "x-forwarded-for: {}\r\nx-forwarded-proto: {scheme}\r\nx-forwarded-host: ",
                peer.to_canonical()
            );
            return ClientFields::Fixed(lines.into_bytes().into());
        }
        let chain = client.peer_certificates();
        let certificate = policy.certificate.headers(|name| session.attribute(name), chain);
        let peer = PeerAddress::new(peer);
        ClientFields::PerRequest(Box::new(PerRequest { peer, certificate, is_encrypted }))
    }

    /// Writes the lines of a request. Its own [`CLIENT_FIELDS`] are not passed on.
    pub(super) fn write(&self, out: &mut Vec<u8>, view: &HeadView<'_>, policy: &HeaderPolicy) {
        let authority = view.head.authority.of(view.bytes);
        match self {
            ClientFields::Fixed(lines) => {
                out.extend_from_slice(lines);
                out.extend_from_slice(authority);
                out.extend_from_slice(b"\r\n");
            }
            ClientFields::PerRequest(it) => {
                let mut headers = received(view);
                // The engine takes no other authorities.
                let authority = HeaderValue::from_bytes(authority).ok();
                let authority = authority.and_then(|it| Authority::of_header(&it));
                header_policy::identify(
                    &mut headers,
                    &HeaderContext {
                        policy,
                        peer: &it.peer,
                        authority: &authority.unwrap_or_else(Authority::none),
                        encrypted: it.is_encrypted,
                        forward_upgrade: false,
                        certificate: &it.certificate,
                        span: None,
                    },
                );
                for (name, value) in &headers {
                    write_field(out, name.as_str().as_bytes(), value.as_bytes());
                }
            }
        }
    }

    /// The client's address as far as proxies are trusted; `None` if that is the peer's.
    pub(super) fn client(&self, view: &HeadView<'_>, policy: &HeaderPolicy) -> Option<IpAddr> {
        let ClientFields::PerRequest(it) = self else { return None };
        let client = header_policy::client(&received(view), policy, &it.peer);
        Some(client).filter(|client| *client != it.peer.ip())
    }
}

/// The scheme between the client and the first trusted proxy.
pub(super) fn scheme(view: &HeadView<'_>, policy: &HeaderPolicy, encrypted: bool) -> &'static str {
    header_policy::scheme(&received(view), policy, encrypted)
}

/// What the client, or a proxy before it, has sent.
fn received(view: &HeadView<'_>) -> HeaderMap {
    let is_about_client = |field: &&Field| CLIENT_FIELDS.contains(field.known);
    header_map(view.bytes, view.fields.iter().filter(is_about_client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        h1::request_head::{HeadLimits, RequestHead},
        header_policy::ForwardedStyle::{Both, Forwarded, Off, XForwarded},
    };

    impl PerRequest {
        /// For a client at this address, without TLS.
        pub(in crate::h1) fn plain(peer: &str) -> Self {
            let peer = PeerAddress::new(peer.parse().unwrap());
            Self { peer, certificate: Vec::new(), is_encrypted: false }
        }
    }

    const LIMITS: HeadLimits = HeadLimits { bytes: 4096, target: 512, fields: 32 };

    /// What a service learns from a request with these lines, and the client's address.
    fn told(lines: &str, style: ForwardedStyle, trusted_hops: u8) -> (String, Option<String>) {
        let text = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        let (mut fields, mut out) = (Vec::new(), Vec::new());
        let head = RequestHead::read(text.as_bytes(), &LIMITS, &mut fields).unwrap().unwrap();
        let view = HeadView { bytes: text.as_bytes(), head: &head, fields: &fields };
        let policy = HeaderPolicy { trusted_hops, forwarded: style, ..HeaderPolicy::default() };
        let client = ClientFields::PerRequest(Box::new(PerRequest::plain("10.0.0.1")));
        client.write(&mut out, &view, &policy);
        let told = String::from_utf8(out).unwrap().replace("\r\n", "|");
        (told, client.client(&view, &policy).map(|ip| ip.to_string()))
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        let lines = "X-Forwarded-For: 9.9.9.9, 1.1.1.1\r\nX-Real-Ip: 7.7.7.7\r\n\
                     x-forwarded-proto: https\r\n";
        let (told, client) = told(lines, XForwarded, 1);
        assert!(told.contains("x-forwarded-for: 1.1.1.1, 10.0.0.1|"), "{told}");
        for line in
            ["x-forwarded-proto: https", "x-real-ip: 7.7.7.7", "x-forwarded-host: a.example"]
        {
            assert!(told.contains(&format!("|{line}|")), "{told}");
        }
        assert_eq!(client.as_deref(), Some("1.1.1.1"));
    }

    #[test]
    fn other_clients_can_claim_nothing() {
        let lines = "X-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Real-Ip: 7.7.7.7\r\n";
        for (style, names) in [(Forwarded, 1), (Both, 4), (XForwarded, 3)] {
            let (told, client) = told(lines, style, 0);
            assert!(!told.contains("9.9.9.9") && !told.contains("x-real-ip"), "{told}");
            assert_eq!((told.matches('|').count(), client), (names, None), "{told}");
        }
        let (told, _) = told(&format!("{lines}Client-Cert: :a:\r\n"), Off, 0);
        assert_eq!(told.matches("9.9.9.9").count(), 2);
        assert!(told.contains("x-real-ip: 7.7.7.7|") && !told.contains("client-cert"), "{told}");
    }
}
