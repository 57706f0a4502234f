//! Headers that a service may be unable to decode, on a connection that clients share.
//!
//! HTTP/2 compresses headers by a table that the whole connection fills, and a later header may take
//! its name from an earlier one. gRPC's C core (C++, Python, Ruby, PHP, C#) marks a table entry whose
//! value it could not decode, and rejects every later header that refers to it: calls of other
//! clients fail too, until the connection ends.

use http::{HeaderMap, HeaderName, HeaderValue};

/// gRPC headers whose values every service can decode.
const SAFE_HEADERS: [&str; 3] = ["grpc-accept-encoding", "grpc-message", "grpc-timeout"];

/// Marks headers that a service may be unable to decode as never indexed (RFC 7541, 6.2.3), so that
/// they affect only this call. Their values are unchanged.
pub(crate) fn mark_never_indexed(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if is_risky(name, value) {
            value.set_sensitive(true);
        }
    }
}

fn is_risky(name: &HeaderName, value: &HeaderValue) -> bool {
    let name = name.as_str();
    match name.ends_with("-bin") {
        true => !is_base64(value.as_bytes()),
        // Such headers are rare, and new ones may appear.
        false => name.starts_with("grpc") && !SAFE_HEADERS.contains(&name),
    }
}

/// Whether `text` is base64, padded or not, with zero trailing bits (RFC 4648, 4).
fn is_base64(text: &[u8]) -> bool {
    let bare = text.strip_suffix(b"=").map_or(text, |it| it.strip_suffix(b"=").unwrap_or(it));
    let padded = bare.len() < text.len();
    let last = bare.last().copied().unwrap_or(b'A');
    let ends_well = match bare.len() % 4 {
        0 => !padded,
        2 => b"AQgw".contains(&last),
        3 => b"AEIMQUYcgkosw048".contains(&last),
        _ => false,
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    ends_well && (!padded || text.len().is_multiple_of(4)) && bare.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::headers;
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
    };

    fn is_isolated(name: &str, value: &str) -> bool {
        let mut headers = headers(&[(name, value)]);
        mark_never_indexed(&mut headers);
        headers[name].is_sensitive()
    }

    #[test]
    fn what_a_service_may_be_unable_to_read_stays_out_of_the_table() {
        for (name, value) in [
            ("grpc-encoding", "junk"),
            ("grpc-previous-rpc-attempts", "junk"),
            ("grpc-retry-pushback-ms", "junk"),
            ("grpc-internal-encoding-request", "junk"),
            ("grpc-status", "junk"),
            ("grpclb_client_stats", "junk"),
            ("grpc-tags-bin", "!!!!"),
            ("x-raw-bin", "AA==,AA=="),
        ] {
            assert!(is_isolated(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("grpc-accept-encoding", "identity, deflate, gzip"),
            ("grpc-timeout", "5S"),
            ("x-raw-bin", "AAEC/w=="),
            ("x-raw-bin", ""),
            ("user-agent", "grpc-go/1.60"),
            ("authorization", "Bearer x"),
        ] {
            assert!(!is_isolated(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn base64_is_what_decoders_take() {
        let mut random = fastrand::Rng::with_seed(3);
        for length in 0..100 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            assert!(is_base64(STANDARD.encode(&bytes).as_bytes()));
            assert!(is_base64(STANDARD_NO_PAD.encode(&bytes).as_bytes()));
        }
        for text in ["a", "a===", "=", "==", "AA=", "AAA==", "AA=A", "AB", "AAB", "AA_-", "AA A"] {
            assert!(!is_base64(text.as_bytes()), "{text}");
        }
    }
}
