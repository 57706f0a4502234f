//! curl, before hyper in every pair of versions, and before nginx.

use crate::{
    Pair, each,
    support::{
        http::{Version, endpoints, origin, proxy, proxy_to},
        nginx::Nginx,
        python,
        tollgate::Tollgate,
        tools,
    },
};
use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What curl makes of it.
struct Got {
    code: i32,
    /// The heads of all answers, as they came.
    heads: String,
    body: Vec<u8>,
    /// What curl says it did, with `-v`.
    log: String,
}

impl Got {
    fn status(&self) -> u16 {
        let line = self.heads.lines().rfind(|line| line.starts_with("HTTP/"));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().unwrap().eq_ignore_ascii_case(name);
        let line = self.heads.lines().rfind(|line| named(line))?;
        Some(line.split_once(": ")?.1)
    }
}

/// Runs curl with these arguments, and this on its stdin. `None` where there is no curl.
fn curl(arguments: &[&str], input: &[u8]) -> Option<Got> {
    let heads = tempfile::NamedTempFile::new().unwrap();
    let mut curl: Command = tools::program("curl")?;
    curl.args(["-sSv", "--max-time", "30", "-D"]).arg(heads.path()).args(arguments);
    let mut child =
        curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join();
    Some(Got {
        code: output.status.code().unwrap_or(-1),
        heads: std::fs::read_to_string(heads.path()).unwrap(),
        body: output.stdout,
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Pair {
    /// Runs curl with this pair's version. `None` where there is no curl.
    fn curl(&self, path: &str, arguments: &[&str], input: &[u8]) -> Option<Got> {
        let url = self.url(path);
        let all: Vec<&str> = [self.flag].into_iter().chain(arguments.iter().copied()).collect();
        let got = curl(&[&all[..], &[&url]].concat(), input)?;
        assert_eq!(got.code, 0, "{:?} {path}: {}", self.versions, got.log);
        Some(got)
    }
}

/// Bytes that no two places of have in common.
fn noise(length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(6);
    (0..length).map(|_| rng.u8(..)).collect()
}

#[test]
fn a_request_is_answered_and_logged_in_every_pair_of_versions() {
    each(|pair| {
        let Some(got) = pair.curl("/seen?q=1", &[], b"") else { return };
        let seen: Value = serde_json::from_slice(&got.body).unwrap();
        let host = pair.tollgate.listener("web").to_string();
        assert_eq!((got.status(), &seen["method"]), (200, &Value::from("GET")));
        let told = match pair.versions.1 {
            "2" => seen["target"] == format!("http://{host}/seen?q=1"),
            _ => seen["target"] == "/seen?q=1" && seen["headers"]["host"] == host.as_str(),
        };
        assert!(told, "{seen}");
        assert_eq!(seen["headers"]["x-forwarded-for"], "127.0.0.1");
        let line = &pair.tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["operation"], &line["status"]), (&"GET".into(), &"200".into()), "{line}");
        let versions = (line["version"].as_str(), line["upstream_version"].as_str());
        assert_eq!(versions, (Some(pair.versions.0), Some(pair.versions.1)), "{line}");
    });
}

#[test]
fn big_bodies_arrive_byte_for_byte_both_ways() {
    let sent = noise(8 << 20);
    each(|pair| {
        // With its length, and in chunks without a known length.
        for arguments in [
            &["--data-binary", "@-", "-H", "expect:"][..],
            &["-T", "-", "-X", "POST", "-H", "expect:"][..],
        ] {
            let Some(got) = pair.curl("/echo", arguments, &sent) else { return };
            assert!(got.body == sent, "{:?}: {} bytes came", pair.versions, got.body.len());
        }
        let line = &pair.tollgate.logged(2, |_| true)[1];
        assert!(line["request_bytes"].as_u64() > Some(8 << 20), "{line}");
    });
}

#[test]
fn a_head_has_no_body_but_its_length() {
    each(|pair| {
        let Some(got) = pair.curl("/bytes/1234", &["-I"], b"") else { return };
        assert_eq!((got.status(), got.header("content-length")), (200, Some("1234")));
        assert_eq!(got.header("transfer-encoding"), None);
    });
}

#[test]
fn a_body_that_is_held_back_is_asked_for() {
    each(|pair| {
        let body = noise(200_000);
        let expect = ["--data-binary", "@-", "-H", "expect: 100-continue"];
        let Some(got) = pair.curl("/read", &expect, &body) else { return };
        assert!(got.body == body, "{:?}", pair.versions);
        assert_eq!(got.status(), 200);
        // curl follows it in HTTP/1.1 only.
        let asked = got.heads.starts_with("HTTP/1.1 100");
        assert!(asked || pair.versions.0 == "2", "{:?}: {}", pair.versions, got.heads);
    });
}

#[test]
fn a_body_that_is_refused_early_is_not_sent() {
    each(|pair| {
        // curl's HTTP/2 takes the end of a stream that it still sends on for a failure.
        if pair.versions.0 == "2" {
            return;
        }
        let body = noise(4 << 20);
        let expect = ["--data-binary", "@-", "-H", "expect: 100-continue"];
        let Some(got) = pair.curl("/no", &expect, &body) else { return };
        assert_eq!((got.status(), got.text()), (403, "no, without a look at it\n"));
        let line = &pair.tollgate.logged(1, |_| true)[0];
        // A service of HTTP/2 can't say that it wants the body: what comes meanwhile is sent.
        let most = if pair.versions.1 == "2" { body.len() as u64 } else { 1000 };
        assert!(line["request_bytes"].as_u64() < Some(most), "{:?}: {line}", pair.versions);
    });
}

#[test]
fn a_local_reply_to_head_has_no_body() {
    let routes = "routes: [{ name: here, reply: { status: 404, body: not here } }]";
    let service = origin(Version::One);
    let tollgate = proxy(&service, routes);
    let url = format!("http://{}/", tollgate.listener("web"));
    for flag in ["--http1.1", "--http2-prior-knowledge"] {
        // Were there a body, curl would call it a breach of HTTP/2.
        let Some(got) = curl(&[flag, "-I", &url], b"") else { return };
        assert_eq!((got.code, got.status()), (0, 404), "{}", got.log);
        assert_eq!(got.header("content-length"), Some("8"), "{}", got.log);
        assert_eq!(curl(&[flag, &url], b"").unwrap().text(), "not here");
    }
}

#[test]
fn chunks_and_trailers_stay() {
    each(|pair| {
        // Only who says that it takes trailers is given them by HTTP/1.1.
        let Some(got) = pair.curl("/lines/3", &["-H", "te: trailers"], b"") else { return };
        assert_eq!(got.text(), "line 0\nline 1\nline 2\n");
        assert_eq!(got.header("x-count"), Some("3"), "{:?}: {}", pair.versions, got.heads);
    });
}

#[test]
fn a_client_of_http_1_0_is_served_and_its_connection_closed() {
    each(|pair| {
        if pair.versions.0 == "2" {
            return;
        }
        let url = pair.url("/lines/3");
        let Some(got) = curl(&["-0", &url], b"") else { return };
        assert_eq!((got.code, got.text()), (0, "line 0\nline 1\nline 2\n"), "{}", got.log);
        assert_eq!(got.header("transfer-encoding"), None);
        assert!(got.log.contains("Closing connection"), "{}", got.log);
    });
}

#[test]
fn one_connection_carries_many_requests() {
    each(|pair| {
        // curl 7.88 can't use a connection of HTTP/2 twice where it knows that beforehand.
        if pair.versions.0 == "2" {
            return;
        }
        let url = pair.url("/bytes/[1-20]");
        let arguments = [pair.flag, "-o", "/dev/null", &url];
        let Some(got) = curl(&arguments, b"") else { return };
        assert_eq!(got.code, 0, "{}", got.log);
        assert_eq!(got.heads.matches(" 200").count(), 20, "{}", got.heads);
        let labels = [("listener", "web")];
        assert_eq!(pair.tollgate.metric("tollgate_connections_total", &labels), 1.0);
        assert_eq!(got.log.matches("* Connected to").count(), 1, "{}", got.log);
    });
}

#[test]
fn the_proxy_waits_for_a_service_while_its_client_waits() {
    each(|pair| {
        // A client of HTTP/1.1 that ends its half may still wait for the answer.
        if pair.versions.0 == "1.1" {
            return;
        }
        let url = pair.url("/never");
        let Some(got) = curl(&[pair.flag, "-m", "0.3", &url], b"") else { return };
        assert_eq!(got.code, 28, "{}", got.log);
        let line = &pair.tollgate.logged(1, |_| true)[0];
        assert_eq!(line["outcome"], "cancelled", "{line}");
    });
}

fn nginx() -> Option<(Nginx, Tollgate, String)> {
    let nginx = Nginx::start()?;
    let tollgate = proxy_to(&endpoints(&[nginx.address()]), "", "");
    let url = format!("http://{}", tollgate.listener("web"));
    Some((nginx, tollgate, url))
}

#[test]
fn nginx_s_files_come_whole_in_part_and_as_it_compressed_them() {
    let Some((nginx, tollgate, url)) = nginx() else { return };
    let file = noise(3 << 20);
    nginx.put("big", &file);
    nginx.put("text", "the same words again and again\n".repeat(500).as_bytes());
    for flag in ["--http1.1", "--http2-prior-knowledge"] {
        let Some(got) = curl(&[flag, &format!("{url}/big")], b"") else { return };
        assert!(got.body == file);
        let part = curl(&[flag, "-r", "1000000-1000999", &format!("{url}/big")], b"").unwrap();
        assert!(part.status() == 206 && part.body == file[1_000_000..1_001_000]);
        assert_eq!(part.header("content-range"), Some("bytes 1000000-1000999/3145728"));
        // What a service compressed stays compressed.
        let address = format!("{url}/text");
        let packed = curl(&[flag, "-H", "accept-encoding: gzip", &address], b"").unwrap();
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.body[..2], [0x1f, 0x8b]);
        let plain = curl(&[flag, "--compressed", &address], b"").unwrap();
        assert_eq!(plain.body.len(), 500 * 31, "{}", plain.log);
        let etag = part.header("etag").unwrap().to_owned();
        let again = format!("if-none-match: {etag}");
        let same = curl(&[flag, "-H", &again, &format!("{url}/big")], b"").unwrap();
        assert_eq!((same.status(), same.body.len()), (304, 0));
        // curl 7.88 can't use a connection of HTTP/2 twice where it knows that beforehand.
        let follows = curl(&["-L", &format!("{url}/moved")], b"").unwrap();
        assert_eq!(follows.text(), "a small file, and no more\n");
        assert_eq!(curl(&[flag, &format!("{url}/gone")], b"").unwrap().status(), 404);
    }
    let refused = tollgate.logged(2, |line| line["path"] == "/gone");
    assert_eq!(refused[0]["outcome"], "rejected", "{}", refused[0]);
}

#[test]
fn a_connection_that_nginx_closes_fails_no_request() {
    let Some((_nginx, tollgate, url)) = nginx() else { return };
    // nginx closes each after 50.
    let Some(got) = curl(&["-o", "/dev/null", &format!("{url}/small?[1-180]")], b"") else {
        return;
    };
    assert_eq!((got.code, got.heads.matches(" 200").count()), (0, 180), "{}", got.heads);
    let ok = [("outcome", "ok")];
    tollgate.wait_for_metric("tollgate_operations_total", &ok, 180.0);
}

#[test]
fn a_413_of_nginx_passes_unchanged() {
    let Some((_nginx, tollgate, url)) = nginx() else { return };
    let body = noise(6 << 20);
    let upload = format!("{url}/upload");
    let send = |flag: &str, body: &[u8]| {
        curl(&[flag, "-H", "expect:", "--data-binary", "@-", &upload], body)
    };
    let Some(got) = send("--http1.1", &body) else { return };
    assert_eq!(got.status(), 413, "{}", got.log);
    assert!(got.text().contains("nginx"), "{}", got.text());
    for flag in ["--http1.1", "--http2-prior-knowledge"] {
        let got = send(flag, &body[..1000]).unwrap();
        assert_eq!(got.text(), "took 1000\n", "{}", got.log);
    }
    let address = tollgate.listener("web").to_string();
    python::run("http_scenarios.py", &["early", &address]);
}

#[test]
fn a_tunnel_is_made_by_connect_where_the_route_lets_it() {
    let service = origin(Version::One);
    let tollgate = proxy(&service, "routes: [{ name: any, cluster: shop, connect: true }]");
    let through = format!("http://{}", tollgate.listener("web"));
    let url = format!("http://{}/seen", service.address());
    let Some(got) = curl(&["-p", "-x", &through, &url], b"") else { return };
    assert_eq!(got.code, 0, "{}", got.log);
    let seen: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(seen["headers"].get("x-forwarded-for"), None, "{seen}");
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["operation"], &line["flags"]), (&"CONNECT".into(), &"upgraded".into()));
    // And where it does not, there is none.
    let closed = proxy(&service, "");
    let through = format!("http://{}", closed.listener("web"));
    let got = curl(&["-p", "-x", &through, &url], b"").unwrap();
    assert!(got.code == 56 && got.status() == 403, "{}", got.log);
}
