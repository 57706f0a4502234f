//! Members that are down, silent or slow, and what all of them count.

use crate::{
    ask, awaiting, client, code, find, hello, in_database, insert, retryable_insert, succeeded,
    support::{
        replica_set::Hold,
        wire::{self, EXHAUST_ALLOWED},
    },
    three,
};
use bson::doc;
use std::{
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

#[test]
fn a_member_that_is_killed_resets_its_connections() {
    let Some(set) = three() else { return };
    let mut stream = TcpStream::connect(set.address(0)).unwrap();
    set.wait("the connection", |all| all[0].open == 1);
    set.kill(0);
    let error = std::io::Read::read(&mut stream, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(set.address(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!((set.primary(), set.counters(0).open), (None, 0));
    assert!(!hello(&set, 1).contains_key("primary"));
}

#[test]
fn a_member_that_is_started_again_is_a_new_process() {
    let Some(set) = three() else { return };
    let process = |set| {
        let hello = hello(set, 0);
        hello.get_document("topologyVersion").unwrap().get_object_id("processId").unwrap()
    };
    let before = (process(&set), set.address(0));
    set.kill(0);
    set.elect(Some(1));
    set.start_again(0);
    assert_ne!(process(&set), before.0);
    assert_eq!(set.address(0), before.1);
    assert!(hello(&set, 0).get_bool("secondary").unwrap());
}

#[test]
fn a_member_that_shuts_down_says_so_and_goes_on() {
    let Some(set) = three() else { return };
    let mut monitor = client(&set, 1);
    let known = monitor.command(1, &in_database(doc! { "hello": 1 }));
    let sections = [wire::body(&awaiting(&known))];
    monitor.send(&wire::op_msg_of(2, 0, EXHAUST_ALLOWED, &sections));
    set.wait("the monitor to wait", |all| all[1].watching == 1);
    set.shut_down(1);
    let pushed = monitor.read();
    assert_eq!((code(&pushed.document()), pushed.flags()), (91, 0));
    assert!(pushed.document().contains_key("topologyVersion"));
    assert!(succeeded(&ask(&set, 1, find("shuts_down", Some("secondary")))));
    set.shut_down(0);
    assert_eq!(set.primary(), None);
    set.kill(1);
    set.start_again(1);
    assert!(hello(&set, 1).get_bool("secondary").unwrap());
}

#[test]
fn a_member_that_recovers_serves_nothing() {
    let Some(set) = three() else { return };
    set.recover(1, true);
    let seen = hello(&set, 1);
    assert!(!seen.get_bool("secondary").unwrap() && seen.contains_key("setName"));
    assert_eq!(code(&ask(&set, 1, find("recovers", Some("nearest")))), 13436);
    set.recover(1, false);
    assert!(succeeded(&ask(&set, 1, find("recovers", Some("nearest")))));
}

#[test]
fn done_work_of_a_killed_member_is_not_answered() {
    let Some(set) = three() else { return };
    set.hold(0, Some(Hold::After));
    let mut writer = client(&set, 0);
    writer.send(&wire::op_msg(1, &in_database(insert("unanswered", 1))));
    set.wait("the write to be held", |all| all[0].held == 1);
    set.kill(0);
    assert!(writer.try_read().is_none());
    assert_eq!(set.counters(0).held, 0);
    set.elect(Some(1));
    assert_eq!(ask(&set, 1, doc! { "count": "unanswered" }).get_i32("n").unwrap(), 1);
}

#[test]
fn a_silent_member_keeps_connections_and_answers_later() {
    let Some(set) = three() else { return };
    let mut old = client(&set, 0);
    assert!(succeeded(&old.command(1, &in_database(doc! { "ping": 1 }))));
    set.silence(0, true);
    let mut new = client(&set, 0);
    let ping = in_database(doc! { "ping": 1 });
    old.send(&wire::op_msg(2, &ping));
    new.send(&wire::op_msg(3, &ping));
    assert!(!old.has_ended(Duration::from_millis(50)));
    let seen = set.counters(0);
    assert_eq!((seen.connections, seen.operations("ping")), (1, 1));
    set.silence(0, false);
    assert_eq!((old.read().answers(), new.read().answers()), (2, 3));
}

#[test]
fn a_write_of_a_member_cut_off_is_known_to_the_next_primary() {
    let Some(set) = three() else { return };
    set.hold(0, Some(Hold::After));
    let write = in_database(retryable_insert("cut_off", 1, 1));
    let mut writer = client(&set, 0);
    writer.send(&wire::op_msg(1, &write));
    set.wait("the write to be held", |all| all[0].held == 1);
    set.silence(0, true);
    set.elect(Some(1));
    assert!(!writer.has_ended(Duration::from_millis(50)));
    // The server knows by the number that it has done it.
    assert_eq!(ask(&set, 1, write).get_i32("n").unwrap(), 1);
    assert_eq!(ask(&set, 1, doc! { "count": "cut_off" }).get_i32("n").unwrap(), 1);
    set.silence(0, false);
    let late = writer.read().document();
    assert_eq!(code(late.get_document("writeConcernError").unwrap()), 11602);
}

#[test]
fn members_work_for_their_service_time() {
    let Some(set) = three() else { return };
    set.set_service_time(Duration::from_millis(10));
    let mut client = client(&set, 0);
    let start = Instant::now();
    for n in 0..20 {
        client.command(n, &in_database(doc! { "ping": 1 }));
    }
    // It is 200 ms on average.
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_slow_member_answers_late() {
    let Some(set) = three() else { return };
    set.slow(1, Duration::from_millis(100));
    let mut client = client(&set, 1);
    for command in [doc! { "hello": 1 }, find("slow", Some("nearest"))] {
        let start = Instant::now();
        client.command(1, &in_database(command));
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}

#[test]
fn members_count_what_reaches_them() {
    let Some(set) = three() else { return };
    {
        let mut clients = [client(&set, 1), client(&set, 1)];
        for client in &mut clients {
            client.command(1, &in_database(doc! { "hello": 1 }));
            client.command(2, &in_database(doc! { "ping": 1 }));
        }
        assert_eq!(set.counters(1).open, 2);
    }
    set.wait("the connections to close", |all| all[1].open == 0);
    let seen = set.counters(1);
    assert_eq!((seen.connections, seen.most_open, seen.hellos), (2, 2, 2));
    assert_eq!((seen.operations("ping"), seen.operations("find")), (2, 0));
    assert_eq!(set.counters(2), Default::default());
}

#[test]
fn a_forwarded_reply_has_the_bytes_of_the_server() {
    let Some(set) = three() else { return };
    let server = crate::Secantus::shared().unwrap().address();
    let ask = doc! { "buildInfo": 1, "$db": "admin" };
    let direct = crate::RawClient::connect(server).round_trip(&wire::op_msg(9, &ask));
    let scripted = client(&set, 2).round_trip(&wire::op_msg(9, &ask));
    // The server's numbers of its replies differ, and times.
    assert_eq!((direct.opcode(), direct.answers()), (scripted.opcode(), scripted.answers()));
    let version = |reply: &wire::Message| reply.document().get_str("version").unwrap().to_owned();
    assert_eq!(version(&direct), version(&scripted));
}
