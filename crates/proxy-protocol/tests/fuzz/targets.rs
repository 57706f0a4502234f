//! Entry points of the fuzzer, also used for replays.

use proxy_protocol::{Accepted, FirstBytes, Header, Invalid, OutgoingHeader, Version, read};

/// The longest header of version 2 that is accepted here, in bytes.
const MAX: usize = 536;

/// The first bytes of a connection must have one result, however they are cut; and the addresses of a
/// header must be the same after they were written and read again.
pub(crate) fn header(bytes: &[u8]) {
    for accepted in [Accepted::Any, Accepted::V1, Accepted::V2] {
        let whole = read(bytes, accepted, MAX);
        for end in 0..bytes.len() {
            let cut = read(&bytes[..end], accepted, MAX);
            let is_second_cut = whole == FirstBytes::Invalid(Invalid::Repeated)
                && matches!(cut, FirstBytes::Header(..));
            let agrees = cut == FirstBytes::Incomplete || cut == whole || is_second_cut;
            assert!(agrees, "{end}: {cut:?}, {whole:?}");
        }
        if let FirstBytes::Header(header, length) = whole {
            assert!(length <= bytes.len() && length <= MAX);
            assert!(matches!(read(&bytes[..length], accepted, MAX), FirstBytes::Header(..)));
            write_and_read(&header);
        }
    }
}

fn write_and_read(header: &Header) {
    let Some((from, to)) = header.addresses else { return };
    let canonical = |it: std::net::SocketAddr| (it.ip().to_canonical(), it.port());
    for version in [Version::V1, Version::V2] {
        let mut bytes = Vec::new();
        let outgoing = OutgoingHeader { addresses: Some((from, to)), ..OutgoingHeader::default() };
        outgoing.write(version, &mut bytes);
        let FirstBytes::Header(again, length) = read(&bytes, Accepted::Any, MAX) else {
            panic!("{bytes:?} can't be read");
        };
        assert_eq!(length, bytes.len());
        match again.addresses {
            Some((source, target)) => {
                assert_eq!(canonical(source), canonical(from));
                assert_eq!(canonical(target), canonical(to));
            }
            // A line has addresses of one family.
            None => assert_eq!(version, Version::V1),
        }
    }
}
