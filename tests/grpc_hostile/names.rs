//! Names that a service reads as a method that is denied, however they are spelled.

use crate::{
    before, service,
    support::{
        http::{Client, Reply, Service, TestRequest, Version, post},
        python,
        tollgate::Tollgate,
    },
};

const DENY: &str = "policies:\n  - { name: stop, match: { operation: [t.Tree/Admin, \
                    real.v1.Echo/Unary] }, deny: {} }\n";

/// What a careless service of plain HTTP makes of a target: it drops the query and parameters,
/// decodes what is coded for as long as something is, merges slashes and follows dots.
fn careless(target: &str) -> String {
    let mut path = target.split(['?', '#']).next().unwrap().to_owned();
    while let Some(decoded) = decoded(&path) {
        path = decoded;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(['/', '\\']) {
        match part.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn decoded(path: &str) -> Option<String> {
    let at = path.find('%')?;
    let byte = u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?;
    let bytes = [&path.as_bytes()[..at], &[byte], &path.as_bytes()[at + 3..]].concat();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Spellings of a path, some of which mean the same to a careless service.
fn spelled(path: &str, rng: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    for letter in path.chars() {
        match (letter, rng.u8(0..12)) {
            (letter, 0) => text.push_str(&format!("%{:02x}", letter as u32)),
            (letter, 1) => text.push_str(&format!("%{:02X}", letter as u32)),
            (letter, 2) if rng.u8(0..4) == 0 => text.push_str(&format!("%25{:02x}", letter as u32)),
            ('/', 3) => text.push_str("//"),
            ('/', 4) => text.push_str("/./"),
            ('/', 5) => text.push_str("/x/../"),
            ('/', 6) => text.push_str(";v=1/"),
            ('/', 7) => text.push_str("/%2e/"),
            ('/', 8) => text.push_str("/\\"),
            (letter, _) => text.push(letter),
        }
    }
    let ends = ["", "", "", "/", ";v=1", "?v=1", "?", "/.", "%20", "/x/..", "%2f", "#x"];
    text + ends[rng.usize(..ends.len())]
}

/// A call with an empty message.
fn call(target: &str) -> TestRequest {
    let ask = post(target, &[0; 5][..]).header("content-type", "application/grpc");
    ask.header("te", "trailers")
}

/// Calls that a careless reader takes for this one, in spellings of every kind. Returns how many
/// were asked for.
fn called(tollgate: &Tollgate, path: &str, count: usize) -> usize {
    let connect = || Client::connect(tollgate.listener("rpc"), Version::Two);
    let mut client = connect();
    let mut rng = fastrand::Rng::with_seed(41);
    let mut asked = 0;
    for _ in 0..count {
        let target = spelled(path, &mut rng);
        let written =
            target.starts_with('/') && format!("http://a{target}").parse::<http::Uri>().is_ok();
        if !written || careless(&target) != path {
            continue;
        }
        asked += 1;
        // A connection ends after a hundred requests whose bodies were not read.
        if asked % 50 == 0 {
            client = connect();
        }
        let answer = client.round_trip(call(&target));
        let refused = ["3", "7", "12"].contains(&answer.header("grpc-status").as_str());
        assert!(refused || answer.status == 400, "{target}: {answer:?}");
    }
    asked
}

#[test]
fn a_coded_name_is_invalid() {
    let service = service();
    let tollgate = before(&service.endpoints(), "reverse_bridge: true", DENY);
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    assert_eq!(client.round_trip(call("/t.Tree/Admin")).header("grpc-status"), "7");
    let answer = client.round_trip(call("/t.Tree/%41dmin"));
    assert_eq!(answer.header("grpc-status"), "3", "{answer:?}");
    assert!(answer.header("grpc-message").contains("no percent signs"), "{answer:?}");
    assert!(service.received().is_empty());
}

#[test]
fn no_spelling_of_a_denied_method_reaches_a_careless_service() {
    let service = Service::start(Version::One, |asked| {
        Reply::ok(asked.target.clone()).header("content-type", "application/x-protobuf")
    });
    let tollgate = before(&service.endpoints(), "reverse_bridge: true", DENY);
    let asked = called(&tollgate, "/t.Tree/Admin", 3000);
    assert!(asked > 300, "only {asked} spellings");
    let reached: Vec<_> = service.received().into_iter().map(|it| it.target).collect();
    assert_eq!(reached, [] as [&str; 0]);
}

#[test]
fn a_query_does_not_reach_a_service_of_plain_http() {
    let service = Service::start(Version::One, |_| {
        Reply::ok("").header("content-type", "application/x-protobuf")
    });
    let tollgate = before(&service.endpoints(), "reverse_bridge: true", DENY);
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    client.round_trip(call("/t.Tree/Get?method=Admin"));
    let reached: Vec<_> = service.received().into_iter().map(|it| it.target).collect();
    assert_eq!(reached, ["/t.Tree/Get"]);
}

#[test]
fn no_spelling_of_a_denied_method_runs_on_grpcio() {
    let Some(service) = python::Service::start("grpc_service.py", &[]) else { return };
    let tollgate = before(&format!("endpoints: [\"{}\"]", service.address()), "", DENY);
    let asked = called(&tollgate, "/real.v1.Echo/Unary", 1500);
    assert!(asked > 100, "only {asked} spellings");
}
