//! A bad network before a TCP service, made on purpose: latency, pieces, a black hole, ends that come
//! late or too early.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::{
    ends::{End, Upstream, plain_and_encrypted},
    tollgate::Tollgate,
};

/// Sessions whose network is as bad as this from their beginning.
fn before(upstream: &Upstream, fault: &str) -> Tollgate {
    let config = upstream.config("");
    Tollgate::start(&format!("{config}policies: [{{ name: net, fault: {{ {fault} }} }}]\n"))
}

/// How long these bytes take from one end to the other.
fn passes(from: &mut End, to: &mut End, bytes: &[u8]) -> Duration {
    let began = Instant::now();
    from.send(bytes);
    to.expect(bytes);
    began.elapsed()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn each_chunk_is_late_one_way_and_not_the_other() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "latency: 200ms, to: client");
        let (mut client, mut server) = upstream.session(&tollgate);
        for _ in 0..3 {
            assert!(passes(&mut client, &mut server, b"question") < ms(150));
            let late = passes(&mut server, &mut client, b"answer");
            assert!((ms(200)..ms(1000)).contains(&late), "{late:?}");
        }
        let ended = Instant::now();
        drop(server);
        assert!(client.rest().is_empty());
        assert!(ended.elapsed() >= ms(200), "the end is a chunk like any other");
        drop(client);
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!((&line["policy"], &line["outcome"]), (&"net".into(), &"ok".into()), "{line}");
    });
}

#[test]
fn chunks_are_on_their_way_together() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "latency: 300ms, to: service");
        let (mut client, mut server) = upstream.session(&tollgate);
        let began = Instant::now();
        for n in 0..10 {
            client.send(&[n; 1000]);
            client.expect_silence(ms(20));
        }
        for n in 0..10 {
            server.expect(&[n; 1000]);
        }
        let took = began.elapsed();
        assert!(
            (ms(480)..ms(1500)).contains(&took),
            "ten at 20 ms each, and 300 ms once: {took:?}"
        );
    });
}

#[test]
fn latencies_are_drawn_and_no_chunk_overtakes_another() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "latency: { min: 1ms, max: 60ms }");
        let (mut client, mut server) = upstream.session(&tollgate);
        let sent_bytes: Vec<u8> = (0..50_u8).collect();
        let mut sender = client.try_clone();
        let sending = std::thread::spawn(move || {
            for n in 0..50_u8 {
                sender.send(&[n]);
                sender.expect_silence(ms(2));
            }
            sender.finish();
        });
        assert_eq!(server.rest(), sent_bytes);
        sending.join().unwrap();
        server.send(b"bye");
        client.expect(b"bye");
    });
}

#[test]
fn much_data_passes_a_latency_whole_and_in_order() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "latency: 20ms");
        let (mut client, mut server) = upstream.session(&tollgate);
        let block: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut sender, sent) = (client.try_clone(), block.clone());
        let sending = std::thread::spawn(move || {
            sender.send(&sent);
            sender.finish();
        });
        assert!(server.rest() == block, "other bytes came");
        sending.join().unwrap();
        server.finish();
        assert!(client.rest().is_empty());
    });
}

#[test]
fn bytes_arrive_in_pieces_with_pauses() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "slice: { size: 3B, pause: 50ms }, to: service");
        let (mut client, mut server) = upstream.session(&tollgate);
        let began = Instant::now();
        client.send(b"0123456789");
        client.finish();
        assert_eq!(server.more(), b"012");
        assert_eq!(server.rest(), b"3456789");
        assert!(began.elapsed() >= ms(140), "three pauses: {:?}", began.elapsed());
        assert!(passes(&mut server, &mut client, b"all of it at once") < ms(100));
    });
}

#[test]
fn all_of_it_together_loses_nothing_and_changes_no_order() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(
            &upstream,
            "latency: { min: 1ms, max: 15ms }, slice: { size: 1700B, pause: 1ms }, \
             slow_close: 50ms, throttle: 2MiB/s",
        );
        let (client, server) = upstream.session(&tollgate);
        let sent_bytes =
            |seed: u32| (0..300_000_u32).map(|n| (n.wrapping_mul(seed) >> 7) as u8).collect();
        let ways: [(End, End, Vec<u8>); 2] = [
            (client.try_clone(), server.try_clone(), sent_bytes(2_654_435_761)),
            (server, client, sent_bytes(40_503)),
        ];
        let passing = ways.map(|(mut from, mut to, sent_bytes)| {
            let sent = sent_bytes.clone();
            let sends = std::thread::spawn(move || {
                from.send(&sent);
                from.finish();
                from
            });
            let receiving =
                std::thread::spawn(move || assert!(to.rest() == sent_bytes, "other bytes came"));
            (sends, receiving)
        });
        for (sends, receiving) in passing {
            receiving.join().unwrap();
            drop(sends.join().unwrap());
        }
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(
            (&line["request_bytes"], &line["reply_bytes"]),
            (&300_000.into(), &300_000.into())
        );
    });
}

#[test]
fn a_black_hole_swallows_bytes_until_its_time_limit() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "black_hole: true, to: client, close_after: 600ms");
        let began = Instant::now();
        let (mut client, mut server) = upstream.session(&tollgate);
        passes(&mut client, &mut server, b"question");
        server.send(&vec![7; 5_000_000]);
        server.finish();
        client.expect_silence(ms(200));
        assert!(client.rest().is_empty());
        assert!(began.elapsed() >= ms(600), "{:?}", began.elapsed());
        let line = &tollgate.logged(1, |_| true)[0];
        assert_eq!(
            (&line["reason"], &line["reply_bytes"]),
            (&"injected".into(), &0.into()),
            "{line}"
        );
    });
}

#[test]
fn a_session_ends_at_its_time_however_busy() {
    plain_and_encrypted(|start| {
        for (key, resets) in [("close_after", false), ("reset_after", true)] {
            let upstream = start();
            let tollgate = before(&upstream, &format!("{key}: 300ms"));
            let began = Instant::now();
            let (mut client, mut server) = upstream.session(&tollgate);
            passes(&mut client, &mut server, b"question");
            passes(&mut server, &mut client, b"answer");
            if resets {
                client.read_until_reset();
            } else {
                assert!(client.rest().is_empty());
            }
            assert!(began.elapsed() >= ms(300), "{:?}", began.elapsed());
            server.expect_end();
            assert_eq!(tollgate.logged(1, |_| true)[0]["reason"], "injected");
        }
    });
}

#[test]
fn an_end_comes_late_where_that_is_asked() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = before(&upstream, "slow_close: 300ms, to: service");
        let (mut client, mut server) = upstream.session(&tollgate);
        let began = Instant::now();
        client.send(b"all of it");
        client.finish();
        server.expect(b"all of it");
        assert!(began.elapsed() < ms(250), "{:?}", began.elapsed());
        assert!(server.rest().is_empty());
        assert!(began.elapsed() >= ms(300), "{:?}", began.elapsed());
        server.send(b"late answer");
        server.finish();
        assert_eq!(client.rest(), b"late answer");
    });
}

#[test]
fn faults_apply_to_open_sessions_and_end_with_the_policy() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        let on = |fault: &str| -> Value {
            let body = format!("{{\"fault\": {fault}, \"for\": \"1m\"}}");
            let (status, body) = tollgate.send("POST", "/faults", &body);
            assert_eq!(status, 201, "{body}");
            serde_json::from_str(&body).unwrap()
        };
        let off = |fault: &Value| {
            let path = format!("/faults/{}", fault["id"].as_str().unwrap());
            assert_eq!(tollgate.send("DELETE", &path, "").0, 204);
        };
        assert!(passes(&mut client, &mut server, b"good") < ms(150));
        let slow = on(r#"{"latency": "200ms"}"#);
        assert!(passes(&mut client, &mut server, b"bad") >= ms(200));
        off(&slow);
        assert!(passes(&mut client, &mut server, b"good") < ms(150));
        let hole = on(r#"{"black_hole": true, "to": "client"}"#);
        off(&hole);
        assert!(passes(&mut server, &mut client, b"nothing was lost") < ms(150));
        let hole = on(r#"{"black_hole": true, "to": "client"}"#);
        server.send(b"lost");
        client.expect_silence(ms(100));
        off(&hole);
        // A client can see that something is missing in the middle.
        client.read_until_reset();
    });
}

#[test]
fn what_is_for_streams_is_refused_where_there_are_messages() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = Tollgate::mongo(upstream.address());
        let fault = r#"{"fault": {"latency": "200ms"}, "for": "1m"}"#;
        let (status, body) = tollgate.send("POST", "/faults", fault);
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("match: { protocol: tcp }"), "{body}");
    });
}
