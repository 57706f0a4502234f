use super::*;
use crate::checksum;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

const FLAGS: [u8; 4] = [0; 4];
const CHECKSUM: [u8; 4] = [1, 0, 0, 0];

fn message(opcode: i32, front: &[u8], body: &RawDocument) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(41_i32.to_le_bytes());
    out.extend(7_i32.to_le_bytes());
    out.extend(opcode.to_le_bytes());
    out.extend(front);
    out.extend(body.as_bytes());
    if opcode == opcode::MSG && front[0] & 1 != 0 {
        out.extend([0; 4]);
    }
    let len = (out.len() as i32).to_le_bytes();
    out[..4].copy_from_slice(&len);
    checksum::seal(&mut out);
    out
}

fn op_msg(flags: [u8; 4], body: &RawDocument) -> Vec<u8> {
    message(opcode::MSG, &[&flags[..], &[0]].concat(), body)
}

fn op_reply(body: &RawDocument) -> Vec<u8> {
    let front = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    message(opcode::REPLY, &front, body)
}

fn op_query(body: &RawDocument) -> Vec<u8> {
    message(opcode::QUERY, b"\x04\0\0\0admin.$cmd\0\0\0\0\0\xFF\xFF\xFF\xFF", body)
}

/// The document in a message, whose length, ids and checksum must be right.
fn parse(message: &[u8]) -> RawDocumentBuf {
    assert_eq!(message[4..12], [41, 0, 0, 0, 7, 0, 0, 0], "the ids are kept");
    let body = body_range(message).expect("length and checksum are right");
    RawDocumentBuf::from_bytes(message[body].to_vec()).unwrap()
}

fn local() -> SocketAddr {
    "127.0.0.1:27018".parse().unwrap()
}

fn hosts(names: &[&str]) -> RawArrayBuf {
    names.iter().copied().collect()
}

/// What the member `me`, found in `list`, says: `a` to `c` are hosts, `p` passive, `x` arbiter.
fn reply(me: &str, primary: Option<&str>) -> RawDocumentBuf {
    let mut reply = rawdoc! {
        "topologyVersion": { "processId": 1, "counter": 6_i64 },
        "hosts": hosts(&["a:1", "B:2", "c:3"]),
        "passives": hosts(&["p:4"]),
        "arbiters": hosts(&["x:5"]),
        "setName": "rs",
        "isWritablePrimary": primary == Some(me),
        "secondary": primary != Some(me),
    };
    if let Some(primary) = primary {
        reply.append(bson::cstr!("primary"), primary);
    }
    reply.append(bson::cstr!("me"), me);
    reply.append(bson::cstr!("lastWrite"), rawdoc! { "opTime": { "t": 3_i64 } });
    reply.append(bson::cstr!("ok"), 1.0);
    reply
}

fn settings(advertise: Option<&str>, members: &[(&str, &str)]) -> Settings {
    let members = members.iter().map(|(real, proxy)| (real.to_string(), proxy.to_string()));
    Settings {
        advertise: advertise.map(str::to_owned),
        members: members.collect(),
        ..Settings::default()
    }
}

fn rewritten(reply: &RawDocument, settings: &Settings) -> RawDocumentBuf {
    parse(&rewrite_reply(&op_msg(FLAGS, reply), settings, local()).unwrap())
}

/// The values of a document's lists and names, in the order hosts, passives, arbiters, me, primary.
fn addresses(reply: &RawDocument) -> String {
    let list = |key| match reply.get_array(key) {
        Ok(list) => {
            let hosts = list.into_iter().map(|host| host.unwrap().as_str().unwrap());
            hosts.collect::<Vec<_>>().join(",")
        }
        Err(_) => "-".into(),
    };
    let name = |key| reply.get_str(key).unwrap_or("-").to_owned();
    [list("hosts"), list("passives"), list("arbiters"), name("me"), name("primary")].join(" | ")
}

#[test]
fn one_address_stands_for_the_whole_set() {
    for (me, primary, expected) in [
        ("a:1", Some("a:1"), "P |  |  | P | P"),
        ("b:2", Some("a:1"), "P |  |  | P | P"),
        ("b:2", None, "P |  |  | P | -"),
        ("p:4", Some("a:1"), " | P |  | P | P"),
        ("x:5", Some("a:1"), " |  | P | P | P"),
        ("hidden:6", Some("a:1"), "P |  |  | P | P"),
    ] {
        let reply = reply(me, primary);
        for (advertise, address) in [(None, "127.0.0.1:27018"), (Some("proxy:9"), "proxy:9")] {
            let out = rewritten(&reply, &settings(advertise, &[]));
            assert_eq!(addresses(&out), expected.replace('P', address), "me {me}");
        }
    }
}

#[test]
fn each_member_gets_the_address_of_its_own_listener() {
    let members =
        [("A:1", "P:11"), ("b:2", "P:12"), ("c:3", "P:13"), ("p:4", "P:14"), ("x:5", "P:15")];
    let out = rewritten(&reply("b:2", Some("a:1")), &settings(Some("unused:1"), &members));
    assert_eq!(addresses(&out), "P:11,P:12,P:13 | P:14 | P:15 | P:12 | P:11");
}

#[test]
fn members_without_a_listener_are_hidden() {
    let members = [("b:2", "P:12"), ("c:3", "P:13")];
    let out = rewritten(&reply("b:2", Some("a:1")), &settings(None, &members));
    assert_eq!(addresses(&out), "P:12,P:13 |  |  | P:12 | -");
}

#[test]
fn a_member_without_a_listener_still_lists_itself() {
    let members = [("b:2", "P:12")];
    let out = rewritten(&reply("a:1", Some("a:1")), &settings(Some("proxy:9"), &members));
    assert_eq!(addresses(&out), "proxy:9,P:12 |  |  | proxy:9 | proxy:9");
    let out = rewritten(&reply("p:4", Some("b:2")), &settings(None, &members));
    assert_eq!(addresses(&out), "P:12 | 127.0.0.1:27018 |  | 127.0.0.1:27018 | P:12");
}

#[test]
fn members_behind_one_listener_are_listed_once() {
    let members = [("a:1", "P:11"), ("b:2", "P:11"), ("c:3", "P:13")];
    let out = rewritten(&reply("a:1", Some("a:1")), &settings(None, &members));
    assert_eq!(addresses(&out), "P:11,P:13 |  |  | P:11 | P:11");
}

#[test]
fn a_member_always_finds_itself_in_what_it_lists() {
    for me in ["a:1", "b:2", "B:2", "p:4", "x:5"] {
        for members in [&[][..], &[("a:1", "P:1")], &[("b:2", "P:2"), ("x:5", "P:5")]] {
            for advertise in [None, Some("proxy:9")] {
                let out = rewritten(&reply(me, Some("a:1")), &settings(advertise, members));
                let me = out.get_str("me").unwrap();
                let found = ["hosts", "passives", "arbiters"]
                    .iter()
                    .flat_map(|list| out.get_array(*list).unwrap())
                    .filter(|host| host.as_ref().unwrap().as_str() == Some(me))
                    .count();
                assert_eq!(found, 1, "{me} in {}", addresses(&out));
            }
        }
    }
}

#[test]
fn all_other_fields_stay_byte_for_byte_and_in_order() {
    let reply = reply("b:2", Some("a:1"));
    let out = rewritten(&reply, &settings(None, &[]));
    let changed = ["hosts", "passives", "arbiters", "me", "primary"].map(str::as_bytes);
    let pairs = elements(reply.as_bytes()).zip(elements(out.as_bytes()));
    assert_eq!(pairs.clone().count(), reply.iter().count());
    for (before, after) in pairs {
        assert_eq!((before.kind, before.name), (after.kind, after.name));
        assert!(before == after || changed.contains(&before.name));
    }
}

#[test]
fn an_ipv6_address_is_in_brackets_and_a_mapped_one_is_ipv4() {
    let reply = reply("a:1", None);
    for (local, expected) in [("[::1]:5", "[::1]:5"), ("[::ffff:10.0.0.1]:5", "10.0.0.1:5")] {
        let message = op_msg(FLAGS, &reply);
        let out = rewrite_reply(&message, &Settings::default(), local.parse().unwrap()).unwrap();
        assert_eq!(parse(&out).get_str("me").ok(), Some(expected));
    }
}

#[test]
fn the_checksum_is_made_right() {
    let reply = reply("a:1", None);
    let message = op_msg(CHECKSUM, &reply);
    let out = rewrite_reply(&message, &Settings::default(), local()).unwrap();
    assert!(checksum::present(&out) && checksum::valid(&out));
    assert_eq!(parse(&out).get_str("me").ok(), Some("127.0.0.1:27018"));
}

#[test]
fn a_wrong_checksum_is_left_for_the_driver_to_see() {
    let mut message = op_msg(CHECKSUM, &reply("a:1", None));
    *message.last_mut().unwrap() ^= 1;
    assert_eq!(rewrite_reply(&message, &Settings::default(), local()), None);
}

#[test]
fn a_streamed_reply_stays_one() {
    for flags in [[2, 0, 0, 0], [3, 0, 0, 0], [2, 0, 1, 0]] {
        let message = op_msg(flags, &reply("a:1", Some("a:1")));
        let out = rewrite_reply(&message, &Settings::default(), local()).unwrap();
        assert_eq!(out[16..20], flags);
        assert_eq!(addresses(&parse(&out)).matches("127.0.0.1:27018").count(), 3);
    }
}

#[test]
fn a_legacy_reply_is_rewritten_too() {
    let message = op_reply(&reply("a:1", Some("a:1")));
    let out = rewrite_reply(&message, &Settings::default(), local()).unwrap();
    assert_eq!(out[12..36], message[12..36], "flags, cursor and counts are kept");
    assert_eq!(parse(&out).get_str("primary").ok(), Some("127.0.0.1:27018"));
}

#[test]
fn other_sections_are_kept_where_they_are() {
    let body = reply("a:1", None);
    let telemetry = rawdoc! { "otel": { "traceparent": "00-0-0-01" } };
    let front = [&FLAGS[..], &[3], telemetry.as_bytes(), &[0]].concat();
    let out = rewrite_reply(&message(opcode::MSG, &front, &body), &Settings::default(), local());
    let out = out.unwrap();
    assert_eq!(out[16..16 + front.len()], front);
    assert_eq!(parse(&out).get_str("me").ok(), Some("127.0.0.1:27018"));
}

#[test]
fn replies_that_name_no_members_are_left_alone() {
    let rest = rawdoc! { "helloOk": true, "maxWireVersion": 21, "ok": 1.0 };
    let mongos = rawdoc! { "isWritablePrimary": true, "msg": "isdbgrid", "ok": 1 };
    let ghost = rawdoc! { "isreplicaset": true, "secondary": false, "ok": 1 };
    let empty = rawdoc! { "hosts": hosts(&[]), "setName": "rs", "ok": 1 };
    for reply in [rest, mongos, ghost, empty] {
        assert_eq!(rewrite_reply(&op_msg(FLAGS, &reply), &Settings::default(), local()), None);
        assert_eq!(rewrite_reply(&op_reply(&reply), &Settings::default(), local()), None);
    }
}

#[test]
fn errors_are_left_alone() {
    for ok in [rawdoc! { "ok": 0 }, rawdoc! { "ok": 0.0 }, rawdoc! { "ok": false }, rawdoc! {}] {
        let mut reply = rawdoc! { "me": "a:1", "hosts": hosts(&["a:1"]), "code": 10107 };
        ok.iter().for_each(|pair| {
            let (key, value) = pair.unwrap();
            reply.append(key, value);
        });
        assert_eq!(rewrite_reply(&op_msg(FLAGS, &reply), &Settings::default(), local()), None);
    }
}

#[test]
fn nothing_is_rewritten_where_settings_say_so() {
    let settings = Settings { rewrite_hello: false, ..Settings::default() };
    assert_eq!(rewrite_reply(&op_msg(FLAGS, &reply("a:1", None)), &settings, local()), None);
}

#[test]
fn only_compressors_that_can_be_read_are_asked_for() {
    for (asked, left) in [
        (&["snappy", "zstd", "zlib"][..], None),
        (&["none"], None),
        (&["noop"], None),
        (&[], None),
        (&["lz4", "zstd", "br", "snappy"], Some(&["zstd", "snappy"][..])),
        (&["lz4"], Some(&[])),
        (&["ZSTD"], Some(&[])),
    ] {
        for name in ["hello", "isMaster", "ismaster"] {
            let mut hello = RawDocumentBuf::new();
            hello.append(bson::raw::CString::try_from(name).unwrap(), 1);
            hello.append(bson::cstr!("compression"), hosts(asked));
            hello.append(bson::cstr!("client"), rawdoc! { "driver": { "name": "d" } });
            let expected = left.map(|left| {
                let mut expected = RawDocumentBuf::new();
                expected.append(bson::raw::CString::try_from(name).unwrap(), 1);
                expected.append(bson::cstr!("compression"), hosts(left));
                expected.append(bson::cstr!("client"), rawdoc! { "driver": { "name": "d" } });
                expected
            });
            let wrap =
                |hello: &RawDocumentBuf| rawdoc! { "$query": hello.clone(), "$readPreference": {} };
            for (message, expected) in [
                (op_msg(FLAGS, &hello), expected.clone()),
                (op_msg(CHECKSUM, &hello), expected.clone()),
                (op_msg([0, 0, 1, 0], &hello), expected.clone()),
                (op_query(&hello), expected.clone()),
                (op_query(&wrap(&hello)), expected.as_ref().map(wrap)),
            ] {
                let out = rewrite_request(&message);
                assert_eq!(out.as_deref().map(parse), expected, "{name} {asked:?}");
                assert!(out.is_none_or(|out| out[12..20] == message[12..20]), "flags are kept");
            }
        }
    }
}

#[test]
fn only_handshakes_are_rewritten() {
    let find = rawdoc! { "find": "c", "compression": hosts(&["lz4"]), "$db": "d" };
    let insert = rawdoc! { "insert": "hello", "hello": 1, "compression": hosts(&["lz4"]) };
    for command in [find, insert, rawdoc! {}] {
        assert_eq!(rewrite_request(&op_msg(FLAGS, &command)), None);
        assert_eq!(rewrite_request(&op_query(&command)), None);
        assert_eq!(rewrite_request(&op_query(&rawdoc! { "$query": command })), None);
    }
    let odd = rawdoc! { "hello": 1, "compression": "lz4" };
    assert_eq!(rewrite_request(&op_msg(FLAGS, &odd)), None, "not a list");
}

#[test]
fn broken_messages_are_left_alone_and_never_panic() {
    let settings = settings(Some("proxy:9"), &[("a:1", "P:1")]);
    let hello = rawdoc! { "hello": 1, "compression": hosts(&["lz4", "zstd"]) };
    let reply = reply("b:2", Some("a:1"));
    let good =
        [op_msg(FLAGS, &reply), op_msg(CHECKSUM, &hello), op_reply(&reply), op_query(&hello)];
    for message in &good {
        for cut in 0..message.len() {
            assert_eq!(rewrite_request(&message[..cut]), None);
            assert_eq!(rewrite_reply(&message[..cut], &settings, local()), None);
        }
    }
    for seed in 0..20_000 {
        let mut dice = crate::dice::Dice::new(seed);
        let mut message = good[dice.below(good.len())].clone();
        dice.mutate(&mut message);
        for out in [rewrite_request(&message), rewrite_reply(&message, &settings, local())] {
            assert!(out.is_none_or(|out| body_range(&out).is_some()), "seed {seed}");
        }
    }
}
