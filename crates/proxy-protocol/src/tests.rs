#![allow(clippy::unwrap_used, clippy::panic, reason = "this is all test, helpers too")]

use super::*;

const CLIENT: &str = "192.0.2.7:40000";
const SERVER: &str = "198.51.100.1:27017";

fn addresses() -> Option<(SocketAddr, SocketAddr)> {
    Some((CLIENT.parse().unwrap(), SERVER.parse().unwrap()))
}

fn written(version: Version, header: &OutgoingHeader<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.write(version, &mut bytes);
    bytes
}

fn read_any(bytes: &[u8]) -> FirstBytes {
    read(bytes, Accepted::Any, MAX_V2)
}

fn header(bytes: &[u8]) -> Header {
    match read_any(bytes) {
        FirstBytes::Header(header, length) => {
            assert_eq!(length, bytes.len());
            *header
        }
        other => panic!("{other:?}"),
    }
}

fn invalid(bytes: &[u8]) -> Invalid {
    match read_any(bytes) {
        FirstBytes::Invalid(invalid) => invalid,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// A version 2 header with these bytes after the addresses.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &length, body].concat()
}

fn v4_addresses() -> Vec<u8> {
    [&[192, 0, 2, 7][..], &[198, 51, 100, 1], &40000u16.to_be_bytes(), &27017u16.to_be_bytes()]
        .concat()
}

#[test]
fn what_is_written_is_read() {
    let tls = TlsFields {
        server_name: Some("db.example.net"),
        alpn: Some("h2"),
        version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        has_certificate: true,
        common_name: Some("orders"),
    };
    let sent =
        OutgoingHeader { addresses: addresses(), unique_id: Some(&[1, 0xab]), tls: Some(tls) };
    let plain = Header { addresses: addresses(), ..Header::default() };
    assert_eq!(header(&written(Version::V1, &sent)), plain);
    let full = Header {
        authority: Some("db.example.net".to_owned()),
        alpn: Some("h2".to_owned()),
        unique_id: Some("01ab".to_owned()),
        is_encrypted: true,
        certificate_name: Some("orders".to_owned()),
        ..plain
    };
    assert_eq!(header(&written(Version::V2, &sent)), full);
}

#[test]
fn a_header_of_the_proxy_itself_has_no_addresses() {
    let own = OutgoingHeader::default();
    assert_eq!(written(Version::V1, &own), b"PROXY UNKNOWN\r\n");
    for version in [Version::V1, Version::V2] {
        assert_eq!(header(&written(version, &own)), Header::default());
    }
    let forged = v2(0x20, 0x11, &v4_addresses());
    assert_eq!(header(&forged), Header::default(), "LOCAL with addresses has none");
}

#[test]
fn addresses_of_two_families_are_written_without_a_lie() {
    let mixed = Some(("[2001:db8::1]:1".parse().unwrap(), SERVER.parse().unwrap()));
    let sent = OutgoingHeader { addresses: mixed, ..OutgoingHeader::default() };
    assert_eq!(written(Version::V1, &sent), b"PROXY UNKNOWN\r\n");
    let (from, to) = header(&written(Version::V2, &sent)).addresses.unwrap();
    assert_eq!(from.to_string(), "[2001:db8::1]:1");
    assert_eq!(to.ip().to_canonical().to_string(), "198.51.100.1");
    let mapped = Some(("[::ffff:192.0.2.7]:40000".parse().unwrap(), SERVER.parse().unwrap()));
    let sent = OutgoingHeader { addresses: mixed.and(mapped), ..OutgoingHeader::default() };
    assert_eq!(written(Version::V1, &sent), b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 27017\r\n");
}

#[test]
fn a_header_may_be_cut_anywhere_and_have_bytes_behind_it() {
    let sent = OutgoingHeader { addresses: addresses(), ..OutgoingHeader::default() };
    for version in [Version::V1, Version::V2] {
        let bytes = written(version, &sent);
        for end in 0..bytes.len() {
            assert_eq!(read_any(&bytes[..end]), FirstBytes::Incomplete, "{version:?} {end}");
        }
        let more = [&bytes[..], b"\x16\x03\x01payload"].concat();
        match read_any(&more) {
            FirstBytes::Header(_, length) => assert_eq!(length, bytes.len()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn fields_of_clouds_become_attributes() {
    let tlv = |kind: u8, value: &[u8]| {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    };
    let with = |field: Vec<u8>| header(&v2(0x21, 0x11, &[v4_addresses(), field].concat()));
    let aws = with(tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9"));
    assert_eq!(aws.vpc_endpoint.as_deref(), Some("vpce-08d2bf15fac5001c9"));
    let azure = with(tlv(0xEE, &[1, 0x10, 0, 0, 0]));
    assert_eq!(azure.link.as_deref(), Some("16"));
    let google = with(tlv(0xE0, &77u64.to_be_bytes()));
    assert_eq!(google.link.as_deref(), Some("77"));
}

#[test]
fn what_breaks_the_protocol_is_refused_with_its_reason() {
    let udp4 = v2(0x21, 0x12, &v4_addresses());
    let overrun = v2(0x21, 0x11, &[v4_addresses(), vec![0x02, 0, 200, b'x']].concat());
    let short = v2(0x21, 0x11, &v4_addresses()[..8]);
    let twice = [&b"PROXY UNKNOWN\r\n"[..], b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"].concat();
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    let cases: [(&[u8], Invalid); 15] = [
        (b"GET / HTTP/1.1\r\n", Invalid::Missing),
        (b"\x16\x03\x01", Invalid::Missing),
        (b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", Invalid::Udp),
        (&udp4, Invalid::Udp),
        (&overrun, Invalid::Malformed),
        (&short, Invalid::Malformed),
        (&twice, Invalid::Repeated),
        (&long, Invalid::TooLong),
        (&v2(0x21, 0x11, &[0; 600]), Invalid::TooLong),
        (&v2(0x31, 0x11, &v4_addresses()), Invalid::Malformed),
        (&v2(0x21, 0x41, &v4_addresses()), Invalid::Malformed),
        (b"PROXY TCP4 192.0.2.7 2001:db8::1 1 2\r\n", Invalid::Malformed),
        (b"PROXY TCP4 192.0.02.7 198.51.100.1 1 2\r\n", Invalid::Malformed),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", Invalid::Malformed),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", Invalid::Malformed),
    ];
    for (bytes, reason) in cases {
        assert_eq!(invalid(bytes), reason, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut bytes = v2(0x21, 0x11, &[v4_addresses(), vec![0x03, 0, 4, 0, 0, 0, 0]].concat());
    let sum = crc32c::crc32c(&bytes);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(header(&bytes).addresses, addresses());
    bytes[at - 5] ^= 1;
    assert_eq!(invalid(&bytes), Invalid::Checksum);
}

#[test]
fn only_the_accepted_version_is_read() {
    let own = OutgoingHeader::default();
    let (one, two) = (written(Version::V1, &own), written(Version::V2, &own));
    assert_eq!(read(&one, Accepted::V2, MAX_V2), FirstBytes::Invalid(Invalid::Version));
    assert_eq!(read(&two, Accepted::V1, MAX_V2), FirstBytes::Invalid(Invalid::Version));
    assert!(matches!(read(&one, Accepted::V1, MAX_V2), FirstBytes::Header(..)));
    assert!(matches!(read(&two, Accepted::V2, MAX_V2), FirstBytes::Header(..)));
}

#[test]
fn changed_headers_never_panic_and_never_reach_past_their_end() {
    let sent = OutgoingHeader { addresses: addresses(), unique_id: Some(b"id"), tls: None };
    let mut random = fastrand::Rng::with_seed(15);
    for version in [Version::V1, Version::V2] {
        let bytes = written(version, &sent);
        for _ in 0..20_000 {
            let mut changed = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            changed.truncate(random.usize(..=changed.len()));
            if let FirstBytes::Header(_, length) = read_any(&changed) {
                assert!(length <= changed.len());
            }
        }
    }
}
