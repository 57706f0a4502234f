//! Stores that are reached inside TLS.

use crate::{
    limiter::{Limiter, Manner},
    machine::{Machine, limit, plan, run, take},
    server::Server,
    support::{
        certificates::Certificates, client::RawClient, eventually, scripted::Scripted,
        tollgate::Tollgate,
    },
};
use bson::doc;
use policy::kinds::rate_limit::shared::{LimitDecision, OnStoreFailure, RedisPlan, StorePlan};
use serde_json::Value;
use std::{
    io::{Read, Write},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tls::{CertificateFiles, ClientTls, ClientTlsPlan};

const LONG: Duration = Duration::from_secs(5);

/// This store, reached with the authority `ca` and, if there is one, the certificate `own`.
fn encrypted(
    store: StorePlan,
    certificates: &Certificates,
    ca: &str,
    own: Option<&str>,
) -> StorePlan {
    let StorePlan::Redis(redis) = store else { panic!("a Redis") };
    let file = |name: &str, end: &str| certificates.path(&format!("{name}.{end}"));
    let own = own.map(|name| CertificateFiles { chain: file(name, "crt"), key: file(name, "key") });
    let ca = Some(certificates.path(ca));
    let tls = ClientTls::load(ClientTlsPlan { ca, certificate: own, ..ClientTlsPlan::default() });
    StorePlan::Redis(RedisPlan { tls: Some(Arc::new(tls.unwrap())), ..redis })
}

/// How many of ten operations Redis admits, and how many were decided without it.
fn admitted(store: StorePlan) -> (usize, u64) {
    let machine = Machine::new(&plan(store, OnStoreFailure::Refuse, LONG), &limit("it", 1, 5));
    let hand = machine.shared.client();
    let admitted = run(async {
        let mut admitted = 0;
        for _ in 0..10 {
            admitted += usize::from(take(&hand, 1).await == LimitDecision::Allowed);
        }
        admitted
    });
    (admitted, machine.fallbacks())
}

#[test]
fn a_redis_is_verified_and_verifies() {
    let certificates = Certificates::shared();
    let server = Server::encrypted(certificates);
    let store = |ca, own| encrypted(server.store(), certificates, ca, own);
    assert_eq!(admitted(store("ca.crt", Some("client"))), (5, 0));
    // Without a certificate, with another authority, and without TLS.
    for wrong in [store("ca.crt", None), store("client.crt", Some("client")), server.store()] {
        let (admitted, fallbacks) = admitted(wrong);
        assert_eq!((admitted, fallbacks), (0, 10));
    }
}

#[test]
fn a_connection_to_redis_ends_with_its_certificate() {
    let certificates = Certificates::new();
    certificates.issue("server", &["127.0.0.1"]);
    let end = SystemTime::now() + Duration::from_secs(4);
    certificates.issue_with("client", &[], |params| params.not_after = end.into());
    let server = Server::encrypted(&certificates);
    let store = encrypted(server.store(), &certificates, "ca.crt", Some("client"));
    let StorePlan::Redis(RedisPlan { tls: Some(tls), .. }) = &store else { panic!("no TLS") };
    let tls = Arc::clone(tls);
    let machine = Machine::new(&plan(store, OnStoreFailure::Refuse, LONG), &limit("it", 100, 100));
    let hand = machine.shared.client();
    let admitted = || run(take(&hand, 1)) == LimitDecision::Allowed;
    assert!(admitted());
    certificates.issue("client", &[]);
    assert!(tls.reload().unwrap());
    let mut redis = certificates.connect(server.address, "127.0.0.1", Some("client"));
    let mut connections = || {
        redis.write_all(b"INFO stats\r\n").unwrap();
        let mut text = String::new();
        while !text.contains("total_commands_processed") {
            let mut piece = [0; 4096];
            let length = redis.read(&mut piece).unwrap();
            text.push_str(str::from_utf8(&piece[..length]).unwrap());
        }
        let count = text.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
        count.unwrap().parse::<u32>().unwrap()
    };
    let before = connections();
    eventually("another connection", || (admitted() && connections() > before).then_some(()));
    assert!(SystemTime::now() < end + Duration::from_secs(1), "it outlived its certificate");
    assert_eq!(machine.fallbacks(), 0);
}

/// A proxy with a limit that is shared so, for its MongoDB clients, before this server.
fn proxy(upstream: &Scripted, shared: &str) -> Tollgate {
    let upstream = upstream.address();
    Tollgate::start(&format!(
        "listeners:\n  db: {{ address: '127.0.0.1:0', protocol: mongo, cluster: db }}\n\
         clusters:\n  db: {{ endpoints: ['{upstream}'] }}\n\
         policies:\n- name: it\n  match: {{ operation: find }}\n  rate_limit: \
         {{ rate: 1/h, burst: 3, shared: {{ {shared}, timeout: 5s, on_store_failure: refuse }} }}\n"
    ))
}

/// How many of ten operations are served.
fn served(tollgate: &Tollgate) -> usize {
    let mut client = RawClient::connect(tollgate.listener("db"));
    let find = doc! { "find": "orders", "filter": {}, "$db": "shop" };
    (0..10).filter(|_| client.command(7, &find).get_f64("ok").unwrap() == 1.0).count()
}

#[test]
fn the_certificate_for_a_redis_is_listed_and_renewed() {
    let certificates = Certificates::new();
    certificates.issue("server", &["127.0.0.1"]);
    certificates.issue("client", &["proxy.example.net"]);
    let server = Server::encrypted(&certificates);
    let mongo = Scripted::agreeing();
    let (ca, own) = (certificates.path("ca.crt"), certificates.pair("client"));
    let redis = format!(
        "redis: {{ address: '{}', tls: {{ ca: {}, certificate: {own} }} }}",
        server.address,
        ca.display()
    );
    let tollgate = proxy(&mongo, &redis);
    assert_eq!(served(&tollgate), 3);
    let config: Value = serde_json::from_str(&tollgate.get("/config").1).unwrap();
    let shown = &config["policies"][0]["rate_limit"]["shared"]["redis"]["tls"];
    assert_eq!(shown["ca"].as_str(), ca.to_str());
    let fingerprint = || {
        let certificate = tollgate.json("/tls")["certificates"][0].clone();
        assert_eq!(certificate["used_by"]["policy"], "it");
        certificate["fingerprint"].as_str().unwrap().to_owned()
    };
    let before = fingerprint();
    certificates.issue("client", &["proxy.example.net"]);
    eventually("the new certificate", || (fingerprint() != before).then_some(()));
}

#[test]
fn a_rate_limit_service_is_verified() {
    let certificates = Certificates::shared();
    let limiter = Limiter::start(Manner { most: 4, ..Manner::default() });
    let before = Tollgate::start(&format!(
        "listeners:\n  rpc:\n    address: '127.0.0.1:0'\n    protocol: grpc\n    cluster: limits\n    \
         tls: {{ certificates: {} }}\n\
         clusters:\n  limits: {{ endpoints: ['{}'] }}\n",
        certificates.pair("server"),
        limiter.address
    ));
    let mongo = Scripted::agreeing();
    for (ca, allowed) in [("ca.crt", 4), ("client.crt", 0)] {
        let tollgate = proxy(
            &mongo,
            &format!(
                "rate_limit_service: {{ address: '{}', domain: databases, \
                 descriptors: [[{{ key: operation }}]], tls: {{ ca: {} }} }}",
                before.listener("rpc"),
                certificates.path(ca).display()
            ),
        );
        assert_eq!(served(&tollgate), allowed, "{ca}");
    }
}
