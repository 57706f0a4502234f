//! The whole way from text to plan, where no file of its own is needed.

use cluster::{
    BreakerPlan, EndpointPlan, FailurePercentagePlan, HashPlan, InitialHealth, KeepalivePlan,
    LbPolicy, OnPanic, OutlierPlan, PanicPlan, RateDetector, SessionFailures, SlowStartPlan,
    SuccessRatePlan,
};
use config::{ADMIN, Diagnostics, endpoints, for_proxy, load, parse, plan::*};
use std::time::Duration;
use values::Target;

pub(crate) const CLUSTER: &str = "clusters: { db: { endpoints: [db:1] } }\n";

pub(crate) fn listening_on(address: &str) -> Result<Plan, Diagnostics> {
    let listener = format!("{{ address: \"{address}\", protocol: tcp, cluster: db }}");
    parse("t.yaml", &format!("listeners: {{ a: {listener} }}\n{CLUSTER}"))
}

#[test]
fn a_minimal_config_gets_the_documented_defaults() {
    let plan = listening_on(":0").unwrap();
    assert_eq!(plan.admin, Some(AdminPlan::new("127.0.0.1:9901".parse().unwrap())));
    assert!(plan.workers >= 1);
    assert_eq!((plan.max_connections, plan.max_series), (10_000, 1000));
    assert_eq!(plan.drain_timeout, Duration::from_secs(30));
    assert_eq!(plan.access_log, None);
    let listener = &plan.listeners[0];
    assert_eq!(listener.address, "0.0.0.0:0".parse().unwrap());
    assert_eq!(listener.timeouts.idle, Some(Duration::from_secs(3600)));
    assert_eq!(listener.timeouts.max_duration, None);
    assert_eq!(listener.timeouts.first_byte, Some(Duration::from_secs(60)));
    assert_eq!(listener.timeouts.handshake, Some(Duration::from_secs(60)));
    assert_eq!(listener.timeouts.message, Some(Duration::from_secs(300)));
    assert_eq!(listener.timeouts.write, Some(Duration::from_secs(300)));
    assert_eq!(listener.timeouts.half_close, Some(Duration::from_secs(300)));
    assert_eq!(listener.tcp_user_timeout, Some(Duration::from_secs(120)));
    let limits = ConnectionLimits { max: 10_000, reserved: 5_000 };
    assert_eq!(plan.connection_limits[&listener.name], limits);
    assert_eq!(listener.on_violation, OnViolation::Pass);
    let cluster = &plan.clusters[0];
    assert_eq!(cluster.endpoints, [EndpointPlan::new(Target::Host("db".into(), 1))]);
    assert_eq!(cluster.lb_policy, LbPolicy::LeastRequest);
    assert_eq!(cluster.connect_timeout, Duration::from_secs(1));
    assert_eq!(cluster.connect_attempts, 3);
    assert_eq!(cluster.dns.min_ttl, Duration::from_secs(1));
    assert_eq!(cluster.dns.max_ttl, Duration::from_secs(300));
    assert_eq!(
        (cluster.spare_connections, cluster.tcp_user_timeout),
        (0, Some(Duration::from_secs(90)))
    );
    assert_eq!((cluster.panic, cluster.slow_start), (PanicPlan::default(), None));
    assert!(cluster.health_check.is_none() && cluster.outlier_detection.is_none());
    assert_eq!(cluster.circuit_breaker, BreakerPlan::default());
    assert_eq!(cluster.keepalive, KeepalivePlan::default());
    assert_eq!((&cluster.zone, plan.event_log), (&None, None));
}

#[test]
fn the_written_config_is_the_plan() {
    let plan = load("fixtures/config/good/every_key.yaml").unwrap();
    assert_eq!((plan.workers, plan.max_connections, plan.max_series), (2, 500, 100));
    let admin = plan.admin.unwrap();
    assert_eq!(admin.address, "[::1]:9901".parse().unwrap());
    assert_eq!(admin.control, Some(ControlAddress::Unix("/run/tollgate/control.sock".into())));
    assert_eq!(admin.token_file.unwrap().to_str(), Some("/run/secrets/tollgate-token"));
    let hosts: Vec<&str> = admin.allowed_hosts.iter().map(|host| &**host).collect();
    assert_eq!(hosts, ["proxy.example.net", "*.internal"]);
    let [orders, cache, ..] = plan.listeners.as_slice() else { panic!("{:?}", plan.listeners) };
    assert_eq!(
        (&*orders.name, orders.protocol.name(), orders.cluster.as_deref()),
        ("orders", "mongo", Some("orders"))
    );
    assert_eq!(orders.timeouts.idle, Some(Duration::from_secs(5400)));
    assert_eq!(orders.timeouts.first_byte, Some(Duration::from_secs(10)));
    assert_eq!(orders.timeouts.handshake, Some(Duration::from_secs(20)));
    assert_eq!(orders.timeouts.message, Some(Duration::from_secs(30)));
    assert_eq!(orders.timeouts.write, Some(Duration::from_millis(250)));
    assert_eq!(
        (plan.connection_limits[&orders.name].max, orders.on_violation),
        (100, OnViolation::Close)
    );
    assert_eq!((cache.timeouts.first_byte, cache.timeouts.message), (None, None));
    // What `orders` leaves, by two, by the number of the other listeners.
    let limits = |it: &ListenerPlan| plan.connection_limits[&it.name];
    assert_eq!(limits(orders).reserved, 50);
    assert_eq!(limits(cache).reserved, 450 / 2 / (plan.listeners.len() - 1));
    assert_eq!(orders.upstream_connect_mode, None);
    assert_eq!(cache.upstream_connect_mode, Some(UpstreamConnectMode::OnClientData));
    assert_eq!((cache.timeouts.idle, cache.timeouts.write, limits(cache).max), (None, None, 500));
    assert_eq!(plan.clusters[1].lb_policy, LbPolicy::Random);
    let log = plan.access_log.unwrap();
    assert_eq!(log.slower_than, Some(Duration::from_millis(100)));
    let settings = orders.protocol.to_json();
    assert_eq!(settings["mongo"]["shard_keys"]["shop.orders"][0], "customer");
}

#[test]
fn the_written_cluster_is_the_plan() {
    let seconds = Duration::from_secs;
    let plan = load("fixtures/config/good/every_key.yaml").unwrap();
    assert_eq!(plan.zone.as_deref(), Some("eu-1a"));
    assert_eq!(plan.event_log.unwrap().to_str(), Some("/var/log/tollgate-events.jsonl"));
    let orders = &plan.clusters[0];
    let written: Vec<_> = orders.endpoints.iter().map(|it| it.at.to_string()).collect();
    let srv = "_mongodb._tcp.db.example.net";
    assert_eq!(written, ["mongo-1:27017", "mongo-2:27017", "[2001:db8::1]:27017", srv]);
    assert_eq!(
        orders.endpoints[1],
        EndpointPlan {
            at: Target::Host("mongo-2".into(), 27017),
            weight: 2,
            priority: 1,
            zone: Some("eu-1a".into()),
            server_name: Some("mongo-2.example.net".into()),
        }
    );
    assert_eq!(orders.endpoints[3].at, Target::Srv(srv.into()));
    assert_eq!(
        orders.endpoints_file.as_ref().unwrap().path.to_str(),
        Some("orders.endpoints.yaml")
    );
    assert_eq!((orders.zone.as_deref(), orders.lb_policy), (Some("eu-1a"), LbPolicy::Maglev));
    assert_eq!(orders.hash, HashPlan { bounded_load: Some(150), ring_size: 2048 });
    assert_eq!(orders.panic, PanicPlan { threshold: Some(40), on_panic: OnPanic::Fail });
    let slow = SlowStartPlan { window: seconds(45), aggression: 1.5, min_weight: 20 };
    assert_eq!(orders.slow_start, Some(slow));
    let check = orders.health_check.as_ref().unwrap();
    assert_eq!((check.interval, check.timeout, check.jitter), (seconds(10), seconds(2), 20));
    assert_eq!(check.edge_interval, Duration::from_millis(500));
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 4));
    assert!(check.initial == InitialHealth::Unhealthy && !check.reuse_connection);
    assert!(check.close_connections_on_unhealthy);
    let probe = serde_json::json!({ "mongo": { "replica_set": "rs0", "writable": true } });
    assert_eq!(check.probe.to_json(), probe);
}

#[test]
fn written_failure_and_connection_settings_are_the_plan() {
    let seconds = Duration::from_secs;
    let plan = load("fixtures/config/good/every_key.yaml").unwrap();
    let [orders, cache, games, ..] = plan.clusters.as_slice() else {
        panic!("{:?}", plan.clusters)
    };
    let rate = |minimum_endpoints, minimum_operations, enforcing| RateDetector {
        minimum_endpoints,
        minimum_operations,
        enforcing,
    };
    let outliers = OutlierPlan {
        consecutive_failures: 7,
        consecutive_local_failures: 0,
        session_failures: SessionFailures::NoReply,
        interval: seconds(20),
        base_ejection_time: seconds(60),
        max_ejection_time: seconds(600),
        max_ejection_percent: 30,
        success_rate: Some(SuccessRatePlan { detector: rate(3, 200, 80), stdev_factor: 2.5 }),
        failure_percentage: Some(FailurePercentagePlan {
            detector: rate(4, 60, 100),
            threshold: 70,
        }),
        enforcing_consecutive: 90,
    };
    assert_eq!(orders.outlier_detection, Some(outliers));
    let breaker = BreakerPlan {
        max_connections: Some(1024),
        max_connections_per_endpoint: Some(200),
        max_pending: 256,
        pending_timeout: seconds(3),
        max_operations: Some(4096),
        retry_percent: 25,
        min_retries: 5,
    };
    assert_eq!(orders.circuit_breaker, breaker);
    assert_eq!((orders.connect_attempts, orders.spare_connections), (1, 4));
    let keepalive = KeepalivePlan { idle: seconds(30), interval: seconds(5), probes: 4 };
    assert_eq!(orders.keepalive, keepalive);
    assert_eq!(orders.tcp_user_timeout, Some(seconds(20)));
    assert_eq!(orders.drain_timeout, seconds(15));
    let outliers = cache.outlier_detection.as_ref().unwrap();
    assert_eq!(outliers.success_rate, None);
    assert_eq!(outliers.failure_percentage, None);
    assert!(games.endpoints.is_empty() && games.endpoints_file.is_some());
    let probe = &games.health_check.as_ref().unwrap().probe;
    assert_eq!(
        probe.to_json(),
        serde_json::json!({ "tcp": { "send_hex": "00ff0a", "expect_hex": "ff" } })
    );
}

#[test]
fn written_http_settings_are_the_plan() {
    let plan = load("fixtures/config/good/every_key.yaml").unwrap();
    let find = |name: &str| plan.listeners.iter().find(|it| &*it.name == name).unwrap();
    let clusters = |name: &str| {
        let names = find(name).protocol.clusters();
        names.iter().map(|it| it.to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(clusters("web"), ["canary", "shop"].map(str::to_owned).into());
    assert_eq!(clusters("rpc"), ["greeter".to_owned()].into());
    let web = &find("web").protocol.to_json()["http"];
    assert_eq!((&web["max_head"], &web["via"]), (&"32KiB".into(), &"edge".into()));
    let [cart, ..] = web["routes"].as_array().unwrap().as_slice() else { panic!("{web}") };
    assert_eq!(cart["match"]["headers"]["x-beta"]["contains"], "et");
    assert_eq!(cart["retry"]["on"][3], "5xx");
    let cluster = |name: &str| plan.clusters.iter().find(|it| &*it.name == name).unwrap();
    assert!(cluster("shop").health_check.as_ref().is_some_and(|it| it.probe.name() == "http"));
    assert!(cluster("greeter").health_check.as_ref().is_some_and(|it| it.probe.name() == "grpc"));
}

#[test]
fn a_listener_whose_routes_have_clusters_needs_no_cluster() {
    let listener = |protocol: &str| {
        let text =
            format!("listeners: {{ a: {{ address: :0, protocol: {protocol} }} }}\n{CLUSTER}");
        parse("t", &text).map_err(|problems| problems.to_string())
    };
    let routed = "{ http: { routes: [{ name: x, match: { path: /x }, cluster: db }] } }";
    assert_eq!(listener(routed).unwrap().listeners[0].cluster, None);
    let here = "{ http: { routes: [{ name: x, reply: { status: 204 } }] } }";
    assert_eq!(listener(here).unwrap().listeners[0].cluster, None);
    for protocol in ["http", "grpc", "{ http: { routes: [] } }"] {
        let problems = listener(protocol).unwrap_err();
        assert!(problems.contains("the key `cluster` is missing"), "{protocol}: {problems}");
    }
}

#[test]
fn written_policies_are_the_plan() {
    let plan = parse("t.yaml", include_str!("../../fixtures/config/good/policies.yaml")).unwrap();
    let shown: Vec<_> = plan.policies.iter().map(|rule| rule.to_json()).collect();
    assert_eq!(
        shown,
        [
            serde_json::json!({
                "name": "no-drops", "enabled": true, "dry_run": false,
                "match": {
                    "protocol": "mongo", "operation": ["drop", "dropDatabase"],
                    "resource": ["shop.*", "*.orders"],
                    "not": {
                        "user": "admin@admin", "peer": ["10.0.0.0/8", "192.168.*", "::1"],
                        "not": { "app": "night?" },
                    },
                },
                "deny": { "message": "ask the data team", "over": "refuse" },
            }),
            // Numbers and booleans are matched as they are written.
            serde_json::json!({
                "name": "query", "enabled": false, "dry_run": true,
                "match": { "query_hash": "12e45", "comment": "true" },
                "deny": { "code": 50, "over": "reset" },
            }),
            serde_json::json!({
                "name": "nobody", "enabled": true, "dry_run": false,
                "match": { "listener": "r*", "not": { "peer": "127.0.0.0/8" } },
                "deny": { "over": "close" },
            }),
        ]
    );
}

#[test]
fn a_health_check_probes_with_the_protocol_of_the_listeners() {
    let probe = |protocols: &[&str]| {
        let listener = |(i, it): (usize, &&str)| {
            format!("l{i}: {{ address: :0, protocol: {it}, cluster: db }}")
        };
        let listeners: Vec<_> = protocols.iter().enumerate().map(listener).collect();
        let other = "other: { address: :0, protocol: tcp, cluster: other }";
        let listeners = format!("{other}, {}", listeners.join(", "));
        let clusters = "db: { endpoints: [a:1], health_check: {} }, other: { endpoints: [b:1] }";
        let plan = parse("t", &format!("listeners: {{ {listeners} }}\nclusters: {{ {clusters} }}"));
        let plan = plan.map_err(|problems| problems.to_string())?;
        let check = plan.clusters[0].health_check.as_ref().unwrap();
        assert_eq!(
            (check.interval, check.timeout),
            (Duration::from_secs(5), Duration::from_secs(1))
        );
        assert_eq!((check.jitter, check.edge_interval), (10, Duration::from_secs(1)));
        assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (1, 3));
        assert!(check.initial == InitialHealth::Healthy && !check.close_connections_on_unhealthy);
        Ok::<_, String>((check.probe.name(), check.reuse_connection))
    };
    assert_eq!(probe(&[]), Ok(("tcp", false)));
    assert_eq!(probe(&["tcp"]), Ok(("tcp", false)));
    assert_eq!(probe(&["mongo"]), Ok(("mongo", true)));
    assert_eq!(probe(&["http"]).unwrap().0, "http");
    assert_eq!(probe(&["grpc"]).unwrap().0, "grpc");
    assert_eq!(probe(&["mongo", "{ mongo: { rewrite_hello: false } }"]), Ok(("mongo", true)));
    assert!(probe(&["mongo", "tcp"]).unwrap_err().contains("speak mongo, tcp"));
}

#[test]
fn a_short_interval_shortens_the_other_times() {
    let plan = parse("t", include_str!("../../fixtures/config/good/limits.yaml")).unwrap();
    let check = plan.clusters[0].health_check.as_ref().unwrap();
    let half = Duration::from_millis(500);
    assert_eq!((check.interval, check.timeout, check.edge_interval), (half, half, half));
    let outliers = plan.clusters[0].outlier_detection.as_ref().unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!((outliers.base_ejection_time, outliers.max_ejection_time), (hour, hour));
    assert_eq!(outliers.consecutive_failures, 0);
}

#[test]
fn a_file_of_endpoints_is_a_list_in_yaml_or_json() {
    let yaml = "- db-1:27017\n- { address: db-2:27017, priority: 1, zone: eu-1a }\n";
    let json = r#"["db-1:27017", {"address": "db-2:27017", "priority": 1, "zone": "eu-1a"}]"#;
    let read = endpoints(yaml, "e.yaml").unwrap();
    assert_eq!(read, endpoints(json, "e.json").unwrap());
    assert_eq!((read.len(), read[1].priority), (2, 1));
    // Others may be in the config.
    assert!(endpoints("[{ address: a:1, priority: 3 }]", "e").is_ok());
    for (text, told) in [
        ("", "e.yaml: the file is empty"),
        ("[]", "e.yaml:1:1: there is no endpoint"),
        ("- db-1:1\n- db-1:1\n", "e.yaml:2:3: `db-1:1` is here twice"),
        ("- db-1\n", "e.yaml:1:3: `db-1` has no port"),
        ("- { address: db-1:1, weigth: 2 }\n", "e.yaml:1:22: unknown key `weigth`"),
        ("endpoints: [db-1:1]\n", "e.yaml:1:1: expected a list, found keys and values"),
        ("- [", "e.yaml:1:3: not valid YAML"),
    ] {
        let problems = endpoints(text, "e.yaml").unwrap_err().to_string();
        assert!(problems.starts_with(told), "{problems}");
    }
}

#[test]
fn a_proxy_needs_no_file() {
    let plan = for_proxy("mongo", ":27018", "localhost:27017", None).unwrap();
    let listener = &plan.listeners[0];
    assert_eq!((&*listener.name, listener.cluster.as_deref()), ("mongo", Some("upstream")));
    assert_eq!(listener.address, "0.0.0.0:27018".parse().unwrap());
    assert_eq!(plan.clusters[0].endpoints[0].at.to_string(), "localhost:27017");
    assert_eq!(plan.access_log.unwrap().path.to_str(), Some("/dev/stdout"));
    assert_eq!(plan.admin, Some(AdminPlan::new(ADMIN.parse().unwrap())));
    assert_eq!(for_proxy("tcp", ":0", "a:1", Some("off")).unwrap().admin, None);
    // WebSockets work without a file, too.
    let plan = for_proxy("http", ":0", "a:1", None).unwrap();
    let shown = plan.listeners[0].protocol.to_json();
    assert_eq!(shown["http"]["routes"][0]["upgrade"], true, "{shown}");
    assert_eq!(shown["http"]["routes"][0]["name"], "default", "{shown}");
}

#[test]
fn one_ttl_bound_alone_adapts_the_other() {
    let bounds = |dns: &str| {
        let cluster = format!("clusters: {{ db: {{ endpoints: [db:1], dns: {{ {dns} }} }} }}");
        let plan = parse(
            "t",
            &format!(
                "listeners: {{ a: {{ address: :0, protocol: tcp, cluster: db }} }}\n{cluster}"
            ),
        );
        let plan = plan.unwrap();
        (plan.clusters[0].dns.min_ttl.as_millis(), plan.clusters[0].dns.max_ttl.as_millis())
    };
    assert_eq!(bounds("min_ttl: 10m"), (600_000, 600_000));
    assert_eq!(bounds("max_ttl: 100ms"), (100, 100));
    assert_eq!(bounds("min_ttl: 2s, max_ttl: 3s"), (2000, 3000));
}

#[test]
fn vanished_peers_are_closed_within_two_minutes_by_default() {
    let listening = |more: &str, cluster: &str| {
        let text = format!(
            "listeners: {{ l: {{ address: \":0\", protocol: tcp, cluster: c{more} }} }}\n\
             clusters: {{ c: {{ endpoints: [\"a:1\"]{cluster} }} }}\n"
        );
        let plan = parse("test.yaml", &text).unwrap();
        (plan.listeners[0].tcp_user_timeout, plan.clusters[0].tcp_user_timeout)
    };
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(listening("", ""), (seconds(120), seconds(90)));
    assert_eq!(listening(", write_timeout: 10m", "").0, seconds(600));
    assert_eq!(listening(", write_timeout: 10s", "").0, seconds(120));
    assert_eq!(listening(", write_timeout: off", "").0, None);
    assert_eq!(listening(", write_timeout: 10m, tcp_user_timeout: 5s", "").0, seconds(5));
    assert_eq!(listening(", tcp_user_timeout: off", ", tcp_user_timeout: off"), (None, None));
    let keepalive = ", keepalive: { idle: 5s, interval: 2s, probes: 2 }";
    assert_eq!(listening("", keepalive).1, seconds(9));
}

#[test]
fn thousands_of_listeners_and_clusters_fit() {
    let some = 6000;
    let listener = |i: usize| {
        let address = format!("127.0.0.1:{}", 10_000 + i);
        format!(
            "  l{i}: {{ address: \"{address}\", protocol: tcp, cluster: c{i}, idle_timeout: 5m }}\n"
        )
    };
    let cluster =
        |i: usize| format!("  c{i}: {{ endpoints: [\"db-{i}:27017\"], health_check: {{}} }}\n");
    let listeners: String = (0..some).map(listener).collect();
    let clusters: String = (0..some).map(cluster).collect();
    let plan = parse(
        "t",
        &format!("max_connections: 100000\nlisteners:\n{listeners}clusters:\n{clusters}"),
    );
    assert_eq!(plan.unwrap().listeners.len(), some);
}
