//! What docker-compose.yml starts: its files are there, agree with each other, and ask for metrics
//! that exist.

use crate::{
    deploy_tls::plan,
    metrics::{labels, names, used},
    path, read,
};
use config::plan::ControlAddress;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tollgate::proxy::Proxy;

const DASHBOARD: &str = "deploy/grafana/dashboards/tollgate.json";

pub(crate) fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

/// Every query of the dashboard, with the legend of its lines.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    targets.map(|target| (text(&target["expr"]), text(&target["legendFormat"]))).collect()
}

/// What starts something: the file, and its folder.
const COMPOSED: [(&str, &str); 3] = [
    ("docker-compose.yml", ""),
    ("examples/faults/docker-compose.yml", "examples/faults/"),
    ("examples/shared-limits/docker-compose.yml", "examples/shared-limits/"),
];

#[test]
fn the_proxys_configs_are_right() {
    for config in [
        "deploy/tollgate.yaml",
        "deploy/tls/tollgate.yaml",
        "examples/faults/tollgate.yaml",
        "examples/grpc-bridge/tollgate.yaml",
        "examples/shared-limits/tollgate.yaml",
    ] {
        assert!(!plan(config).listeners.is_empty());
    }
}

#[test]
fn the_proxies_of_a_shared_limit_ask_the_redis_that_is_started() {
    let compose = yaml("examples/shared-limits/docker-compose.yml");
    let plan = config::load(path("examples/shared-limits/tollgate.yaml")).unwrap();
    let shared = &plan.policies[0].to_json()["rate_limit"]["shared"];
    assert_eq!(shared["redis"]["address"], "redis:6379");
    assert_eq!(texts(&compose["services"]["redis"]["command"])[0], "redis-server");
    assert!(compose["services"]["tollgate"]["deploy"]["replicas"].as_u64() > Some(1));
}

#[test]
fn every_file_that_is_mounted_is_there() {
    let mut mounted = 0;
    for (file, folder) in COMPOSED {
        let compose = yaml(file);
        for service in compose["services"].as_object().unwrap().values() {
            for volume in texts(&service["volumes"]) {
                let (from, _) = volume.split_once(':').unwrap();
                if from.starts_with('.') {
                    assert!(path(&format!("{folder}{from}")).exists(), "{volume}");
                    mounted += 1;
                } else if from != "/var/run/docker.sock" {
                    assert!(compose["volumes"].get(from).is_some(), "{volume}");
                }
            }
        }
    }
    assert!(mounted >= 9);
}

#[test]
fn services_depend_on_services_and_stop_after_the_drain() {
    for (file, folder) in COMPOSED {
        start_and_stop_in_order(&yaml(file), folder);
    }
}

fn start_and_stop_in_order(compose: &Value, folder: &str) {
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        let on: Vec<&str> = match &service["depends_on"] {
            Value::Object(on) => on.keys().map(String::as_str).collect(),
            on => texts(on),
        };
        for other in on {
            assert!(services.contains_key(other), "{name} depends on {other}");
        }
    }
    let proxies = services.values().filter(|service| service["image"] == "tollgate:local");
    let mut count = 0;
    for proxy in proxies {
        let grace = proxy["stop_grace_period"].as_str().unwrap();
        let grace = grace.strip_suffix('s').unwrap().parse().unwrap();
        let mounted = texts(&proxy["volumes"]);
        let (config, _) = mounted[0].split_once(':').unwrap();
        let plan = plan(&format!("{folder}{config}"));
        assert!(Duration::from_secs(grace) > plan.drain_timeout);
        count += 1;
    }
    assert!(count >= 1);
    let dockerfile = read("Dockerfile");
    for (name, service) in services {
        if let Some(stage) = service["build"]["target"].as_str() {
            assert!(dockerfile.contains(&format!(" AS {stage}\n")), "{name} builds {stage}");
            let context = format!("{folder}{}", service["build"]["context"].as_str().unwrap());
            assert!(path(&context).join("Dockerfile").exists(), "{name} builds in {context}");
        }
    }
}

#[test]
fn tests_of_elections_end_members_that_are_started() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    let tests = &services["test-elections"];
    let uri = tests["environment"]["TOLLGATE_TEST_SET"].as_str().unwrap();
    let hosts = uri.strip_prefix("mongodb://").unwrap().split('/').next().unwrap().split(',');
    let names: Vec<_> = hosts.map(|host| host.strip_suffix(":27017").unwrap()).collect();
    assert_eq!(names, ["set-1", "set-2", "set-3"]);
    for name in names {
        assert_eq!(services[name]["container_name"], format!("tollgate-{name}"));
        assert_eq!(texts(&services[name]["command"])[..2], ["--replSet", "set"]);
    }
    for (variable, verb) in [("TOLLGATE_TEST_KILL", "kill"), ("TOLLGATE_TEST_START", "start")] {
        // Compose makes `$` of `$$`.
        let command = tests["environment"][variable].as_str().unwrap().replace("$$", "$");
        let echo = command.replace("curl", "echo");
        let output = Command::new("sh").args(["-c", &echo, "sh", "set-2", "27017"]).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(said.trim().ends_with(&format!("/containers/tollgate-set-2/{verb}")), "{said}");
    }
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    let open = services.iter().filter(|(_, it)| texts(&it["volumes"]).contains(&socket));
    assert_eq!(open.map(|(name, _)| name).collect::<Vec<_>>(), ["test-elections"]);
}

#[test]
fn a_container_reaches_the_proxy_and_its_admin_interface() {
    let compose = yaml("examples/faults/docker-compose.yml");
    let plan = config::load(path("examples/faults/tollgate.yaml")).unwrap();
    let environment = &compose["services"]["tests"]["environment"];
    let mongodb = format!("mongodb://tollgate:{}/", plan.listeners[0].address.port());
    assert_eq!(environment["MONGODB_URL"], mongodb);
    let Some(ControlAddress::Tcp(control)) = plan.admin.unwrap().control else {
        panic!("no control")
    };
    assert_eq!(environment["TOLLGATE_ADMIN"], format!("http://tollgate:{}", control.port()));
    assert!(compose["services"]["tollgate"]["ports"].is_null(), "it can break what passes");
}

#[test]
fn every_port_that_is_published_or_scraped_is_listened_on() {
    let port = |text: &str| text.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let compose = yaml("docker-compose.yml");
    let published = |service: &str, file: &str| {
        let plan = plan(file);
        let mut open: BTreeSet<u16> = plan.listeners.iter().map(|l| l.address.port()).collect();
        open.extend(plan.admin.as_ref().map(|admin| admin.address.port()));
        for published in texts(&compose["services"][service]["ports"]) {
            assert!(open.contains(&port(published)), "{published}");
        }
        (plan, open)
    };
    published("tollgate-tls", "deploy/tls/tollgate.yaml");
    let (plan, open) = published("tollgate", "deploy/tollgate.yaml");
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let targets = texts(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]);
    assert_eq!(targets, [format!("tollgate:{}", plan.admin.unwrap().address.port())]);
    let traffic = compose["services"]["traffic"]["command"].to_string();
    let (_, rest) = traffic.split_once("tollgate:").unwrap();
    assert!(open.contains(&port(rest.split('/').next().unwrap())), "{traffic}");
}

#[test]
fn the_health_check_fails_without_a_proxy() {
    let dockerfile = read("Dockerfile");
    let (_, rest) = dockerfile.split_once("HEALTHCHECK").unwrap();
    let (_, command) = rest.split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command.lines().next().unwrap()).unwrap();
    let (admin, options) = command[1..].split_last().unwrap();
    assert!(admin.ends_with(":9901"));
    let check = |admin: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(options).arg(admin).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            if began.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                panic!("{command:?} does not end");
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    };
    let plan = config::for_proxy("tcp", "127.0.0.1:0", "127.0.0.1:9", Some("127.0.0.1:0"));
    let proxy = Proxy::start(plan.unwrap()).unwrap();
    let admin = proxy.admin().unwrap().to_string();
    assert!(check(&admin));
    proxy.control().drain();
    proxy.wait().unwrap();
    assert!(!check(&admin));
}

#[test]
fn the_image_does_not_run_as_root() {
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.contains("\nUSER nonroot\n"), "{last}");
}

#[test]
fn the_image_has_labels_and_stops_by_a_drain() {
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.contains("\nSTOPSIGNAL SIGTERM\n"), "{last}");
    for label in ["title", "description", "licenses", "source", "documentation", "version"] {
        let name = format!("org.opencontainers.image.{label}=");
        assert!(last.contains(&name), "no {name} in {last}");
    }
    let version = format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(last.contains(&version), "the image has another version: {last}");
}

#[test]
fn the_dashboard_shows_metrics_and_labels_that_exist() {
    let known = names();
    let queries = queries();
    assert!(queries.len() > 20);
    for (query, _) in &queries {
        let mut of_metrics: BTreeSet<&str> = ["le"].into();
        for name in used(query) {
            assert!(known.contains(name), "{name} in {query}");
            of_metrics.extend(labels(name));
        }
        for label in grouped(query).into_iter().chain(matched(query)) {
            assert!(of_metrics.contains(label), "{label} in {query}");
        }
    }
}

#[test]
fn each_query_of_a_panel_has_a_name_of_its_own() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().into_iter().flatten();
        let names: Vec<_> = targets.map(|target| target["refId"].as_str().unwrap()).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len(), "{}: {names:?}", panel["title"]);
    }
}

#[test]
fn the_dashboards_legends_name_what_is_grouped_by() {
    for (query, legend) in queries() {
        let groups = grouped(&query);
        for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
            // Without any group a series has all the labels of its metric.
            let all = groups.is_empty() && used(&query).any(|name| labels(name).contains(&label));
            assert!(all || groups.contains(&label), "{label} in {query}");
        }
    }
}

#[test]
fn every_metric_of_operations_is_on_the_dashboard() {
    let queries = queries();
    let shown: BTreeSet<&str> = queries.iter().flat_map(|(query, _)| used(query)).collect();
    for name in names() {
        // Of a histogram one of its three is enough.
        let aside = ["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
        let rare = [
            "tollgate_build_info",
            "tollgate_connections_total",
            "tollgate_config_info",
            "tollgate_spans_exported_total",
        ];
        assert!(aside || rare.contains(&&*name) || shown.contains(&*name), "{name}");
    }
}

#[test]
fn the_dashboard_is_drawn_from_the_source_that_is_provisioned() {
    let sources = yaml("deploy/grafana/provisioning/datasources/prometheus.yaml");
    let uid = &sources["datasources"][0]["uid"];
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let drawn = panel["type"] != "row";
        assert!(!drawn || panel["datasource"]["uid"] == *uid, "{panel}");
    }
    let provider = yaml("deploy/grafana/provisioning/dashboards/tollgate.yaml");
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap();
    let compose = yaml("docker-compose.yml");
    let mounts = texts(&compose["services"]["grafana"]["volumes"]);
    assert!(mounts.iter().any(|mount| mount.contains(&format!(":{folder}:"))), "{mounts:?}");
}

/// The labels in each `by (…)` of a query.
fn grouped(query: &str) -> Vec<&str> {
    let lists = query.split("by (").skip(1).map(|rest| rest.split(')').next().unwrap());
    lists.flat_map(|list| list.split(',').map(str::trim)).collect()
}

/// The labels in each `{…}` of a query.
fn matched(query: &str) -> Vec<&str> {
    let lists = query.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
    lists
        .flat_map(|list| list.split(", ").map(|one| one.split(['=', '!']).next().unwrap()))
        .collect()
}
