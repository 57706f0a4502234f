use super::super::{Authority, HeaderPolicy};
use super::*;

struct Told {
    headers: HeaderMap,
    client: String,
}

fn told(hops: u8, style: ForwardedStyle, peer: &str, of: &[(&'static str, &str)]) -> Told {
    let mut headers = HeaderMap::new();
    for (name, value) in of {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let policy = HeaderPolicy { trusted_hops: hops, forwarded: style, ..HeaderPolicy::default() };
    let peer = PeerAddress::new(peer.parse().unwrap());
    let authority = Authority::of_header(&HeaderValue::from_static("shop:8080")).unwrap();
    let context = HeaderContext {
        policy: &policy,
        peer: &peer,
        authority: &authority,
        encrypted: false,
        forward_upgrade: false,
        certificate: &[],
        span: None,
    };
    let client = forward(&mut headers, &context).to_string();
    Told { headers, client }
}

fn values<'t>(told: &'t Told, name: &str) -> Vec<&'t str> {
    told.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

const SPOOFED: &[(&str, &str)] = &[
    ("x-forwarded-for", "1.1.1.1"),
    ("x-forwarded-for", "2.2.2.2"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "bank"),
    ("forwarded", "for=1.1.1.1;proto=https;host=bank"),
];

#[test]
fn forwarding_headers_of_untrusted_clients_are_ignored() {
    let x = told(0, ForwardedStyle::XForwarded, "10.0.0.9", SPOOFED);
    assert_eq!(values(&x, "x-forwarded-for"), ["10.0.0.9"]);
    assert_eq!(values(&x, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&x, "x-forwarded-host"), ["shop:8080"]);
    assert_eq!(values(&x, "forwarded"), [""; 0]);
    let forwarded = told(0, ForwardedStyle::Forwarded, "10.0.0.9", SPOOFED);
    let element = "for=10.0.0.9;host=\"shop:8080\";proto=http";
    assert_eq!(values(&forwarded, "forwarded"), [element]);
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
        assert_eq!(values(&forwarded, name), [""; 0], "{name}");
    }
    assert_eq!((&*x.client, &*forwarded.client), ("10.0.0.9", "10.0.0.9"));
}

#[test]
fn with_style_off_what_came_goes_on() {
    let off = told(0, ForwardedStyle::Off, "10.0.0.9", SPOOFED);
    assert_eq!(off.headers.len(), SPOOFED.len());
    assert_eq!(off.client, "10.0.0.9");
}

#[test]
fn the_last_entries_of_trusted_proxies_are_kept() {
    let of = &[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "2.2.2.2")];
    for (hops, list, client) in [
        (1, "2.2.2.2, 10.0.0.9", "2.2.2.2"),
        (2, "1.1.1.1, 2.2.2.2, 10.0.0.9", "1.1.1.1"),
        (3, "6.6.6.6, 1.1.1.1, 2.2.2.2, 10.0.0.9", "6.6.6.6"),
        (9, "6.6.6.6, 1.1.1.1, 2.2.2.2, 10.0.0.9", "6.6.6.6"),
    ] {
        let told = told(hops, ForwardedStyle::XForwarded, "10.0.0.9", of);
        assert_eq!(values(&told, "x-forwarded-for"), [list]);
        assert_eq!(told.client, client, "{hops}");
    }
}

#[test]
fn scheme_and_host_of_a_trusted_proxy_are_kept() {
    let of = &[("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example")];
    let trusted = told(1, ForwardedStyle::XForwarded, "10.0.0.9", of);
    assert_eq!(values(&trusted, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&trusted, "x-forwarded-host"), ["shop.example"]);
    let odd = told(1, ForwardedStyle::XForwarded, "10.0.0.9", &[("x-forwarded-proto", "gopher")]);
    assert_eq!(values(&odd, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&odd, "x-forwarded-host"), ["shop:8080"]);
}

#[test]
fn the_scheme_is_the_one_the_furthest_trusted_proxy_reports() {
    let scheme = |trusted_hops, style, of: &[(&'static str, &'static str)], encrypted| {
        let value = HeaderValue::from_static;
        let headers = of.iter().map(|(name, it)| (HeaderName::from_static(name), value(it)));
        let policy = HeaderPolicy { trusted_hops, forwarded: style, ..HeaderPolicy::default() };
        scheme(&headers.collect(), &policy, encrypted)
    };
    let x = &[("x-forwarded-proto", "HTTPS"), ("forwarded", "proto=http")];
    let forwarded = &[("forwarded", "proto=http"), ("forwarded", "for=a;Proto=\"https\", for=b")];
    for (hops, style, of, is) in [
        (0, ForwardedStyle::XForwarded, &x[..], "http"),
        (1, ForwardedStyle::XForwarded, x, "https"),
        (1, ForwardedStyle::Both, x, "https"),
        (1, ForwardedStyle::Forwarded, x, "http"),
        (1, ForwardedStyle::Off, x, "https"),
        (1, ForwardedStyle::Forwarded, forwarded, "http"),
        (2, ForwardedStyle::Forwarded, forwarded, "https"),
        (3, ForwardedStyle::Off, forwarded, "http"),
        (1, ForwardedStyle::XForwarded, &[("x-forwarded-proto", "ftp")], "http"),
        (1, ForwardedStyle::XForwarded, &[], "http"),
    ] {
        assert_eq!(scheme(hops, style, of, false), is, "{hops} {style:?} {of:?}");
    }
    assert_eq!(scheme(0, ForwardedStyle::XForwarded, &[], true), "https");
}

#[test]
fn commas_in_quotes_do_not_separate_forwarded_elements() {
    // RFC 7239 §4 and §6, and a `,` at an unexpected place.
    let of = &[
        ("forwarded", "for=192.0.2.43;by=\"a \\\", b\""),
        ("forwarded", "For=\"[2001:db8:cafe::17]:4711\";proto=https, for=\"_gazonk\""),
    ];
    let all = told(9, ForwardedStyle::Forwarded, "2001:db8::9", of);
    let list = "for=192.0.2.43;by=\"a \\\", b\", For=\"[2001:db8:cafe::17]:4711\";proto=https, \
                for=\"_gazonk\", for=\"[2001:db8::9]\";host=\"shop:8080\";proto=http";
    assert_eq!(values(&all, "forwarded"), [list]);
    assert_eq!(all.client, "192.0.2.43");
    // A hidden address is no reason to trust one that is further away.
    assert_eq!(told(1, ForwardedStyle::Forwarded, "2001:db8::9", of).client, "2001:db8::9");
    assert_eq!(told(2, ForwardedStyle::Forwarded, "2001:db8::9", of).client, "2001:db8:cafe::17");
}

#[test]
fn nodes_have_ports_and_brackets_or_not() {
    for (text, ip) in [
        ("1.2.3.4", Some("1.2.3.4")),
        ("1.2.3.4:80", Some("1.2.3.4")),
        ("2001:db8::1", Some("2001:db8::1")),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("[2001:db8::1]:80", Some("2001:db8::1")),
        ("::ffff:1.2.3.4", Some("1.2.3.4")),
        ("unknown", None),
        ("_hidden", None),
        ("1.2.3", None),
        ("", None),
    ] {
        assert_eq!(node_address(text.as_bytes()).map(|ip| ip.to_string()).as_deref(), ip, "{text}");
    }
}

#[test]
fn an_ipv4_mapped_address_is_written_as_ipv4() {
    let both = told(0, ForwardedStyle::Both, "::ffff:10.0.0.9", &[]);
    assert_eq!(values(&both, "x-forwarded-for"), ["10.0.0.9"]);
    assert!(values(&both, "forwarded")[0].starts_with("for=10.0.0.9;"));
}

#[test]
fn hostile_lists_are_parsed_as_lists() {
    for hostile in [",,,,", "\"", "\"\\\"", "for=", "for=\"", "a\\,b", "\u{80}, x", ";;;="] {
        for hops in [1, 2] {
            let of = &[("x-forwarded-for", hostile), ("forwarded", hostile)];
            let both = told(hops, ForwardedStyle::Both, "10.0.0.9", of);
            assert_eq!(both.client, "10.0.0.9", "{hostile}");
            for name in ["x-forwarded-for", "forwarded"] {
                let last = both.headers[name].as_bytes();
                assert!(String::from_utf8_lossy(last).contains("10.0.0.9"), "{hostile}");
            }
        }
    }
}
