//! Sessions that a time limit ends.

use crate::{
    BLOCK, MIB, ended,
    support::{
        PATIENCE,
        ends::{End, plain_and_encrypted},
    },
};
use std::time::{Duration, Instant};

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
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("idle_timeout: 500ms");
        let (mut client, mut server) = upstream.session(&tollgate);
        assert!(
            talk(&mut client, &mut server, Duration::from_millis(1200)),
            "closed while it talked"
        );
        let rested = Instant::now();
        // Whether all has been said only the two ends know, so that neither hears an end in good order.
        assert!(client.read_until_reset().is_empty());
        // The last byte was read by the proxy before it came here.
        assert!(rested.elapsed() >= Duration::from_millis(400), "{:?}", rested.elapsed());
        server.read_until_reset();
        ended(&tollgate, "idle_timeout", "ok");
    });
}

#[test]
fn bytes_one_way_keep_a_session_alive() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("idle_timeout: 500ms");
        let (mut client, mut server) = upstream.session(&tollgate);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1200) {
            server.send(b"tick");
            client.expect(b"tick");
        }
        client.expect_end();
        ended(&tollgate, "idle_timeout", "ok");
    });
}

#[test]
fn a_session_is_closed_at_its_longest_however_busy() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("max_connection_duration: 300ms");
        let began = Instant::now();
        let (mut client, mut server) = upstream.session(&tollgate);
        assert!(!talk(&mut client, &mut server, PATIENCE), "it went on and on");
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        ended(&tollgate, "max_duration", "ok");
    });
}

/// Sends until a side closes.
fn flood(end: &mut End) {
    let start = Instant::now();
    while end.try_send(&BLOCK).is_ok() {
        assert!(start.elapsed() < PATIENCE, "somebody takes it all");
    }
}

#[test]
fn a_peer_that_does_not_read_is_closed_after_write_timeout() {
    plain_and_encrypted(|start| {
        for to_the_server in [true, false] {
            let upstream = start();
            let tollgate = upstream.proxy("write_timeout: 300ms");
            let (mut client, mut server) = upstream.session(&tollgate);
            let began = Instant::now();
            flood(if to_the_server { &mut client } else { &mut server });
            assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
            ended(&tollgate, "write_timeout", "cancelled");
        }
    });
}

#[test]
fn a_silent_session_ends_after_first_byte_timeout() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("first_byte_timeout: 300ms");
        let began = Instant::now();
        let (mut client, mut server) = upstream.session(&tollgate);
        client.expect_end();
        server.expect_end();
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        ended(&tollgate, "first_byte_timeout", "cancelled");
    });
}

#[test]
fn a_session_with_bytes_outlives_first_byte_timeout() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let limits = "first_byte_timeout: 300ms, idle_timeout: 900ms";
        let tollgate = upstream.proxy(limits);
        let (mut client, mut server) = upstream.session(&tollgate);
        server.send(b"welcome");
        client.expect(b"welcome");
        client.expect_end();
        ended(&tollgate, "idle_timeout", "ok");
    });
}

#[test]
fn a_session_without_a_reply_is_lost_at_its_idle_timeout() {
    plain_and_encrypted(|start| {
        for limit in ["idle_timeout", "max_connection_duration"] {
            let upstream = start();
            let tollgate = upstream.proxy(&format!("{limit}: 300ms"));
            let (mut client, mut server) = upstream.session(&tollgate);
            client.send(b"query");
            server.expect(b"query");
            client.read_until_reset();
            let reason = if limit == "idle_timeout" { limit } else { "max_duration" };
            let line = ended(&tollgate, reason, "lost");
            assert_eq!((&line["request_bytes"], &line["reply_bytes"]), (&5.into(), &0.into()));
        }
    });
}

#[test]
fn half_close_timeout_ends_a_half_closed_session() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("half_close_timeout: 300ms");
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
    });
}

#[test]
fn a_slow_reply_to_a_half_closed_client_is_complete() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let tollgate = upstream.proxy("half_close_timeout: 1s");
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
    });
}

#[test]
fn tcp_user_timeout_closes_a_vanished_client() {
    plain_and_encrypted(|start| {
        let upstream = start();
        let limits = "tcp_user_timeout: 500ms, write_timeout: 10m";
        let tollgate = upstream.proxy(limits);
        let (client, mut server) = upstream.session(&tollgate);
        // A window that is shut for good is to the system what a peer is that has vanished.
        flood(&mut server);
        ended(&tollgate, "write_timeout", "cancelled");
        drop(client);
    });
}
