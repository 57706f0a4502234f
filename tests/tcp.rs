//! A TCP session through the proxy is the same as one without it: bytes, ends, pace and resets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    PATIENCE,
    ends::{End, Upstream},
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
fn bytes_pass_both_ways_as_they_were_sent_however_they_were_cut() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
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
}

#[test]
fn a_client_that_has_said_everything_still_hears_the_answer() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    client.send(b"question");
    client.finish();
    assert_eq!(server.rest(), b"question");
    server.send(&[7; 2 * MIB]);
    drop(server);
    assert!(client.rest() == [7; 2 * MIB], "not the answer");
    ended(&tollgate, "client", "ok");
}

#[test]
fn a_server_that_has_said_everything_still_hears_the_client() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    server.send(b"greeting");
    server.finish();
    assert_eq!(client.rest(), b"greeting");
    client.send(&[7; 2 * MIB]);
    drop(client);
    assert!(server.rest() == [7; 2 * MIB], "not what the client went on to say");
    ended(&tollgate, "upstream", "ok");
}

#[test]
fn a_server_may_speak_first() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
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
}

#[test]
fn the_first_byte_is_timed_from_the_session_s_beginning() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
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
}

#[test]
fn a_session_that_never_heard_an_answer_has_no_time_to_one() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (client, server) = upstream.session(&tollgate);
    let (peer, endpoint) = (client.address().to_string(), upstream.address().to_string());
    drop((client, server));
    let line = logged(&tollgate);
    assert!(line.get("ttfb_ms").is_none(), "{line}");
    assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&0.into(), &0.into()));
    assert_eq!(line["peer"], peer);
    assert_eq!(line["endpoint"], endpoint);
    assert_eq!(line["cluster"], "wire");
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
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (client, server) = upstream.session(&tollgate);
    a_slow_reader_stalls_its_sender(&tollgate, client, server);
    assert_eq!(logged(&tollgate)["request_bytes"], 200 * MIB);
}

#[test]
fn a_client_that_does_not_read_stalls_its_server() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (client, server) = upstream.session(&tollgate);
    a_slow_reader_stalls_its_sender(&tollgate, server, client);
    assert_eq!(logged(&tollgate)["reply_bytes"], 200 * MIB);
}

/// Sends a byte there and back for this long, or until a side closes.
fn talk(client: &mut End, server: &mut End, duration: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < duration {
        let (mut there, mut back) = ([0], [0]);
        let answered = client.try_send(b"?").and_then(|()| server.try_read(&mut there));
        let answered = answered.and_then(|()| server.try_send(b"!"));
        if answered.and_then(|()| client.try_read(&mut back)).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn a_session_at_rest_is_closed_and_one_that_talks_is_not() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "idle_timeout: 500ms");
    let (mut client, mut server) = upstream.session(&tollgate);
    assert!(talk(&mut client, &mut server, Duration::from_millis(1200)), "closed while it talked");
    let rested = Instant::now();
    // Whether all has been said only the two ends know, so that neither hears an end in good order.
    assert!(client.read_until_reset().is_empty());
    // The last byte was read by the proxy before it came here.
    assert!(rested.elapsed() >= Duration::from_millis(400), "{:?}", rested.elapsed());
    server.read_until_reset();
    ended(&tollgate, "idle_timeout", "ok");
}

#[test]
fn bytes_one_way_keep_a_session_alive() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "idle_timeout: 500ms");
    let (mut client, mut server) = upstream.session(&tollgate);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1200) {
        server.send(b"tick");
        client.expect(b"tick");
    }
    client.expect_end();
    ended(&tollgate, "idle_timeout", "ok");
}

#[test]
fn a_session_is_closed_at_its_longest_however_busy() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "max_connection_duration: 300ms");
    let began = Instant::now();
    let (mut client, mut server) = upstream.session(&tollgate);
    assert!(!talk(&mut client, &mut server, PATIENCE), "it went on and on");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    ended(&tollgate, "max_duration", "ok");
}

/// Sends until a side closes.
fn flood(end: &mut End) {
    let start = Instant::now();
    while end.try_send(&BLOCK).is_ok() {
        assert!(start.elapsed() < PATIENCE, "somebody takes it all");
    }
}

#[test]
fn a_peer_that_takes_nothing_is_closed_after_the_write_timeout() {
    for to_the_server in [true, false] {
        let upstream = Upstream::start();
        let tollgate = Tollgate::tcp(upstream.address(), "write_timeout: 300ms");
        let (mut client, mut server) = upstream.session(&tollgate);
        let began = Instant::now();
        flood(if to_the_server { &mut client } else { &mut server });
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        ended(&tollgate, "write_timeout", "cancelled");
    }
}

#[test]
fn a_session_in_which_nobody_says_a_word_ends_after_the_first_byte_timeout() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "first_byte_timeout: 300ms");
    let began = Instant::now();
    let (mut client, mut server) = upstream.session(&tollgate);
    client.expect_end();
    server.expect_end();
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    ended(&tollgate, "first_byte_timeout", "cancelled");
}

#[test]
fn a_session_in_which_somebody_spoke_may_be_silent_for_longer() {
    let upstream = Upstream::start();
    let limits = "first_byte_timeout: 300ms, idle_timeout: 900ms";
    let tollgate = Tollgate::tcp(upstream.address(), limits);
    let (mut client, mut server) = upstream.session(&tollgate);
    server.send(b"welcome");
    client.expect(b"welcome");
    client.expect_end();
    ended(&tollgate, "idle_timeout", "ok");
}

#[test]
fn a_question_that_was_left_unanswered_until_the_session_was_idle_is_lost() {
    for limit in ["idle_timeout", "max_connection_duration"] {
        let upstream = Upstream::start();
        let tollgate = Tollgate::tcp(upstream.address(), &format!("{limit}: 300ms"));
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"query");
        server.expect(b"query");
        client.read_until_reset();
        let reason = if limit == "idle_timeout" { limit } else { "max_duration" };
        let line = ended(&tollgate, reason, "lost");
        assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&5.into(), &0.into()));
    }
}

#[test]
fn a_server_that_ignores_its_client_s_end_keeps_the_session_for_the_half_close_timeout() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "half_close_timeout: 300ms");
    let (mut client, mut server) = upstream.session(&tollgate);
    client.send(b"query");
    server.expect(b"query");
    server.send(b"answer");
    client.expect(b"answer");
    let ended_at = Instant::now();
    drop(client);
    assert!(server.rest().is_empty(), "the client's end is passed on at once");
    ended(&tollgate, "half_close_timeout", "ok");
    assert!(ended_at.elapsed() >= Duration::from_millis(300), "{:?}", ended_at.elapsed());
    assert!(server.try_send(b"anybody?").is_err(), "the server was not reset");
}

#[test]
fn an_answer_that_comes_bit_by_bit_after_its_client_s_end_is_whole() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "half_close_timeout: 1s");
    let (mut client, mut server) = upstream.session(&tollgate);
    client.send(&[7; MIB]);
    client.finish();
    assert!(server.rest() == [7; MIB], "not what the client said");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        client.expect_silence(Duration::from_millis(200));
        server.send(b"tick");
        client.expect(b"tick");
    }
    server.finish();
    assert!(client.rest().is_empty());
    ended(&tollgate, "client", "ok");
}

#[test]
fn a_client_that_acknowledges_nothing_is_given_up_by_the_system() {
    let upstream = Upstream::start();
    let limits = "tcp_user_timeout: 500ms, write_timeout: 10m";
    let tollgate = Tollgate::tcp(upstream.address(), limits);
    let (client, mut server) = upstream.session(&tollgate);
    // A window that is shut for good is to the system what a peer is that has vanished.
    flood(&mut server);
    ended(&tollgate, "write_timeout", "cancelled");
    drop(client);
}

#[test]
fn a_client_s_reset_is_a_reset_at_the_server() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    client.send(b"half a quest");
    server.expect(b"half a quest");
    client.reset();
    server.read_until_reset();
    ended(&tollgate, "client_reset", "cancelled");
}

#[test]
fn a_server_s_reset_is_a_reset_at_the_client() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    server.send(b"half an answ");
    server.reset();
    assert_eq!(client.read_until_reset(), b"half an answ");
    ended(&tollgate, "upstream_reset", "lost");
}

#[test]
fn a_reset_after_the_client_s_end_is_the_server_s_all_the_same() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    client.finish();
    assert!(server.rest().is_empty());
    server.reset();
    client.read_until_reset();
    ended(&tollgate, "upstream_reset", "lost");
}

#[test]
fn the_last_words_of_a_server_that_takes_no_more_are_heard_before_its_reset() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    // What it leaves unread makes its end a reset.
    client.send(b"two words");
    server.expect(b"two");
    server.send(b"enough");
    drop(server);
    let heard = client.read_until_reset();
    assert_eq!(heard, b"enough");
    ended(&tollgate, "upstream_reset", "lost");
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let upstream = Upstream::start();
    let (dead, alive) = (support::free_address(), upstream.address());
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }}\n\
         clusters:\n  wire: {{ endpoints: [\"{dead}\", \"{alive}\"], lb_policy: round_robin }}\n"
    ));
    for _ in 0..4 {
        let (mut client, mut server) = upstream.session(&tollgate);
        client.send(b"anybody there?");
        server.expect(b"anybody there?");
        server.send(b"yes");
        client.expect(b"yes");
    }
    let lines = tollgate.logged(4, |line| line["outcome"] == "ok");
    assert!(lines.iter().all(|line| line["endpoint"] == alive.to_string()), "{lines:?}");
    let refused = [("cluster", "wire"), ("result", "refused")];
    assert!(tollgate.metric("tollgate_upstream_connect_total", &refused) >= 1.0);
}

#[test]
fn a_session_that_nobody_takes_is_logged_as_lost() {
    let tollgate = Tollgate::tcp(support::free_address(), "");
    End::connect(tollgate.listener("wire")).expect_end();
    let line = ended(&tollgate, "connect_failed", "lost");
    assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&0.into(), &0.into()));
}

#[test]
fn a_service_that_hangs_up_without_a_word_has_served_nobody() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    client.send(b"anybody there?");
    server.expect(b"anybody there?");
    drop(server);
    client.expect_end();
    drop(client);
    let line = logged(&tollgate);
    assert_eq!((&line["outcome"], &line["reason"]), (&"lost".into(), &"no_reply".into()));
    let labels = [("listener", "wire"), ("reason", "upstream")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
}

#[test]
fn the_second_half_of_a_small_message_does_not_wait_for_the_first_s_acknowledgement() {
    let upstream = Upstream::start();
    let tollgate = Tollgate::tcp(upstream.address(), "");
    let (mut client, mut server) = upstream.session(&tollgate);
    let mut slow = 0;
    for _ in 0..1000 {
        let asked = Instant::now();
        // Each half has arrived before the next one is sent, so that none can be joined. Whoever
        // hears the first has nothing to say yet, and delays its acknowledgement by 40 ms.
        for (half, from, to) in [(b"ques", 0, 1), (b"tion", 0, 1), (b"answ", 1, 0), (b"ered", 1, 0)]
        {
            let ends = [&mut client, &mut server];
            ends[from].send(half);
            ends[to].expect(half);
        }
        slow += usize::from(asked.elapsed() >= Duration::from_millis(38));
    }
    assert!(slow < 20, "{slow} of 1000 round trips were slow");
}

/// A service that reads what a client says, and hangs up.
fn hangs_up() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.read(&mut [0; 64]);
        }
    });
    address
}

#[test]
fn who_sends_what_a_service_hangs_up_on_ejects_nobody() {
    // A PostgreSQL CancelRequest, which is never answered, and what is no PostgreSQL.
    let cancel = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09";
    let counts_silence = "session_failures: no_reply, consecutive_local_failures: 3";
    for (settings, ejects) in [("", false), (counts_silence, true)] {
        let (a, b) = (hangs_up(), hangs_up());
        let tollgate = Tollgate::start(&format!(
            "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire }}\n\
             clusters:\n  wire: {{ endpoints: [\"{a}\", \"{b}\"], lb_policy: round_robin, \
             outlier_detection: {{ {settings} }} }}\n"
        ));
        for said in [&cancel[..], b"who goes?"].repeat(6) {
            let mut client = End::connect(tollgate.listener("wire"));
            client.send(said);
            client.expect_end();
        }
        let lines = tollgate.logged(12, |line| line["reason"] == "no_reply");
        assert!(lines.iter().all(|line| line["outcome"] == "lost"), "{lines:?}");
        let lost = [("outcome", "lost")];
        assert_eq!(tollgate.metric("tollgate_endpoint_operations_total", &lost), 12.0);
        let out = tollgate.metric("tollgate_endpoint_ejected", &[]);
        assert_eq!(out > 0.0, ejects, "{settings}");
    }
}
