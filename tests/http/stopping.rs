//! A drain lets answers end, closes idle connections, and sends clients elsewhere.

use crate::support::{
    ends::End,
    eventually,
    http::{
        Client, PAIRINGS, Service, Version, at,
        frames::{ACK, Frames, GOAWAY, PING, RST_STREAM},
        get, proxy,
    },
};
use rustix::process::Signal;

#[test]
fn an_answer_that_is_under_way_ends_before_the_proxy_does() {
    for (client_version, answers) in PAIRINGS {
        let (service, gate) = Service::holding(answers);
        let mut tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let pending = client.begin(get("/held"));
        service.wait_for_requests(1);
        tollgate.signal(Signal::TERM);
        eventually("/ready to say no", || (tollgate.get("/ready").0 == 503).then_some(()));
        assert!(tollgate.is_running());
        gate.add_permits(1);
        assert_eq!(pending.answer().text(), "held", "{client_version:?} {answers:?}");
        assert!(tollgate.end().success(), "{client_version:?} {answers:?}");
        assert!(client.begin(get("/")).try_answer().is_err());
    }
}

#[test]
fn connections_at_rest_are_closed_and_the_proxy_ends() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let mut tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let silent = End::connect(at(&tollgate));
        assert_eq!(client.round_trip(get("/")).text(), "ok");
        assert!(tollgate.stop().success());
        eventually("the client's end", || client.has_ended().then_some(()));
        eventually("the service's", || (service.open_connections() == 0).then_some(()));
        drop(silent);
    }
}

#[test]
fn the_last_response_on_a_connection_says_close() {
    let (service, gate) = Service::holding(Version::One);
    let tollgate = proxy(&service, "");
    let mut client = End::connect(at(&tollgate));
    client.send(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    service.wait_for_requests(1);
    // The worker closes it once it knows of the drain.
    let rests = Client::connect(at(&tollgate), Version::One);
    assert_eq!(rests.round_trip(get("/")).text(), "ok");
    tollgate.signal(Signal::TERM);
    eventually("the end of the connection at rest", || rests.has_ended().then_some(()));
    gate.add_permits(1);
    let all = String::from_utf8(client.rest()).expect("text").to_lowercase();
    assert!(all.contains("connection: close\r\n") && all.ends_with("held"), "{all}");
}

#[test]
fn what_rests_of_http_1_is_closed_at_once_and_cuts_no_answer() {
    let (service, gate) = Service::holding(Version::One);
    let mut tollgate = proxy(&service, "");
    let mut rests = End::connect(at(&tollgate));
    rests.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    rests.head();
    rests.expect(b"ok");
    let busy = Client::connect(at(&tollgate), Version::One);
    let pending = busy.begin(get("/held"));
    service.wait_for_requests(2);
    tollgate.signal(Signal::TERM);
    assert_eq!(rests.rest(), b"", "an end in good order, and nothing before it");
    assert!(!pending.is_answered() && tollgate.is_running(), "the other goes on");
    gate.add_permits(1);
    assert_eq!(pending.answer().text(), "held");
    assert!(tollgate.end().success());
}

/// Reads to the first GOAWAY, which takes nothing back. Returns the PING that comes with it: what
/// was asked before it is answered is served.
fn told_to_go(client: &mut Frames) -> Vec<u8> {
    let told = client.until(|it| it.kind == GOAWAY).pop().unwrap();
    assert_eq!(told.goaway(), Some((u32::MAX >> 1, 0)), "no stream is given up, and no error");
    client.until(|it| it.kind == PING).pop().unwrap().payload
}

/// Answers that PING. Returns the last stream that is served.
fn goes(client: &mut Frames, ping: &[u8]) -> u32 {
    client.send(PING, ACK, 0, ping);
    let (last, error) = client.until(|it| it.kind == GOAWAY).pop().unwrap().goaway().unwrap();
    assert_eq!(error, 0, "no error");
    last
}

#[test]
fn goaway_names_the_last_stream_and_streams_finish() {
    let (service, gate) = Service::holding(Version::One);
    let mut tollgate = proxy(&service, "");
    let [mut rests, mut busy] = [(); 2].map(|()| Frames::connect(at(&tollgate), &[]));
    rests.get(1, "/");
    rests.until(|it| it.ends(1));
    busy.get(1, "/held");
    service.wait_for_requests(2);
    tollgate.signal(Signal::TERM);
    let ping = told_to_go(&mut rests);
    assert_eq!(goes(&mut rests, &ping), 1);
    assert_eq!(rests.rest(), [], "it is closed, while another goes on");
    let ping = told_to_go(&mut busy);
    // It can't have heard of it when it asked this.
    busy.get(3, "/held");
    service.wait_for_requests(3);
    assert_eq!(goes(&mut busy, &ping), 3);
    busy.get(5, "/held");
    assert!(tollgate.is_running());
    gate.add_permits(3);
    let frames = busy.rest();
    let ends = |stream| frames.iter().any(|it| it.ends(stream));
    assert!(ends(1) && ends(3) && !ends(5), "{frames:?}");
    assert!(frames.iter().all(|it| it.kind != RST_STREAM), "{frames:?}");
    assert!(tollgate.end().success());
    assert_eq!(service.received().len(), 3, "what came too late was not served");
}

#[test]
fn a_connection_ends_after_as_many_requests_as_it_may_have() {
    for client_version in [Version::One, Version::Two] {
        let service = Service::replying(Version::One, "ok");
        let tollgate = proxy(&service, "max_requests_per_connection: 3");
        let client = Client::connect(at(&tollgate), client_version);
        for _ in 0..3 {
            assert_eq!(client.round_trip(get("/")).text(), "ok", "{client_version:?}");
        }
        eventually("the connection's end", || client.has_ended().then_some(()));
    }
}
