//! No spelling of a request passes a guard that its service would have it stopped by: requests are
//! spelt at random, and Werkzeug reports how it reads those that reach it.
//!
//! `GUARDS_SEED` repeats a run, `GUARDS_REQUESTS` makes it longer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "a client of a test has a runtime of its own")]

mod support;

use fastrand::Rng;
use http::{HeaderName, HeaderValue, Method};
use std::collections::BTreeMap;
use support::{
    http::{Client, RawHttpClient, TestRequest, Version, at, endpoints, proxy_config},
    python::Service,
    tollgate::Tollgate,
};

const GUARDS: &str = "policies:
  - { name: path, match: { path: [/admin, \"/admin/*\"] }, deny: {} }
  - { name: query, match: { query: \"*debug=1*\" }, deny: {} }
  - { name: host, match: { host: admin.example }, deny: {} }
  - { name: method, match: { operation: DELETE }, deny: {} }
  - { name: header, match: { header.x-debug: \"1\" }, deny: {} }
  - { name: agent, match: { user_agent: \"*bot*\" }, deny: {} }
  - { name: cookie, match: { header.cookie: \"*role=admin*\" }, deny: {} }
";

/// What a guard is about.
const KINDS: [&str; 7] = ["path", "query", "host", "method", "header", "agent", "cookie"];

/// A request, spelt somehow.
#[derive(Clone, Debug)]
struct Spelt {
    method: String,
    path: String,
    query: Option<String>,
    host: String,
    absolute: bool,
    headers: Vec<(String, String)>,
}

impl Spelt {
    /// A request that a guard of this kind is about, or one that is close to it.
    fn new(kind: &str, rng: &mut Rng) -> Self {
        let mut spelt = Self {
            method: "GET".to_owned(),
            path: "/x".to_owned(),
            query: None,
            host: "shop.example".to_owned(),
            absolute: rng.u8(..8) == 0,
            headers: Vec::new(),
        };
        match kind {
            "path" => spelt.path = path(rng),
            "query" => spelt.query = Some(query(rng)),
            "host" => spelt.host = host(rng),
            "method" => spelt.method = cased("delete", rng),
            "header" => {
                spelt.headers = lines(
                    &["x-debug", "x_debug", "x.debug"],
                    &["", "0", "1", " 1", "1\t", "2"],
                    rng,
                )
            }
            "agent" => {
                spelt.headers =
                    lines(&["user-agent", "user_agent"], &["", "curl", "a bot", "bot/\u{e9}"], rng)
            }
            _ => {
                spelt.headers =
                    lines(&["cookie"], &["a=b", "role=user", "role=admin", "a=b; role=admin"], rng)
            }
        }
        spelt
    }

    fn target(&self) -> String {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        format!("{}{query}", self.path)
    }

    /// Status and body of what is answered by HTTP/1.1.
    fn by_http1(&self, tollgate: &Tollgate) -> (u16, String) {
        let place = if self.absolute { format!("http://{}", self.host) } else { String::new() };
        let mut head =
            format!("{} {place}{} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target(), self.host);
        for (name, value) in &self.headers {
            head += &format!("{name}:{value}\r\n");
        }
        let mut asker = RawHttpClient::connect(at(tollgate));
        asker.send(format!("{head}\r\n").as_bytes());
        let answer = asker.answer().unwrap_or_else(|error| panic!("{error}: {self:?}"));
        (answer.status, answer.text().to_owned())
    }

    /// The same by HTTP/2; `None` where the test's own client can't send it.
    fn by_http2(&self, client: &Client) -> Option<(u16, String)> {
        let whole = format!("http://{}{}", self.host, self.target());
        whole.parse::<http::Uri>().ok()?;
        let mut ask =
            TestRequest::new(Method::from_bytes(self.method.as_bytes()).ok()?, &self.target());
        ask.headers.insert("host", self.host.parse().ok()?);
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            ask.headers.append(name.to_lowercase().parse::<HeaderName>().ok()?, value);
        }
        let answer = client.round_trip(ask);
        Some((answer.status, answer.text().to_owned()))
    }
}

/// A text with some of its characters percent-encoded, once or twice.
fn encoded(text: &str, rng: &mut Rng) -> String {
    let one = |byte: u8| match rng.u8(..12) {
        0..=6 => char::from(byte).to_string(),
        7..=8 => format!("%{byte:02x}"),
        9..=10 => format!("%{byte:02X}"),
        _ => format!("%25{byte:02x}"),
    };
    text.bytes().map(one).collect()
}

fn path(rng: &mut Rng) -> String {
    let slashes =
        ["/", "/", "/", "//", "///", "%2f", "%2F", "\\", "%5c", "/./", "/x/../", "/%2e/", ";/"];
    let mut path = (*rng.choice(&["/", "/", "//", "/%2F", "/./"]).unwrap()).to_owned();
    // Most paths are spelt in one odd way or two, which nothing else refuses.
    path += &if rng.bool() { encoded("admin", rng) } else { "admin".to_owned() };
    for _ in 0..rng.usize(..3) {
        path += rng.choice(&slashes).unwrap();
        path += *rng.choice(&["x", "", "%78", "admin"]).unwrap();
    }
    path + *rng.choice(&["", "", "", "", "%00", "%", "%c0%af", "istration"]).unwrap()
}

fn query(rng: &mut Rng) -> String {
    let mut parameters = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let other = rng.choice(&["debug=0", "a=1", "", "=", "debug", "q=100%", "a+b=%26debug%3D0"]);
        parameters.push((*other.unwrap()).to_owned());
    }
    let equals = *rng.choice(&["=", "=", "=", "%3d"]).unwrap();
    let ours = format!("{}{equals}{}", encoded("debug", rng), encoded("1", rng));
    parameters.insert(rng.usize(..=parameters.len()), ours);
    parameters.join("&")
}

fn host(rng: &mut Rng) -> String {
    let name =
        cased(rng.choice(&["admin.example", "admin.example", "admins.example"]).unwrap(), rng);
    format!(
        "{name}{}{}",
        rng.choice(&["", "", "."]).unwrap(),
        rng.choice(&["", "", ":80"]).unwrap()
    )
}

fn cased(text: &str, rng: &mut Rng) -> String {
    let upper = rng.u8(..5);
    let one = |c: char| match upper {
        0 => c,
        1 | 2 => c.to_ascii_uppercase(),
        _ if rng.bool() => c.to_ascii_uppercase(),
        _ => c,
    };
    text.chars().map(one).collect()
}

fn lines(names: &[&str], values: &[&str], rng: &mut Rng) -> Vec<(String, String)> {
    let count = rng.usize(1..4);
    let mut one = || {
        let value = *rng.choice(values).unwrap();
        (cased(rng.choice(names).unwrap(), rng), value.to_owned())
    };
    (0..count).map(|_| one()).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_spelling_passes_a_guard_that_the_service_reads_it_as() {
    let Some(service) = Service::start_with_werkzeug("werkzeug_reader.py") else { return };
    let config = proxy_config(&endpoints(&[service.address()]), "", "");
    let tollgate = Tollgate::start(&format!("{config}{GUARDS}"));
    let seed = number("GUARDS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("GUARDS_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let client = Client::connect(at(&tollgate), Version::Two);
    let mut counts: BTreeMap<(&str, u16), u32> = BTreeMap::new();
    for _ in 0..number("GUARDS_REQUESTS").unwrap_or(2500) {
        let kind = *rng.choice(&KINDS).unwrap();
        let spelt = Spelt::new(kind, &mut rng);
        let answer = match rng.bool() {
            true => Some(spelt.by_http1(&tollgate)),
            false => spelt.by_http2(&client),
        };
        let Some((status, body)) = answer else { continue };
        *counts.entry((kind, status)).or_default() += 1;
        if status == 200 {
            let read: Vec<String> = serde_json::from_str(&body).unwrap();
            assert!(read.is_empty(), "seed {seed}: it was read as {read:?}: {spelt:?}");
        }
    }
    println!("{counts:?}");
    for kind in KINDS {
        let count = |status| counts.get(&(kind, status)).copied().unwrap_or_default();
        assert!(count(403) > 20, "seed {seed}: hardly any {kind} was spelt right: {counts:?}");
        assert!(kind == "method" || count(200) > 20, "seed {seed}: {kind}: {counts:?}");
    }
}
