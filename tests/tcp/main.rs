//! A TCP session through the proxy is the same as one without it: bytes, ends, pace and resets.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod failures;
mod timeouts;

use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    ends::{End, plain_and_encrypted},
    tollgate::Tollgate,
};

const MIB: usize = 1 << 20;

/// The log's one session.
fn logged(tollgate: &Tollgate) -> Value {
    let mut lines = tollgate.logged(1, |_| true);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines.remove(0);
    assert_eq!(line["protocol"], "tcp");
    assert_eq!(line["operation"], "session");
    line
}

/// Asserts why and how well the one session ended, in the log and in the metrics.
fn ended(tollgate: &Tollgate, reason: &str, outcome: &str) -> Value {
    let line = logged(tollgate);
    assert_eq!(line["reason"], reason, "{line}");
    assert_eq!(line["outcome"], outcome, "{line}");
    let labels = [("listener", "wire"), ("reason", reason)];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    tollgate.wait_for_metric("tollgate_upstream_connections_active", &[], 0.0);
    line
}

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.roll().to_le_bytes()).take(length).collect()
    }
}

/// Sends all of it in pieces of many sizes, single bytes among them.
fn send_in_pieces(mut end: End, bytes: Vec<u8>, mut dice: Dice) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let most = [1, 100, 5_000, 70_000, 300_000][(dice.roll() % 5) as usize];
            let (piece, after) = rest.split_at(rest.len().min(1 + dice.roll() as usize % most));
            end.send(piece);
            rest = after;
        }
        end.finish();
    })
}

#[test]
fn bytes_pass_unchanged_both_ways() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        let (asked, answered) = (Dice(1).bytes(5 * MIB + 1), Dice(2).bytes(3 * MIB + 7));
        let up = send_in_pieces(client.try_clone(), asked.clone(), Dice(3));
        let down = send_in_pieces(server.try_clone(), answered.clone(), Dice(4));
        let reading = thread::spawn(move || server.rest());
        assert!(client.rest() == answered, "not the server's bytes");
        assert!(reading.join().unwrap() == asked, "not the client's bytes");
        [up, down].into_iter().for_each(|sending| sending.join().unwrap());
        let line = logged(&tollgate);
        assert_eq!(line["request_bytes"], asked.len());
        assert_eq!(line["reply_bytes"], answered.len());
        for (direction, bytes) in [("request", asked), ("reply", answered)] {
            let labels = [("protocol", "tcp"), ("operation", "session"), ("direction", direction)];
            tollgate.wait_for_metric("tollgate_operation_bytes_total", &labels, bytes.len() as f64);
        }
    });
}

#[test]
fn a_half_closed_client_gets_the_reply() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"question");
        client.finish();
        assert_eq!(server.rest(), b"question");
        server.send(&[7; 2 * MIB]);
        drop(server);
        assert!(client.rest() == [7; 2 * MIB], "not the answer");
        ended(&tollgate, "client", "ok");
    });
}

#[test]
fn a_half_closed_server_gets_the_request() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        server.send(b"greeting");
        server.finish();
        assert_eq!(client.rest(), b"greeting");
        client.send(&[7; 2 * MIB]);
        drop(client);
        assert!(server.rest() == [7; 2 * MIB], "not what the client went on to say");
        ended(&tollgate, "upstream", "ok");
    });
}

#[test]
fn a_server_may_speak_first() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        server.send(b"220 ready");
        client.expect(b"220 ready");
        client.send(b"HELO");
        server.expect(b"HELO");
        drop(client);
        server.expect_end();
        drop(server);
        let line = ended(&tollgate, "client", "ok");
        assert_eq!(line["request_bytes"], 4);
        assert_eq!(line["reply_bytes"], 9);
    });
}

#[test]
fn the_first_byte_is_timed_from_the_session_s_beginning() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let began = Instant::now();
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"question");
        server.expect(b"question");
        let heard = Instant::now();
        client.expect_silence(Duration::from_millis(50));
        let least = heard.elapsed();
        server.send(b"answer");
        client.expect(b"answer");
        let most = began.elapsed();
        drop(client);
        server.expect_end();
        drop(server);
        let line = ended(&tollgate, "client", "ok");
        let milliseconds = |key: &str| Duration::from_secs_f64(line[key].as_f64().unwrap() / 1e3);
        // What is logged is rounded to a microsecond.
        let first_byte = milliseconds("ttfb_ms") + Duration::from_micros(1);
        assert!((least..=most).contains(&first_byte), "{least:?} {most:?} {line}");
        assert!(milliseconds("duration_ms") >= milliseconds("ttfb_ms"), "{line}");
    });
}

#[test]
fn a_session_without_a_reply_has_no_first_byte_time() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (client, server) = upstream.session(&tollgate);
        let (peer, endpoint) = (client.address().to_string(), upstream.address().to_string());
        drop((client, server));
        let line = logged(&tollgate);
        assert!(line.get("ttfb_ms").is_none(), "{line}");
        assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&0.into(), &0.into()));
        assert_eq!(line["peer"], peer);
        assert_eq!(line["endpoint"], endpoint);
        assert_eq!(line["cluster"], "wire");
    });
}

/// What comes is looked at a block at a time.
static BLOCK: [u8; 256 * 1024] = [0x5a; 256 * 1024];

/// Sends 200 MiB at an end that doesn't read, waits for the sender to stall, and reads all of it
/// then. The proxy may hold but little meanwhile.
fn a_slow_reader_stalls_its_sender(tollgate: &Tollgate, mut sender: End, mut reader: End) {
    let blocks = 200 * MIB / BLOCK.len();
    let before = tollgate.resident_memory();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let sending = thread::spawn(move || {
        for _ in 0..blocks {
            sender.send(&BLOCK);
            count.fetch_add(1, Relaxed);
        }
        sender.finish();
        sender
    });
    let stalled = stops_growing(|| sent.load(Relaxed));
    assert!(stalled < blocks, "nobody held the sender up");
    let grown = tollgate.resident_memory().saturating_sub(before);
    assert!(grown < 4 * MIB as u64, "{grown} bytes held for a reader that doesn't read");
    (0..blocks).for_each(|_| reader.expect(&BLOCK));
    assert!(reader.rest().is_empty());
    sending.join().unwrap();
}

/// Waits until a number that grows has stayed the same for a while, and returns it.
fn stops_growing(look: impl Fn() -> usize) -> usize {
    let mut seen = (look(), Instant::now());
    support::eventually("an end to the growth", || {
        let now = look();
        if now != seen.0 || now == 0 {
            seen = (now, Instant::now());
        }
        (seen.1.elapsed() > Duration::from_millis(300)).then_some(now)
    })
}

#[test]
fn a_server_that_does_not_read_stalls_its_client() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (client, server) = upstream.session(&tollgate);
        a_slow_reader_stalls_its_sender(&tollgate, client, server);
        assert_eq!(logged(&tollgate)["request_bytes"], 200 * MIB);
    });
}

#[test]
fn a_client_that_does_not_read_stalls_its_server() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (client, server) = upstream.session(&tollgate);
        a_slow_reader_stalls_its_sender(&tollgate, server, client);
        assert_eq!(logged(&tollgate)["reply_bytes"], 200 * MIB);
    });
}

#[test]
fn small_writes_do_not_wait_for_an_acknowledgement() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("");
        let (mut client, mut server) = upstream.session(&tollgate);
        let mut slow = 0;
        for _ in 0..1000 {
            let asked = Instant::now();
            // Each half has arrived before the next one is sent, so that no two are joined. The receiver of
            // the first half has no answer yet, and delays its acknowledgement by 40 ms.
            for (half, from, to) in
                [(b"ques", 0, 1), (b"tion", 0, 1), (b"answ", 1, 0), (b"ered", 1, 0)]
            {
                let ends = [&mut client, &mut server];
                ends[from].send(half);
                ends[to].expect(half);
            }
            slow += usize::from(asked.elapsed() >= Duration::from_millis(38));
        }
        assert!(slow < 20, "{slow} of 1000 round trips were slow");
    });
}
