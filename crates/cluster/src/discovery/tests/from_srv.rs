//! Endpoints from SRV records, and names whose answers change.

use super::*;

/// A name server with SRV records; both kinds of answers can be changed.
#[derive(Clone, Default)]
struct Zone {
    services: Arc<Mutex<Vec<SrvRecord>>>,
    hosts: Arc<Mutex<std::collections::BTreeMap<String, &'static str>>>,
}

impl Zone {
    fn serves(&self, services: &[(u16, u16, &str, u16)]) {
        let service = |&(priority, weight, host, port): &(u16, u16, &str, u16)| SrvRecord {
            priority,
            weight,
            host: host.into(),
            port,
        };
        *self.services.lock().unwrap() = services.iter().map(service).collect();
    }

    fn host(&self, name: &str, address: Option<&'static str>) {
        let mut hosts = self.hosts.lock().unwrap();
        match address {
            Some(address) => hosts.insert(name.into(), address),
            None => hosts.remove(name),
        };
    }
}

impl Resolver for Zone {
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        let known = self.hosts.lock().unwrap().get(host).copied();
        Box::pin(
            async move { known.map_or_else(failure, |a| answer(&[a], Duration::from_secs(20))) },
        )
    }

    fn resolve_srv<'a>(&'a self, _: &'a str) -> Lookup<'a, SrvAnswer> {
        let services = self.services.lock().unwrap().clone();
        Box::pin(async move { Ok(SrvAnswer { records: services, ttl: Duration::from_secs(40) }) })
    }
}

fn srv_cluster(zone: &Zone) -> Arc<Cluster> {
    let mut plan = plan(&[]);
    let mut endpoint = EndpointPlan::new(Target::Srv("_db._tcp.example".into()));
    endpoint.zone = Some("east".into());
    plan.endpoints.push(endpoint);
    Cluster::with_resolver(Arc::new(plan), &Metrics::new(), Box::new(zone.clone()))
}

#[tokio::test(start_paused = true)]
async fn srv_records_set_ports_weights_and_ranked_priorities() {
    let zone = Zone::default();
    zone.serves(&[(20, 0, "c", 3), (10, 5, "b", 2), (10, 60, "a", 1), (500, 1, "a", 9)]);
    for (host, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        zone.host(host, Some(address));
    }
    let cluster = srv_cluster(&zone);
    cluster.resolve().await;
    let expected = [
        "10.0.0.1:1 a:1 60 0 east",
        "10.0.0.2:2 b:2 5 0 east",
        "10.0.0.3:3 c:3 1 1 east",
        "10.0.0.1:9 a:9 1 2 east",
    ];
    assert_eq!(places(&cluster), expected);
    // The shortest TTL applies.
    let source = &cluster.names.lock().sources[0];
    assert_eq!(source.due.unwrap() - source.last_ok.unwrap(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_failed_srv_look_up_keeps_the_last_answer_of_each_target() {
    let zone = Zone::default();
    zone.serves(&[(0, 1, "a", 1), (0, 1, "b", 1)]);
    zone.host("a", Some("10.0.0.1"));
    zone.host("b", Some("10.0.0.2"));
    let cluster = srv_cluster(&zone);
    cluster.resolve().await;
    let kept = cluster.endpoints();
    // One target cannot be resolved; its weight changes all the same.
    zone.host("b", None);
    zone.serves(&[(0, 1, "a", 1), (0, 7, "b", 1), (0, 1, "new", 1)]);
    cluster.resolve().await;
    assert_eq!(places(&cluster), ["10.0.0.1:1 a:1 1 0 east", "10.0.0.2:1 b:1 7 0 east"]);
    assert!(cluster.endpoints().iter().zip(&kept).all(|(now, then)| Arc::ptr_eq(now, then)));
    assert_eq!(cluster.report()["dns"]["last_error"], "_db._tcp.example: b: no such name");
    // No records, or the root as the target, count as a failed look-up.
    for nothing in [&[][..], &[(0, 1, "", 1)], &[(0, 1, ".", 1)]] {
        zone.serves(nothing);
        cluster.resolve().await;
        assert_eq!(cluster.endpoints().len(), 2);
        let error = &cluster.report()["dns"]["last_error"];
        assert_eq!(error, "_db._tcp.example: it has no service");
    }
    // A target without a record is removed, whether it can be resolved or not.
    zone.serves(&[(0, 1, "a", 1)]);
    cluster.resolve().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:1"]);
    assert!(cluster.report()["dns"]["last_error"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_address_of_two_names_stays_when_one_name_loses_it() {
    let zone = Zone::default();
    zone.host("a", Some("10.0.0.1"));
    zone.host("b", Some("10.0.0.1"));
    let plan = Arc::new(plan(&[("a", 5000), ("b", 5000)]));
    let cluster = Cluster::with_resolver(plan, &Metrics::new(), Box::new(zone.clone()));
    cluster.resolve().await;
    let shared = cluster.endpoints()[0].clone();
    zone.host("a", Some("10.0.0.2"));
    cluster.resolve().await;
    assert_eq!(addresses(&cluster), ["10.0.0.2:5000", "10.0.0.1:5000"]);
    assert!(Arc::ptr_eq(&cluster.endpoints()[1], &shared));
    assert_eq!(shared.close_request(), CloseRequest::None);
}
