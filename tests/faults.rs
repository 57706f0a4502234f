//! Faults, time limits and bandwidth limits of a config do what their page says.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use support::{
    client::RawClient,
    ends::{End, Upstream},
    scripted::Scripted,
    tollgate::{Tollgate, tcp_config},
};

/// A proxy with the listener `wire` and this policy.
fn tcp(upstream: SocketAddr, policy: &str) -> Tollgate {
    let config = tcp_config(upstream, "");
    Tollgate::start(&format!("{config}workers: 2\npolicies:\n  - {{ name: x, {policy} }}\n"))
}

fn mongo(upstream: SocketAddr, policy: &str) -> Tollgate {
    Tollgate::mongo_guarded(upstream, "", &format!("  - {{ name: x, {policy} }}\n"))
}

/// Which of this many commands are refused.
fn refused(policy: &str, commands: i32) -> Vec<i32> {
    let server = Scripted::agreeing();
    let tollgate = mongo(server.address(), policy);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let fails = |id: &i32| {
        let answer = client.command(*id, &doc! { "ping": 1, "$db": "admin" });
        answer.get_f64("ok").is_ok_and(|ok| ok == 0.0)
    };
    let refused: Vec<i32> = (1..=commands).filter(fails).collect();
    let labels = [("listener", "db"), ("policy", "x"), ("reason", "injected")];
    let counted = tollgate.metric("tollgate_refusals_total", &labels);
    assert_eq!(counted, refused.len() as f64);
    refused
}

#[test]
fn the_same_seed_refuses_the_same_commands_again() {
    let policy = "fault: { percent: 30, seed: 7, refuse: { code: 50 } }";
    let first = refused(policy, 100);
    assert!((10..50).contains(&first.len()), "{first:?}");
    assert_eq!(first, refused(policy, 100));
    assert_ne!(first, refused("fault: { percent: 30, seed: 8, refuse: { code: 50 } }", 100));
}

#[test]
fn the_nth_command_is_refused_and_every_nth_so_many_times() {
    assert_eq!(refused("fault: { nth: 3, refuse: {} }", 10), [3]);
    assert_eq!(refused("fault: { every: 3, times: 2, refuse: {} }", 10), [3, 6]);
    assert_eq!(refused("dry_run: true, fault: { refuse: {} }", 0), [0; 0]);
}

#[test]
fn a_delayed_rejection_is_late_and_a_fault_expires() {
    let server = Scripted::agreeing();
    let policy = "fault: { for: 2s, delay: 300ms, refuse: { message: on purpose } }";
    let tollgate = mongo(server.address(), policy);
    let mut client = RawClient::connect(tollgate.listener("db"));
    let began = Instant::now();
    let answer = client.command(1, &doc! { "ping": 1, "$db": "admin" });
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(answer.to_string().contains("on purpose"), "{answer}");
    let mut id = 1;
    support::eventually("the fault to end", || {
        id += 1;
        let answer = client.command(id, &doc! { "ping": 1, "$db": "admin" });
        answer.get_f64("ok").is_ok_and(|ok| ok == 1.0).then_some(())
    });
}

#[test]
fn sessions_are_broken_as_the_policy_says() {
    let upstream = Upstream::start();
    for (fault, heard, got) in [
        ("close: request", false, &b""[..]),
        ("close: reply", true, b""),
        ("truncate: 3", true, b"wel"),
        ("close: end", true, b"welcome"),
    ] {
        let tollgate = tcp(upstream.address(), &format!("fault: {{ {fault} }}"));
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"hello");
        if heard {
            server.expect(b"hello");
            server.send(b"welcome");
            server.finish();
        }
        assert_eq!(client.rest(), got, "{fault}");
        drop(client);
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["outcome"], &line["reason"]), (&"lost".into(), &"injected".into()));
        let labels = [("listener", "wire"), ("reason", "injected")];
        tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
        tollgate.wait_for_metric("tollgate_upstream_connections_active", &[], 0.0);
    }
}

#[test]
fn faults_are_no_reason_to_eject_an_endpoint() {
    let upstream = Upstream::start();
    let config = tcp_config(upstream.address(), "").replace(
        "endpoints:",
        "outlier_detection: { consecutive_failures: 2, max_ejection_percent: 100 }, endpoints:",
    );
    let tollgate = Tollgate::start(&format!(
        "{config}policies:\n  - {{ name: x, fault: {{ reset: request }} }}\n"
    ));
    for _ in 0..10 {
        // The reset may come before the client knows that it is connected.
        let _ = std::net::TcpStream::connect(tollgate.listener("wire"));
        let _server = upstream.accept();
    }
    assert_eq!(tollgate.metric("tollgate_ejections_total", &[]), 0.0);
}

#[test]
fn a_reply_timeout_is_counted_for_the_policy() {
    let upstream = Upstream::start();
    let tollgate = tcp(upstream.address(), "time_limit: { timeout: 300ms }");
    let (mut client, _server) = upstream.session(&tollgate);
    client.send(b"anybody?");
    assert_eq!(client.rest(), b"");
    drop(client);
    assert_eq!(tollgate.logged(1, |_| true)[0]["reason"], "operation_timeout");
    let labels = [("listener", "wire"), ("policy", "x"), ("reason", "timed_out")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

/// How many bytes each of two clients gets of servers that send as fast as they can.
fn pulled(upstream: &Upstream, tollgate: &Tollgate, time: Duration) -> [usize; 2] {
    let began = Instant::now();
    let pull = |(mut client, mut server): (End, End)| {
        thread::spawn(move || while server.try_send(&[7; 4096]).is_ok() {});
        thread::spawn(move || {
            let mut got = 0;
            while began.elapsed() < time && client.try_read(&mut [0; 1024]).is_ok() {
                got += 1024;
            }
            got
        })
    };
    let two = [(), ()].map(|()| upstream.session(tollgate)).map(pull);
    two.map(|one| one.join().unwrap())
}

#[test]
fn connections_share_a_bandwidth_evenly_over_workers() {
    let upstream = Upstream::start();
    let limit = "bandwidth_limit: { down: 1MiB/s, burst: 64KiB, of: all }";
    let tollgate = tcp(upstream.address(), limit);
    let [one, two] = pulled(&upstream, &tollgate, Duration::from_secs(3));
    println!("shared: {one} and {two} bytes of {}", 3 << 20);
    let all = one + two;
    assert!(all <= (3 << 20) + (200 << 10), "{all}");
    assert!(all >= 5 << 19, "{all}");
    assert!(one.abs_diff(two) < all / 10, "{one} and {two}");
}

#[test]
fn a_bandwidth_can_hold_for_each_connection() {
    let upstream = Upstream::start();
    let tollgate = tcp(upstream.address(), "bandwidth_limit: { down: 1MiB/s }");
    for got in pulled(&upstream, &tollgate, Duration::from_secs(2)) {
        println!("alone: {got} bytes of {}", 2 << 20);
        assert!((3 << 19..=(2 << 20) + (200 << 10)).contains(&got), "{got}");
    }
    let tollgate = tcp(upstream.address(), "dry_run: true, bandwidth_limit: { down: 10KiB/s }");
    let [one, two] = pulled(&upstream, &tollgate, Duration::from_secs(1));
    assert!(one > 1 << 20 && two > 1 << 20, "{one} and {two}");
}
