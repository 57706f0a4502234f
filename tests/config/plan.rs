//! The whole way from text to plan, where no file of its own is needed.

use std::time::Duration;
use tollgate::config::{ADMIN, Problems, for_proxy, load, parse, plan::*};

const MAX_FILE: usize = 4 << 20;

const CLUSTER: &str = "clusters: { db: { endpoints: [db:1] } }\n";

fn listening_on(address: &str) -> Result<Plan, Problems> {
    let listener = format!("{{ address: \"{address}\", protocol: tcp, cluster: db }}");
    parse("t.yaml", &format!("listeners: {{ a: {listener} }}\n{CLUSTER}"))
}

#[test]
fn a_minimal_config_gets_the_documented_defaults() {
    let plan = listening_on(":0").unwrap();
    assert_eq!(plan.admin, Some("127.0.0.1:9901".parse().unwrap()));
    assert!(plan.workers >= 1);
    assert_eq!((plan.max_connections, plan.max_series), (10_000, 1000));
    assert_eq!(plan.drain_timeout, Duration::from_secs(30));
    assert_eq!(plan.access_log, None);
    let listener = &plan.listeners[0];
    assert_eq!(listener.address, "0.0.0.0:0".parse().unwrap());
    assert_eq!(listener.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(listener.max_connection_duration, None);
    assert_eq!(listener.first_byte_timeout, Some(Duration::from_secs(60)));
    assert_eq!(listener.message_timeout, Some(Duration::from_secs(300)));
    assert_eq!(listener.write_timeout, Some(Duration::from_secs(300)));
    assert_eq!(listener.max_connections, 10_000);
    assert_eq!(listener.on_violation, OnViolation::Pass);
    let cluster = &plan.clusters[0];
    assert_eq!(cluster.endpoints, [EndpointPlan::new(Target::Host("db".into(), 1))]);
    assert_eq!(cluster.lb_policy, LbPolicy::LeastRequest);
    assert_eq!(cluster.connect_timeout, Duration::from_secs(1));
    assert_eq!(cluster.connect_attempts, 3);
    assert_eq!(cluster.dns_min_ttl, Duration::from_secs(1));
    assert_eq!(cluster.dns_max_ttl, Duration::from_secs(300));
}

#[test]
fn what_is_written_is_what_runs() {
    let plan = parse("t.yaml", include_str!("../../fixtures/config/good/every_key.yaml")).unwrap();
    assert_eq!((plan.workers, plan.max_connections, plan.max_series), (2, 500, 100));
    assert_eq!(plan.admin, Some("[::1]:9901".parse().unwrap()));
    let [orders, cache] = plan.listeners.as_slice() else { panic!("{:?}", plan.listeners) };
    assert_eq!(
        (&*orders.name, orders.protocol.name(), &*orders.cluster),
        ("orders", "mongo", "orders")
    );
    assert_eq!(orders.idle_timeout, Some(Duration::from_secs(5400)));
    assert_eq!(orders.first_byte_timeout, Some(Duration::from_secs(10)));
    assert_eq!(orders.message_timeout, Some(Duration::from_secs(30)));
    assert_eq!(orders.write_timeout, Some(Duration::from_millis(250)));
    assert_eq!((orders.max_connections, orders.on_violation), (100, OnViolation::Close));
    assert_eq!((cache.first_byte_timeout, cache.message_timeout), (None, None));
    assert_eq!((cache.idle_timeout, cache.write_timeout, cache.max_connections), (None, None, 500));
    let hosts: Vec<_> = plan.clusters[0].endpoints.iter().map(|it| it.at.to_string()).collect();
    assert_eq!(hosts, ["mongo-1:27017", "mongo-2:27017", "[2001:db8::1]:27017"]);
    assert_eq!(plan.clusters[1].lb_policy, LbPolicy::Random);
    let log = plan.access_log.unwrap();
    assert_eq!(log.slower_than, Some(Duration::from_millis(100)));
    let settings = orders.protocol.to_json();
    assert_eq!(settings["mongo"]["shard_keys"]["shop.orders"][0], "customer");
}

#[test]
fn a_proxy_needs_no_file() {
    let plan = for_proxy("mongo", ":27018", "localhost:27017", None).unwrap();
    let listener = &plan.listeners[0];
    assert_eq!((&*listener.name, &*listener.cluster), ("mongo", "upstream"));
    assert_eq!(listener.address, "0.0.0.0:27018".parse().unwrap());
    assert_eq!(plan.clusters[0].endpoints[0].at.to_string(), "localhost:27017");
    assert_eq!(plan.access_log.unwrap().path.to_str(), Some("/dev/stdout"));
    assert_eq!(plan.admin, Some(ADMIN.parse().unwrap()));
    assert_eq!(for_proxy("tcp", ":0", "a:1", Some("off")).unwrap().admin, None);
}

#[test]
fn wrong_arguments_are_all_told() {
    let problems = for_proxy("mongodb", "localhost:1", "db", Some("off")).unwrap_err();
    let printed = problems.to_string();
    for part in ["did you mean `mongo`?", "`localhost` is not an IP", "`db` has no port"] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    assert!(problems.0.iter().all(|problem| problem.line == 0 && problem.snippet.is_empty()));
}

#[test]
fn problems_are_json_for_machines() {
    let json = listening_on(":99999").unwrap_err().to_json();
    let expected = serde_json::json!([{
        "file": "t.yaml", "line": 1, "column": 28, "message": "there is no port 99999",
        "hint": "ports end at 65535",
    }]);
    assert_eq!(json, expected);
}

#[test]
fn addresses_that_cannot_both_be_listened_on_are_told() {
    let both = |one: &str, other: &str| {
        let listener =
            |address| format!("{{ address: \"{address}\", protocol: tcp, cluster: db }}");
        let (one, other) = (listener(one), listener(other));
        parse("t", &format!("listeners: {{ a: {one}, b: {other} }}\n{CLUSTER}")).is_ok()
    };
    assert!(both("127.0.0.1:1", "127.0.0.1:2"));
    assert!(both("127.0.0.1:1", "127.0.0.2:1"));
    assert!(both(":0", ":0"));
    assert!(both("0.0.0.0:1", "[::1]:1"));
    assert!(!both("127.0.0.1:1", "127.0.0.1:1"));
    assert!(!both("127.0.0.1:1", ":1"));
    assert!(!both("[::]:1", "127.0.0.1:1"));
    assert!(!both("[::1]:1", "[::]:1"));
    assert!(listening_on("127.0.0.1:9901").is_err(), "the admin interface is there by default");
}

#[test]
fn names_are_at_most_64_characters() {
    let named = |length: usize| {
        let name = "n".repeat(length);
        let listener =
            format!("listeners: {{ {name}: {{ address: :0, protocol: tcp, cluster: db }} }}");
        parse("t", &format!("{listener}\n{CLUSTER}")).is_ok()
    };
    assert!(named(64));
    assert!(!named(65));
}

#[test]
fn one_ttl_alone_moves_the_other_bound_with_it() {
    let bounds = |dns: &str| {
        let cluster = format!("clusters: {{ db: {{ endpoints: [db:1], dns: {{ {dns} }} }} }}");
        let plan = parse(
            "t",
            &format!(
                "listeners: {{ a: {{ address: :0, protocol: tcp, cluster: db }} }}\n{cluster}"
            ),
        );
        let plan = plan.unwrap();
        (plan.clusters[0].dns_min_ttl.as_millis(), plan.clusters[0].dns_max_ttl.as_millis())
    };
    assert_eq!(bounds("min_ttl: 10m"), (600_000, 600_000));
    assert_eq!(bounds("max_ttl: 100ms"), (100, 100));
    assert_eq!(bounds("min_ttl: 2s, max_ttl: 3s"), (2000, 3000));
}

#[test]
fn a_file_that_is_not_there_is_a_problem_without_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tollgate.yaml");
    let problems = load(&path).unwrap_err();
    let printed = problems.to_string();
    assert!(
        printed.starts_with(&format!("{}: can't read this file: No such file", path.display())),
        "{printed}"
    );
    assert_eq!(load(folder.path()).unwrap_err().0.len(), 1, "a folder is no file");
}

#[test]
fn a_file_that_is_too_big_is_refused_unread() {
    let problems = parse("t", &"#".repeat(MAX_FILE + 1)).unwrap_err();
    assert!(problems.to_string().contains("too big"), "{problems}");
    let problems = parse("t", &"#".repeat(MAX_FILE)).unwrap_err();
    assert!(problems.to_string().contains("the file is empty"), "{problems}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let problems = parse("t", "\u{feff}colour: red\n").unwrap_err();
    let colour = &problems.0[0];
    assert_eq!((colour.line, colour.column), (1, 1));
    assert!(problems.to_string().contains("1 | colour: red\n  | ^^^^^^\n"), "{problems}");
}

#[test]
fn thousands_of_problems_are_cut_short() {
    let keys: String = (0..5000).map(|i| format!("nonsense{i}: 1\n")).collect();
    assert_eq!(parse("t", &keys).unwrap_err().0.len(), 100);
}

#[test]
fn a_long_line_is_shown_around_the_place() {
    let text = format!("{{ {}colour: red }}\n", " ".repeat(1000));
    let problem = &parse("t", &text).unwrap_err().0;
    let snippet = &problem.iter().find(|it| it.message.contains("colour")).unwrap().snippet;
    assert!(snippet.lines().all(|line| line.len() < 200), "{snippet}");
    let lines: Vec<&str> = snippet.lines().collect();
    let caret = lines[2].find('^').unwrap();
    assert!(lines[1][caret..].starts_with("colour"), "{snippet}");
}

#[test]
fn no_mutilated_config_is_a_panic() {
    let good = include_str!("../../fixtures/config/good/every_key.yaml");
    for (at, _) in good.char_indices().step_by(17) {
        let _ = parse("t", &good[..at]);
        for junk in ["\0", "[", "}", "\t", ": ", "*", "\"", "é"] {
            let (before, after) = good.split_at(at);
            let _ = parse("t", &format!("{before}{junk}{after}")).map_err(|it| it.to_string());
        }
    }
}
