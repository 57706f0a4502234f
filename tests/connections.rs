//! Connections are shared out evenly, counted, limited, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
    time::Duration,
};
use support::{
    ends::{End, Upstream},
    eventually,
    tollgate::{self, Tollgate, tcp_config},
};

/// Sessions through the proxy, each shown to work.
fn sessions(upstream: &Upstream, tollgate: &Tollgate, count: usize) -> Vec<(End, End)> {
    let session = |_| {
        let (mut client, mut server) = upstream.session(tollgate);
        works(&mut client, &mut server);
        (client, server)
    };
    (0..count).map(session).collect()
}

fn works(client: &mut End, server: &mut End) {
    client.send(b"question");
    server.expect(b"question");
    server.send(b"answer");
    client.expect(b"answer");
}

/// Waits until all workers together serve this many connections.
fn served(tollgate: &Tollgate, count: f64) {
    tollgate.wait_for_metric("tollgate_connections_active", &[], count);
    eventually("the seats to be given up", || {
        (tollgate.listener_report("wire")["connections"] == count as u64).then_some(())
    });
}

fn refused(tollgate: &Tollgate, count: f64) {
    let reason = [("listener", "wire"), ("reason", "connection_limit")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &reason, count);
}

#[test]
fn sixteen_long_lived_connections_are_spread_over_four_workers() {
    let upstream = Upstream::start();
    let config = tcp_config(upstream.address(), "");
    let tollgate = Tollgate::start(&format!("workers: 4\n{config}"));
    let _sessions = sessions(&upstream, &tollgate, 16);
    let report = tollgate.listener_report("wire");
    assert_eq!(report["connections"], 16);
    let by_worker: Vec<u64> = report["connections_by_worker"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|n| n.as_u64())
        .collect();
    assert_eq!(by_worker.len(), 4, "{report}");
    assert!(by_worker.iter().all(|n| *n <= 5), "{report}");
}

#[test]
fn a_connection_over_the_limit_is_closed_at_once() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "max_connections: 2");
    let mut open = sessions(&upstream, &tollgate, 2);
    End::connect(tollgate.listener("wire")).expect_end();
    refused(&tollgate, 1.0);
    open.iter_mut().for_each(|(client, server)| works(client, server));
    open.pop();
    served(&tollgate, 1.0);
    open.extend(sessions(&upstream, &tollgate, 1));
    open.iter_mut().for_each(|(client, server)| works(client, server));
    refused(&tollgate, 1.0);
}

#[test]
fn the_whole_proxy_s_limit_counts_every_listener_s_connections() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::start(&two_listeners(&upstream, "max_connections: 2"));
    let mut open = sessions(&upstream, &tollgate, 1);
    let (mut there, mut back) = session_by_other(&upstream, &tollgate);
    End::connect(tollgate.listener("wire")).expect_end();
    refused(&tollgate, 1.0);
    works(&mut there, &mut back);
    open.iter_mut().for_each(|(client, server)| works(client, server));
    drop((there, back));
    served(&tollgate, 1.0);
    open.extend(sessions(&upstream, &tollgate, 1));
    refused(&tollgate, 1.0);
}

/// A proxy with the listeners `wire` and `other` before this server.
fn two_listeners(upstream: &Upstream, more: &str) -> String {
    let other = "listeners:\n  other: { address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }";
    format!("{more}\n{}", tcp_config(upstream.address(), "").replace("listeners:", other))
}

/// A session by the listener `other`.
fn session_by_other(upstream: &Upstream, tollgate: &Tollgate) -> (End, End) {
    let mut client = End::connect(tollgate.listener("other"));
    let mut server = upstream.accept();
    works(&mut client, &mut server);
    (client, server)
}

#[test]
fn a_flooded_listener_leaves_the_other_its_share() {
    let upstream = Upstream::start();
    // Two are reserved for each listener, four are for either.
    let tollgate = Tollgate::start(&two_listeners(&upstream, "max_connections: 8"));
    assert_eq!(tollgate.listener_report("other")["reserved_connections"], 2);
    let mut flood = sessions(&upstream, &tollgate, 6);
    for count in 1..=10 {
        End::connect(tollgate.listener("wire")).expect_end();
        refused(&tollgate, f64::from(count));
    }
    let mut others = [(); 2].map(|()| session_by_other(&upstream, &tollgate));
    // The whole proxy is full now.
    End::connect(tollgate.listener("other")).expect_end();
    flood.iter_mut().chain(&mut others).for_each(|(client, server)| works(client, server));
    // What the flood gives up beyond its share is there for the other.
    flood.truncate(2);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 4.0);
    let _more = [(); 4].map(|()| session_by_other(&upstream, &tollgate));
    End::connect(tollgate.listener("other")).expect_end();
}

#[test]
fn the_only_listener_has_every_connection_of_the_proxy() {
    let upstream = Upstream::start();
    let config = tcp_config(upstream.address(), "");
    let tollgate = Tollgate::start(&format!("max_connections: 4\n{config}"));
    let _open = sessions(&upstream, &tollgate, 4);
    End::connect(tollgate.listener("wire")).expect_end();
    refused(&tollgate, 1.0);
}

#[test]
fn a_flooded_listener_leaves_the_other_its_descriptors() {
    let upstream = Upstream::start();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 96; exec \"$0\" \"$@\""]);
    limited.arg(tollgate::program().get_program());
    // The other listener leads elsewhere: the flood's connections are not in its way.
    let elsewhere = Upstream::start();
    let cluster = format!("clusters:\n  other: {{ endpoints: [\"{}\"] }}", elsewhere.address());
    let config = two_listeners(&upstream, "workers: 1")
        .replace("protocol: tcp, cluster: wire }", "protocol: tcp, cluster: other }")
        .replace("clusters:", &cluster);
    let tollgate = Tollgate::start_as(limited, "", &config);
    let (wire, other) = (tollgate.listener("wire"), tollgate.listener("other"));
    let _flood: Vec<End> = (0..40).map(|_| End::connect(wire)).collect();
    eventually("word of it", || tollgate.stderr().contains("out of file desc").then_some(()));
    // More than the one that a listener is already waiting for.
    let mut served = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = (End::connect(other), elsewhere.accept());
        works(&mut client, &mut server);
        served.push((client, server));
    }
    assert!(tollgate.metric("tollgate_connections_active", &[("listener", "wire")]) < 40.0);
}

#[test]
fn clients_of_one_network_share_a_limit_by_network() {
    let upstream = Upstream::start();
    let config = |key: &str| {
        let limit = format!("connection_limit: {{ max: 1, over: close, key: [{key}] }}");
        let policy = format!("policies: [{{ name: few, {limit} }}]\n");
        format!("{}{policy}", tcp_config(upstream.address(), ""))
    };
    for (key, shared) in [("peer", false), ("peer/64", false), ("peer/8/64", true)] {
        let tollgate = Tollgate::start(&config(key));
        let address = tollgate.listener("wire");
        let mut open = sessions(&upstream, &tollgate, 1);
        let mut neighbour = End::connect_from([127, 0, 0, 2].into(), address);
        if shared {
            neighbour.expect_end();
        } else {
            works(&mut neighbour, &mut upstream.accept());
        }
        open.iter_mut().for_each(|(client, server)| works(client, server));
    }
}

#[test]
fn two_hundred_connections_leave_nothing_behind() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    drop(sessions(&upstream, &tollgate, 1));
    served(&tollgate, 0.0);
    let before = tollgate.descriptors();
    for _ in 0..10 {
        let mut open = sessions(&upstream, &tollgate, 20);
        // Each kind of end: by the client, by the server, by resets.
        for (at, (client, server)) in open.drain(..).enumerate() {
            match at % 4 {
                0 => drop((client, server)),
                1 => drop((server, client)),
                2 => client.reset(),
                _ => server.reset(),
            }
        }
    }
    served(&tollgate, 0.0);
    tollgate.wait_for_metric("tollgate_upstream_connections_active", &[], 0.0);
    tollgate.wait_for_metric("tollgate_operations_active", &[], 0.0);
    let labels = [("listener", "wire")];
    assert_eq!(tollgate.metric("tollgate_connections_total", &labels), 201.0);
    assert_eq!(tollgate.metric("tollgate_connection_close_total", &labels), 201.0);
    eventually("the descriptors to be closed", || (tollgate.descriptors() <= before).then_some(()));
}

#[test]
fn without_descriptors_new_connections_wait_and_old_ones_live() {
    let upstream = Upstream::start();
    let mut limited = Command::new("sh");
    // Room for the ten below also where the process inherits descriptors that are not its own.
    limited.args(["-c", "ulimit -n 96; exec \"$0\" \"$@\""]);
    limited.arg(tollgate::program().get_program());
    let config = tcp_config(upstream.address(), "");
    let tollgate = Tollgate::start_as(limited, "", &format!("workers: 1\n{config}"));
    let address = tollgate.listener("wire");
    let mut open = sessions(&upstream, &tollgate, 10);
    // More than there are descriptors for. The kernel takes them, the proxy can't.
    let mut clients: Vec<End> = (0..30).map(|_| End::connect(address)).collect();
    eventually("word of it", || tollgate.stderr().contains("out of file desc").then_some(()));
    open.iter_mut().for_each(|(client, server)| works(client, server));
    let paused = [("listener", "wire")];
    eventually("a pause", || {
        (tollgate.metric("tollgate_accept_paused_total", &paused) > 0.0).then_some(())
    });
    drop(open);
    // Waiting clients are served as others leave, one after the other.
    while !clients.is_empty() {
        let mut server = upstream.accept();
        server.send(b"hello");
        let at = eventually("whose server it is", || clients.iter().position(End::has_input));
        let mut client = clients.remove(at);
        client.expect(b"hello");
        works(&mut client, &mut server);
    }
    assert_eq!(tollgate.stderr().matches("out of file desc").count(), 1, "said over and over");
    let close = [("listener", "wire"), ("reason", "connect_failed")];
    assert_eq!(tollgate.metric("tollgate_connection_close_total", &close), 0.0);
    served(&tollgate, 0.0);
}

/// A service at this port of every local address that takes a moment to answer a byte with `y`.
fn answers_slowly() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            thread::spawn(move || {
                client.read_exact(&mut [0])?;
                // For as long a check has a descriptor.
                thread::park_timeout(Duration::from_millis(900));
                client.write_all(b"y")
            });
        }
    });
    port
}

#[test]
fn checks_that_find_no_descriptor_say_nothing_about_endpoints() {
    let port = answers_slowly();
    let address = |i: usize| format!("\"127.0.{}.{}:{port}\"", i / 100, i % 100 + 1);
    let endpoints: Vec<_> = (0..200).map(address).collect();
    let mut limited = Command::new("sh");
    // Fewer than a hundred checks at once would take.
    limited.args(["-c", "ulimit -n 80; exec \"$0\" \"$@\""]);
    limited.arg(tollgate::program().get_program());
    let check = "interval: 20s, timeout: 20s, unhealthy_threshold: 1, \
                 close_connections_on_unhealthy: true, probe: { tcp: { send: \"?\", expect: y } }";
    let config = format!(
        "workers: 1\nlisteners:\n  wire: {{ address: 127.0.0.1:0, protocol: tcp, cluster: wire }}\n\
         clusters:\n  wire: {{ endpoints: [{}], health_check: {{ {check} }} }}\n",
        endpoints.join(", ")
    );
    let tollgate = Tollgate::start_as(limited, "", &config);
    let checks = "tollgate_health_checks_total";
    eventually("checks that can't be made", || {
        (tollgate.metric(checks, &[("result", "local_error")]) > 0.0).then_some(())
    });
    assert_eq!(tollgate.metric(checks, &[("result", "failed")]), 0.0);
    assert!(tollgate.metric(checks, &[("result", "ok")]) > 0.0);
    assert_eq!(tollgate.metric("tollgate_endpoint_up", &[]), 200.0);
    let told = tollgate.stderr();
    assert_eq!(told.matches("no endpoint is blamed").count(), 1, "{told}");
}
