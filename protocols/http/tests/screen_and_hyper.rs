//! hyper reads validated bytes in the same way as a strict reader.
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/mutations.rs"]
mod mutations;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "support/server.rs"]
mod server;

use mutations::Mutations;
use server::Heard;
use tollgate_http::h1_validator::{H1Validator, RequestLimits};

/// Number of connections, unless the environment variable `SCREEN_MUTATIONS` is set.
const MUTATIONS: u64 = 20_000;

#[test]
fn mutated_connections_are_read_as_by_a_strict_reader() {
    let wanted = std::env::var("SCREEN_MUTATIONS").ok().and_then(|n| n.parse().ok());
    let mutations = Mutations::of(corpus::cases());
    let (mut right, mut wrong, mut requests) = (0, 0, 0);
    for seed in 0..wanted.unwrap_or(MUTATIONS) {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = mutations.connection(&mut random);
        let (passed, fault) = screened(&mut random, &bytes);
        let expected = strict::read(&passed);
        let heard = server::hear(&passed);
        let shown = bytes.escape_ascii();
        assert_eq!(heard, expected, "seed {seed}: {shown}");
        *(if fault { &mut wrong } else { &mut right }) += 1;
        requests += heard.len();
    }
    println!("{right} right and {wrong} wrong connections, {requests} requests");
    assert!(right > 1_000 && wrong > 1_000 && requests > 10_000, "{right} {wrong} {requests}");
}

#[test]
fn hyper_accepts_requests_at_the_limits() {
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let post = format!("POST /{} HTTP/1.1\r\nHost: a\r\n", "a".repeat((8 << 10) - 1));
    let large = format!("{post}X: {}\r\n\r\n", "y".repeat((64 << 10) - post.len() - 7));
    assert_eq!(large.len(), 64 << 10);
    let many = format!("{post}{}\r\n", "X: y\r\n".repeat(99));
    let extended = format!("1;{}\r\nx\r\n", "e".repeat(255)).repeat(32);
    let extended = format!("{post}{chunked}{extended}0\r\n\r\n");
    let trailers = "X: y\r\n".repeat(99);
    let last = "z".repeat((8 << 10) - trailers.len() - 7);
    let trailers = format!("{post}{chunked}0\r\n{trailers}X: {last}\r\n\r\n");
    for (bytes, headers, body) in
        [(large, 2, (0, 0)), (many, 100, (0, 0)), (extended, 2, (32, 0)), (trailers, 2, (0, 100))]
    {
        let mut screen = H1Validator::new(RequestLimits::default());
        let look = screen.validate(bytes.as_bytes());
        assert_eq!((look.bytes, look.error), (bytes.len(), None));
        let heard = server::hear(bytes.as_bytes());
        assert_eq!(heard.len(), 1);
        assert_eq!((heard[0].headers, heard[0].body), (headers, Some(body)));
    }
}

/// What passes of bytes that arrive in random pieces, and whether there was an error. Upgrades are
/// never accepted.
fn screened(random: &mut fastrand::Rng, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut screen = H1Validator::new(RequestLimits::default());
    let (mut held, mut passed, mut rest) = (Vec::new(), Vec::new(), bytes);
    loop {
        let (piece, after) = rest.split_at(random.usize(..=rest.len()));
        held.extend_from_slice(piece);
        rest = after;
        let look = screen.validate(&held);
        passed.extend(held.drain(..look.bytes));
        if look.error.is_some() {
            return (passed, true);
        }
        let awaits = screen.awaits_upgrade();
        screen.refuse_upgrade();
        if rest.is_empty() && !awaits {
            return (passed, false);
        }
    }
}

/// A reader that implements only the strict rules. Panics on anything else, since that must not
/// have passed.
mod strict {
    use super::Heard;

    pub(crate) fn read(mut bytes: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        while !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
            let end = memchr::memmem::find(bytes, b"\r\n\r\n").expect("a head is whole");
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes = &bytes[end + 4..];
            let mut lines = head.split("\r\n");
            let asked = lines.next().unwrap().split(' ').collect::<Vec<_>>();
            let [method, uri, version] = asked[..] else { panic!("{asked:?}") };
            let headers: Vec<_> = lines.map(|line| line.split_once(':').unwrap()).collect();
            let all = |name: &str| {
                let named = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
                named.map(|(_, value)| value.trim().to_lowercase()).collect::<Vec<_>>()
            };
            assert!(version == "HTTP/1.1" || version == "HTTP/1.0", "{version}");
            assert!(!head.contains(['\n', '\0']) || head.contains("\r\n"), "{head:?}");
            assert_eq!(head.matches('\n').count(), head.matches('\r').count(), "{head:?}");
            let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
            assert!(lengths.len() + codings.len() < 2, "{head:?}");
            assert!(all("host").len() == 1 || version == "HTTP/1.0", "{head:?}");
            let body = match (&lengths[..], &codings[..]) {
                ([], []) => Some((0, 0)),
                ([length], _) => fixed(&mut bytes, length.parse().unwrap()),
                (_, [coding]) if coding == "chunked" => chunks(&mut bytes),
                _ => panic!("{head:?}"),
            };
            heard.push(Heard {
                method: method.to_owned(),
                uri: normal(uri),
                path: path(method, uri),
                headers: headers.len(),
                body,
            });
            if body.is_none() {
                assert!(bytes.is_empty());
            }
            let connection = all("connection").join(",");
            let said = |word| connection.split(',').any(|token| token.trim() == word);
            if said("close") || (version == "HTTP/1.0" && !said("keep-alive")) {
                assert!(bytes.is_empty(), "something passed after the last request");
            }
        }
        heard
    }

    fn fixed(bytes: &mut &[u8], length: usize) -> Option<(usize, usize)> {
        let here = length.min(bytes.len());
        *bytes = &bytes[here..];
        (here == length).then_some((length, 0))
    }

    /// A chunked body, whose end may be missing.
    fn chunks(bytes: &mut &[u8]) -> Option<(usize, usize)> {
        let mut length = 0;
        loop {
            let line = line(bytes)?;
            let digits = line.split(';').next().unwrap();
            let size = usize::from_str_radix(digits, 16).unwrap();
            if size == 0 {
                break;
            }
            fixed(bytes, size)?;
            length += size;
            match bytes.split_at_checked(2) {
                Some((end, after)) => {
                    assert_eq!(end, b"\r\n");
                    *bytes = after;
                }
                None => {
                    *bytes = &[];
                    return None;
                }
            }
        }
        let mut trailers = 0;
        while let Some(line) = line(bytes) {
            if line.is_empty() {
                return Some((length, trailers));
            }
            assert!(line.contains(':'), "{line:?}");
            trailers += 1;
        }
        None
    }

    fn line(bytes: &mut &[u8]) -> Option<String> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
            *bytes = &[];
            return None;
        };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        *bytes = &bytes[end + 2..];
        Some(line)
    }

    /// As hyper's `Uri` writes it: lower-case scheme, and always a path.
    fn normal(uri: &str) -> String {
        let Some((scheme, rest)) = absolute(uri) else { return uri.to_owned() };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{}://{authority}{slash}{path}", scheme.to_lowercase())
    }

    fn path(method: &str, uri: &str) -> String {
        if method == "CONNECT" {
            return String::new();
        }
        let Some((_, rest)) = absolute(uri) else { return uri.to_owned() };
        let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{slash}{path}")
    }

    fn absolute(uri: &str) -> Option<(&str, &str)> {
        if uri.starts_with('/') { None } else { uri.split_once("://") }
    }
}
