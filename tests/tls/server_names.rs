//! The names that endpoints are asked for and verified by.

use super::{
    Certificates, config,
    support::{PATIENCE, eventually, tollgate::Tollgate},
};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// A server with the certificate `name` that answers with the name that it was asked for.
fn naming_server(certificates: &'static Certificates, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut stream = certificates.accept(socket.unwrap(), name, false);
            thread::spawn(move || {
                if let Ok(1..) = stream.read(&mut [0; 16]) {
                    let asked = stream.conn.server_name().unwrap_or("nothing").to_owned();
                    stream.write_all(format!("{name} as {asked}\n").as_bytes()).unwrap();
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    address
}

fn certificates() -> &'static Certificates {
    let certificates = Certificates::new();
    certificates.issue("one", &["one.test"]);
    certificates.issue("two", &["two.test"]);
    Box::leak(Box::new(certificates))
}

/// A proxy before these endpoints; all keys are a cluster's.
fn before(certificates: &Certificates, tls: &str, cluster: &str) -> Tollgate {
    let ca = certificates.path("ca.crt");
    let cluster =
        format!("tls: {{ ca: {}, {tls} }}, lb_policy: round_robin, {cluster}", ca.display());
    Tollgate::start(&config("", "", &cluster).replace("endpoints: [''], ", ""))
}

fn answer(tollgate: &Tollgate) -> String {
    let mut client = TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    let answered = client.write_all(b"who").and_then(|()| client.read_to_string(&mut text));
    if answered.is_ok() { text } else { String::new() }
}

#[test]
fn an_endpoint_may_have_a_name_of_its_own() {
    let certificates = certificates();
    let (one, two) = (naming_server(certificates, "one"), naming_server(certificates, "two"));
    for more in ["", "spare_connections: 1", "health_check: { interval: 100ms }"] {
        let tollgate = before(
            certificates,
            "server_name: two.test",
            &format!("endpoints: [{{ address: '{one}', server_name: one.test }}, '{two}'], {more}"),
        );
        let answers: BTreeSet<_> = (0..6).map(|_| answer(&tollgate)).collect();
        let both = ["one as one.test\n", "two as two.test\n"].map(str::to_owned);
        assert_eq!(answers, BTreeSet::from(both), "{more}");
        eventually("every endpoint to be healthy", || {
            let endpoints = &tollgate.json("/clusters")[0]["endpoints"];
            let healthy = |endpoint: &serde_json::Value| {
                let checked = more.contains("health") == endpoint["last_check"].is_object();
                checked && endpoint["healthy"] == true && endpoint["last_error"].is_null()
            };
            endpoints.as_array()?.iter().all(healthy).then_some(())
        });
    }
}

#[test]
fn a_file_of_endpoints_changes_the_name_of_one() {
    let certificates = certificates();
    let one = naming_server(certificates, "one");
    let file = certificates.path("endpoints.yaml");
    let write = |name: &str| {
        let list = format!("[{{ address: '{one}', server_name: {name} }}]\n");
        std::fs::write(&file, list).unwrap();
    };
    write("one.test");
    let cluster = format!("endpoints_file: {}", file.display());
    let tollgate = before(certificates, "", &cluster);
    assert_eq!(answer(&tollgate), "one as one.test\n");
    write("two.test");
    eventually("the wrong name", || answer(&tollgate).is_empty().then_some(()));
    let labels = [("result", "tls_wrong_name")];
    assert!(tollgate.metric("tollgate_upstream_connect_total", &labels) > 0.0);
    write("one.test");
    eventually("the right name", || (answer(&tollgate) == "one as one.test\n").then_some(()));
}
