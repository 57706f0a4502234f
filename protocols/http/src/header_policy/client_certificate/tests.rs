use super::*;
use crate::header_policy::{Authority, ForwardedStyle, HeaderPolicy, PeerAddress, request};
use http::Request;

const CERTIFICATE_DER: &[u8] = b"certificate";

/// The attributes of a client, by name.
type Facts = &'static [(&'static str, &'static [&'static str])];

const ORDERS: Facts = &[
    ("tls.fingerprint", &["ab12"]),
    ("tls.subject", &["CN=orders,O=Example"]),
    ("tls.uri", &["spiffe://example.net/orders"]),
    ("tls.dns", &["a.example.net", "b.example.net"]),
];

fn fact(facts: Facts, name: &str) -> AttributeValue<'static> {
    match facts.iter().find(|(it, _)| *it == name) {
        None => AttributeValue::Absent,
        Some((_, [one])) => AttributeValue::known(one),
        Some((_, all)) => AttributeValue::Repeated(all.iter().map(|&it| it.into()).collect()),
    }
}

fn element(facts: Facts) -> Option<String> {
    let headers = CertificateStyle::Xfcc.headers(|name| fact(facts, name), [].into_iter());
    headers.first().map(|(_, value)| value.to_str().unwrap().to_owned())
}

/// What a service gets of a request with these headers.
fn passed(
    style: CertificateStyle,
    (trusted_hops, forwarded): (u8, ForwardedStyle),
    sent: &[(&str, &str)],
) -> Vec<String> {
    let certificate =
        style.headers(|name| fact(ORDERS, name), [CERTIFICATE_DER, b"issuer"].into_iter());
    let policy = HeaderPolicy { trusted_hops, forwarded, ..HeaderPolicy::default() };
    let (peer, authority) = (PeerAddress::new([10, 0, 0, 9].into()), HeaderValue::from_static("a"));
    let context = HeaderContext {
        policy: &policy,
        peer: &peer,
        authority: &Authority::of_header(&authority).unwrap(),
        encrypted: true,
        forward_upgrade: false,
        certificate: &certificate,
        span: None,
    };
    let mut head = Request::builder().uri("/");
    for (name, value) in sent {
        head = head.header(*name, *value);
    }
    let mut head = head.body(()).unwrap().into_parts().0;
    request(&mut head, &context, &mut fastrand::Rng::with_seed(1));
    let shown = head.headers.iter().filter(|(name, _)| name.as_str().contains("client-cert"));
    shown.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[test]
fn an_element_has_the_hash_and_all_names() {
    let whole = "Hash=ab12;Subject=\"CN=orders,O=Example\";URI=spiffe://example.net/orders;\
                 DNS=a.example.net;DNS=b.example.net";
    assert_eq!(element(ORDERS).unwrap(), whole);
    assert_eq!(element(&[]), None);
    assert_eq!(element(&[("tls.fingerprint", &["1"])]).unwrap(), "Hash=1");
}

#[test]
fn names_can_not_forge_a_part_of_the_element() {
    let subject = |text: &'static str| without_quotes(text);
    assert_eq!(subject(r#"CN=a\"\;URI=b"#), r"CN=a\22\;URI=b");
    assert_eq!(subject(r"CN=a\\"), r"CN=a\5C");
    assert_eq!(subject("CN=a\"b\\"), r"CN=a\22b\5C");
    assert_eq!(subject("CN=\u{e9}\r\n"), r"CN=\C3\A9\0D\0A");
    let forged: Facts = &[
        ("tls.fingerprint", &["1"]),
        ("tls.uri", &["spiffe://a/b,Hash=2", "x://y\";z\\"]),
        ("tls.dns", &["a\r\nb: c"]),
    ];
    assert_eq!(
        element(forged).unwrap(),
        r#"Hash=1;URI="spiffe://a/b,Hash=2";URI="x://y%22;z%5C";DNS=a%0D%0Ab:%20c"#
    );
}

#[test]
fn a_certificate_is_a_byte_sequence_and_its_issuers_a_list() {
    let chain = [CERTIFICATE_DER, b"issuer", b"root"];
    let headers = CertificateStyle::Rfc9440.headers(|_| AttributeValue::Absent, chain.into_iter());
    let lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(
        lines,
        ["client-cert: :Y2VydGlmaWNhdGU=:", "client-cert-chain: :aXNzdWVy:, :cm9vdA==:"]
    );
    let none = CertificateStyle::Rfc9440.headers(|_| AttributeValue::Absent, [].into_iter());
    assert!(none.is_empty());
}

#[test]
fn claims_of_clients_about_certificates_are_removed() {
    let forged = [
        ("x-forwarded-client-cert", "Hash=1"),
        ("X-Forwarded-Client-Cert", "Hash=2"),
        ("client-cert", ":AA==:"),
        ("client-cert-chain", ":AA==:"),
    ];
    for forwarded in [ForwardedStyle::XForwarded, ForwardedStyle::Forwarded, ForwardedStyle::Off] {
        let passed = |style| passed(style, (0, forwarded), &forged);
        assert!(passed(CertificateStyle::Off).is_empty(), "{forwarded:?}");
        let xfcc = passed(CertificateStyle::Xfcc);
        assert!(xfcc.len() == 1 && xfcc[0].starts_with("x-forwarded-client-cert: Hash=ab12;"));
        let whole = ["client-cert: :Y2VydGlmaWNhdGU=:", "client-cert-chain: :aXNzdWVy:"];
        assert_eq!(passed(CertificateStyle::Rfc9440), whole);
    }
}

#[test]
fn certificates_from_a_trusted_proxy_are_kept() {
    let trusted = (1, ForwardedStyle::XForwarded);
    let sent =
        [("x-forwarded-client-cert", "Hash=1;Subject=\"CN=a,b\""), ("client-cert", ":AA==:")];
    assert_eq!(passed(CertificateStyle::Off, trusted, &sent).len(), 2);
    let xfcc = passed(CertificateStyle::Xfcc, trusted, &sent[..1]);
    let begins = "x-forwarded-client-cert: Hash=1;Subject=\"CN=a,b\", Hash=ab12;";
    assert!(xfcc.len() == 1 && xfcc[0].starts_with(begins), "{xfcc:?}");
    assert_eq!(passed(CertificateStyle::Rfc9440, trusted, &sent[1..]), ["client-cert: :AA==:"]);
    assert_eq!(passed(CertificateStyle::Rfc9440, trusted, &[]).len(), 2);
}
