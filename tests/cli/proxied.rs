//! A proxy without a config file.

use super::failed;
use crate::support::{
    client::RawClient,
    ends::{End, Upstream},
    http::{Client, Content, Reply, Service, Version, get, post},
    scripted::Scripted,
    tollgate::{Tollgate, output_of},
};
use bson::doc;

#[test]
fn tcp_is_proxied_without_a_file() {
    let upstream = Upstream::start();
    let mut tollgate = Tollgate::without_file("tcp", upstream.address());
    let mut client = End::connect(tollgate.listener("tcp"));
    let mut server = upstream.accept();
    client.send(b"question");
    server.expect(b"question");
    drop((client, server));
    tollgate.logged(1, |line| line["operation"] == "session" && line["request_bytes"] == 8);
    assert_eq!(tollgate.stop().code(), Some(0));
}

#[test]
fn mongo_is_proxied_without_a_file() {
    let server = Scripted::agreeing();
    let mut tollgate = Tollgate::without_file("mongo", server.address());
    let mut client = RawClient::connect(tollgate.listener("mongo"));
    client.command(7, &doc! { "find": "orders", "$db": "shop" });
    tollgate.logged(1, |line| line["resource"] == "shop.orders");
    assert_eq!(tollgate.stop().code(), Some(0));
}

#[test]
fn http_is_proxied_without_a_file() {
    let service = Service::replying(Version::One, "hello");
    let mut tollgate = Tollgate::without_file("http", service.address());
    for version in [Version::One, Version::Two] {
        let answer = Client::connect(tollgate.listener("http"), version).round_trip(get("/a?b"));
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
    tollgate.logged(2, |line| line["operation"] == "GET" && line["path"] == "/a");
    assert_eq!(tollgate.stop().code(), Some(0));
}

#[test]
fn grpc_is_proxied_without_a_file() {
    let service = Service::start(Version::Two, |_| {
        let message = Content::from("\0\0\0\0\u{2}hi").trailers(&[("grpc-status", "5")]);
        Reply::ok(message).header("content-type", "application/grpc")
    });
    let mut tollgate = Tollgate::without_file("grpc", service.address());
    let client = Client::connect(tollgate.listener("grpc"), Version::Two);
    let call = post("/shop.Cart/Get", "\0\0\0\0\0").header("content-type", "application/grpc");
    assert_eq!(client.round_trip(call.header("te", "trailers")).text(), "\0\0\0\0\u{2}hi");
    let line = &tollgate.logged(1, |_| true)[0];
    assert_eq!((&line["operation"], &line["code"]), (&"shop.Cart/Get".into(), &"NOT_FOUND".into()));
    assert_eq!(tollgate.stop().code(), Some(0));
}

#[test]
fn bad_arguments_of_a_proxy_are_explained() {
    let proxy = |arguments: [&str; 3]| output_of(&[&["proxy"], &arguments[..]].concat());
    let local = "127.0.0.1:0";
    failed(
        &proxy(["mysql", local, "db:1"]),
        1,
        &["`mysql`", "hint", "tcp", "mongo", "http", "grpc"],
    );
    failed(&proxy(["tcp", "nonsense", "db:1"]), 1, &["`nonsense`", "hint", ":27017"]);
    failed(&proxy(["tcp", local, "db"]), 1, &["`db`", "hint", "host:port"]);
    failed(&proxy(["mongo", local, "db:70000"]), 1, &["70000", "hint"]);
    let admin = output_of(&["proxy", "tcp", local, "db:1", "--admin", "nope"]);
    failed(&admin, 1, &["`nope`", "hint"]);
}
