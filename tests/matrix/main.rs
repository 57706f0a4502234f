//! Every policy × every protocol. A promise is written once and holds for all that Tollgate
//! speaks: a new protocol is one more row in `speakers`, a new policy one more promise.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod client;
mod client_certificates;
mod drains;
mod endpoints;
mod policies;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod web;

use bson::{Document, doc};
use serde_json::Value;
use std::net::SocketAddr;
use support::{
    certificates::Certificates,
    ends::Upstream,
    flaky::Flaky,
    scripted::Scripted,
    tollgate::{self, Tollgate},
    wire::{Message, op_msg},
};
use web::Answer;

/// One protocol, as a matrix needs it: how to have one operation, and what it is called.
struct Speaker {
    protocol: &'static str,
    operation: &'static str,
    resource: &'static str,
    /// Starts a server for clients to be served by.
    serve: fn() -> SocketAddr,
    /// The protocols that clients and servers offer inside TLS (ALPN).
    alpn: &'static [&'static str],
    /// One operation's bytes.
    question: fn() -> Vec<u8>,
    /// Whether this is the whole of the service's answer to it.
    answered: fn(&[u8]) -> bool,
    /// The kind of refusal that this is the whole of. Without words it is a close, and nothing.
    no: fn(&[u8]) -> Option<No>,
    /// The refusal that stands for a reason.
    codes: fn(&str) -> No,
    /// How much of an answer this is, as faults count that cut it short.
    part: fn(&[u8]) -> usize,
    /// Whether the answer was broken off, though its connection goes on for the sake of others.
    cut: fn(&[u8]) -> bool,
    /// What health checks ask.
    probe: &'static str,
    /// Whether operations find their endpoints one by one. Policies are asked before that, and so
    /// no match can name the endpoint; a connection to one outlives its client's; and what becomes
    /// of an endpoint ends the operation, not the client's connection.
    pools: bool,
    /// More keys of its cluster, such as `http: {}, `.
    cluster: &'static str,
}

/// A refusal, as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    /// The connection was closed.
    Closed,
    /// In words: an error's code, and whether it says that trying again later helps.
    CommandOutput { code: i32, again: bool },
}

impl Speaker {
    /// A server that works until its mode changes, inside TLS if there are certificates.
    fn flaky(&self, tls: Option<&Certificates>) -> Flaky {
        let serves = (self.serve)();
        match tls {
            None => Flaky::before(serves),
            Some(tls) => Flaky::encrypted(serves, tls.server_config("server", false, self.alpn)),
        }
    }
}

fn speakers() -> [Speaker; 4] {
    [tcp(), mongo(), http(), grpc()]
}

fn tcp() -> Speaker {
    Speaker {
        protocol: "tcp",
        operation: "session",
        resource: "",
        serve: || {
            let upstream = Upstream::start();
            let address = upstream.address();
            std::thread::spawn(move || {
                loop {
                    let mut server = upstream.accept();
                    std::thread::spawn(move || {
                        // A refused client sends nothing, and may be gone before the answer.
                        if server.try_read(&mut [0; 8]).is_ok() {
                            let _ = server.try_send(b"answer");
                        }
                    });
                }
            });
            address
        },
        alpn: &[],
        question: || b"question".to_vec(),
        answered: |answer| answer == b"answer",
        no: |answer| answer.is_empty().then_some(No::Closed),
        codes: |_| No::Closed,
        part: <[u8]>::len,
        cut: |_| false,
        probe: "{ tcp: { send: question, expect: answer } }",
        pools: false,
        cluster: "",
    }
}

fn mongo() -> Speaker {
    Speaker {
        protocol: "mongo",
        operation: "find",
        resource: "shop.orders",
        serve: || Scripted::agreeing().address(),
        alpn: &[],
        question: || op_msg(7, &doc! { "find": "orders", "filter": {}, "$db": "shop" }),
        answered: |answer| said(answer).is_some_and(|said| said.get_f64("ok").unwrap() == 1.0),
        no: |answer| {
            let said = said(answer).filter(|said| said.get_f64("ok").unwrap() == 0.0)?;
            let again = said
                .get_array("errorLabels")
                .is_ok_and(|labels| labels.contains(&"SystemOverloadedError".into()));
            Some(No::CommandOutput { code: said.get_i32("code").unwrap(), again })
        },
        codes: |reason| match reason {
            "rate_limited" | "overloaded" => No::CommandOutput { code: 462, again: true },
            "denied" => No::CommandOutput { code: 13, again: false },
            "timed_out" => No::CommandOutput { code: 50, again: false },
            "injected" => No::CommandOutput { code: 8000, again: false },
            other => panic!("no code for {other}"),
        },
        part: <[u8]>::len,
        cut: |_| false,
        probe: "mongo",
        pools: false,
        cluster: "",
    }
}

/// Clients' connections are kept for more, and so are those to endpoints; one carries one request
/// at a time.
const POOL: &str = "http: { idle_timeout: 50ms, max_concurrent_streams: 1 }, ";

fn http() -> Speaker {
    Speaker {
        protocol: "http",
        operation: "GET",
        resource: "default",
        serve: web::serve_http,
        alpn: &["http/1.1"],
        question: web::get,
        answered: |answer| Answer::to_get(answer).is_to_get(),
        no: |answer| {
            let answer = Answer::to_get(answer);
            let refused = answer.whole && answer.status >= 400;
            let again = answer.header("retry-after").is_some();
            refused.then(|| {
                let words: Value = serde_json::from_slice(&answer.body).unwrap();
                assert!(words["error"].is_string() && words["message"].is_string(), "{words}");
                No::CommandOutput { code: answer.status.into(), again }
            })
        },
        codes: |reason| match reason {
            "rate_limited" => No::CommandOutput { code: 429, again: true },
            "denied" => No::CommandOutput { code: 403, again: false },
            "lost" => No::CommandOutput { code: 502, again: false },
            "overloaded" | "injected" => No::CommandOutput { code: 503, again: false },
            "timed_out" => No::CommandOutput { code: 504, again: false },
            other => panic!("no code for {other}"),
        },
        part: |answer| Answer::to_get(answer).body.len(),
        cut: |_| false,
        probe: "http",
        pools: true,
        cluster: POOL,
    }
}

fn grpc() -> Speaker {
    Speaker {
        protocol: "grpc",
        operation: "shop.Prices/Get",
        resource: "default",
        serve: web::serve_grpc,
        alpn: &["h2"],
        question: web::call,
        answered: |answer| Answer::to_call(answer).is_to_call(),
        no: |answer| {
            let answer = Answer::to_call(answer);
            let code = answer.grpc().filter(|code| *code != 0)?;
            assert_eq!(answer.status, 200);
            let again = answer.header("grpc-retry-pushback-ms").is_some_and(|ms| ms != "-1");
            Some(No::CommandOutput { code, again })
        },
        codes: |reason| match reason {
            "rate_limited" => No::CommandOutput { code: 8, again: false },
            "denied" => No::CommandOutput { code: 7, again: false },
            "overloaded" | "injected" | "lost" => No::CommandOutput { code: 14, again: false },
            "timed_out" => No::CommandOutput { code: 4, again: false },
            other => panic!("no code for {other}"),
        },
        part: |answer| Answer::to_call(answer).body.len(),
        cut: |answer| Answer::to_call(answer).cut,
        probe: "grpc",
        pools: true,
        cluster: POOL,
    }
}

/// The document of a whole `OP_MSG` that answers the question.
fn said(answer: &[u8]) -> Option<Document> {
    let mut rest = answer;
    let message = Message::read(&mut rest).ok()??;
    assert_eq!(message.answers(), 7);
    Some(message.document())
}

/// A protocol's proxy, and what can be promised of it.
#[derive(Clone, Copy)]
struct Stage<'a> {
    speaker: &'a Speaker,
    /// The server that clients are served by.
    upstream: SocketAddr,
    /// The certificates, if clients and servers are encrypted.
    tls: Option<&'static Certificates>,
    /// The certificate that clients have, if any.
    own: Option<&'static str>,
}

impl Stage<'_> {
    /// A config with one listener `it`, and its cluster with these settings.
    fn config(&self, settings: &str) -> String {
        let Speaker { protocol, cluster, .. } = self.speaker;
        let (mut listener, mut tls) = (String::new(), String::new());
        if let Some(certificates) = self.tls {
            listener = format!(", tls: {{ certificates: {} }}", certificates.pair("server"));
            tls = format!("tls: {{ ca: {} }}, ", certificates.path("ca.crt").display());
        }
        format!(
            "listeners:\n  it: {{ address: \"127.0.0.1:0\", protocol: {protocol}, cluster: it{listener} }}\n\
             clusters:\n  it: {{ {cluster}{tls}{settings} }}\n"
        )
    }

    /// A server that works until its mode changes.
    fn flaky(&self) -> Flaky {
        self.speaker.flaky(self.tls)
    }

    /// A proxy with one listener `it`, and these settings for the access log.
    fn proxy(&self, log_settings: &str) -> Tollgate {
        let config = self.config(&format!("endpoints: [\"{}\"]", self.upstream));
        Tollgate::start_as(tollgate::program(), log_settings, &config)
    }

    /// Has this many operations served.
    fn operate(&self, tollgate: &Tollgate, times: usize) {
        for _ in 0..times {
            let answer = self.answer(tollgate).unwrap();
            assert!((self.speaker.answered)(&answer), "{answer:?}");
        }
    }

    /// The labels of the operation's metrics.
    fn labels(&self) -> [(&'static str, &'static str); 4] {
        let Speaker { protocol, operation, resource, .. } = *self.speaker;
        [
            ("listener", "it"),
            ("protocol", protocol),
            ("operation", operation),
            ("resource", resource),
        ]
    }
}

/// Holds a promise against every protocol there is, in plain text and inside TLS on both sides.
fn each(promise: impl Fn(&Stage<'_>)) {
    for speaker in &speakers() {
        println!("{}", speaker.protocol);
        promise(&Stage { speaker, upstream: (speaker.serve)(), tls: None, own: None });
        println!("{} inside TLS", speaker.protocol);
        let tls = Some(Certificates::shared());
        promise(&Stage { speaker, upstream: speaker.flaky(tls).address(), tls, own: None });
    }
}

#[test]
fn no_protocol_is_missing() {
    let said = tollgate::output_of(&["proxy", "gibberish", "127.0.0.1:0", "127.0.0.1:1"]);
    let names = said.err.lines().find_map(|line| line.trim().strip_prefix("hint: write one of "));
    let names: Vec<&str> = names.unwrap_or_else(|| panic!("{said:?}")).split(", ").collect();
    assert_eq!(speakers().map(|speaker| speaker.protocol).to_vec(), names);
}

#[test]
fn every_operation_is_counted_and_timed() {
    each(|stage| {
        let tollgate = stage.proxy("");
        stage.operate(&tollgate, 3);
        let labels = stage.labels();
        let ok = [&labels[..], &[("outcome", "ok")]].concat();
        tollgate.wait_for_metric("tollgate_operations_total", &ok, 3.0);
        tollgate.wait_for_metric("tollgate_operations_total", &labels, 3.0);
        tollgate.wait_for_metric("tollgate_operation_duration_seconds_count", &labels, 3.0);
        assert!(tollgate.metric("tollgate_operation_duration_seconds_sum", &labels) > 0.0);
        for direction in ["request", "reply"] {
            let bytes = [&labels[..], &[("direction", direction)]].concat();
            assert!(tollgate.metric("tollgate_operation_bytes_total", &bytes) > 0.0, "{direction}");
        }
        tollgate.wait_for_metric("tollgate_operations_active", &[("listener", "it")], 0.0);
    });
}

#[test]
fn every_operation_has_a_row_for_people() {
    each(|stage| {
        let tollgate = stage.proxy("");
        stage.operate(&tollgate, 3);
        tollgate.wait_for_metric("tollgate_operations_total", &stage.labels(), 3.0);
        let rows = tollgate.operations();
        let ours = |row: &&Value| stage.labels().iter().all(|(key, value)| row[*key] == *value);
        let row = rows.iter().find(ours).unwrap_or_else(|| panic!("no row in {rows:?}"));
        assert_eq!((&row["count"], &row["errors"]), (&3.into(), &0.into()), "{row}");
    });
}

#[test]
fn every_operation_is_logged() {
    each(|stage| {
        let tollgate = stage.proxy("");
        stage.operate(&tollgate, 3);
        let lines = tollgate.logged(3, |_| true);
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in lines {
            for (key, value) in stage.labels().iter().filter(|(_, value)| !value.is_empty()) {
                assert_eq!(line[*key], *value, "{key} of {line}");
            }
            assert_eq!(line["outcome"], "ok", "{line}");
            assert_eq!(line["endpoint"], stage.upstream.to_string(), "{line}");
            assert_eq!(line["cluster"], "it", "{line}");
            assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
            for number in ["duration_ms", "ttfb_ms", "request_bytes", "reply_bytes"] {
                assert!(line[number].as_f64().unwrap() > 0.0, "{number} of {line}");
            }
        }
    });
}

#[test]
fn only_slow_operations_are_logged_where_only_those_are_wanted() {
    each(|stage| {
        for (limit, lines) in [("1h", 0), ("0.001ms", 3)] {
            let mut tollgate = stage.proxy(&format!("slower_than: {limit}"));
            stage.operate(&tollgate, 3);
            tollgate.wait_for_metric("tollgate_operations_total", &stage.labels(), 3.0);
            assert!(tollgate.stop().success());
            assert_eq!(tollgate.access_log().len(), lines, "{limit}");
        }
    });
}

#[test]
fn every_connection_is_counted_with_the_reason_of_its_end() {
    each(|stage| {
        let tollgate = stage.proxy("");
        stage.operate(&tollgate, 3);
        let listener = [("listener", "it")];
        tollgate.wait_for_metric("tollgate_connections_total", &listener, 3.0);
        tollgate.wait_for_metric("tollgate_connection_close_total", &listener, 3.0);
        tollgate.wait_for_metric("tollgate_connections_active", &listener, 0.0);
        let cluster = [("cluster", "it")];
        if stage.speaker.pools {
            // At least one, and at most one for each worker.
            let made = tollgate.metric("tollgate_upstream_connect_total", &cluster);
            assert!((1.0..=3.0).contains(&made), "{made}");
        } else {
            tollgate.wait_for_metric("tollgate_upstream_connect_total", &cluster, 3.0);
        }
        tollgate.wait_for_metric("tollgate_upstream_connections_active", &cluster, 0.0);
    });
}
