//! docs/configuration.md: every key, from the JSON Schema that editors use.

use crate::{agrees, blocks, read};
use serde_json::Value;

const PAGE: &str = "docs/configuration.md";

/// The maps of a config: the schema's name, the heading, and where they are written.
const MAPS: &[(&str, &str)] = &[
    ("", "The file"),
    ("Admin", "`admin`"),
    ("AdminTls", "`admin.tls`"),
    ("Drain", "`drain`"),
    ("Listener", "`listeners.NAME`"),
    ("ListenerTls", "`listeners.NAME.tls`"),
    ("Certificate", "`tls.certificates`, `tls.certificate`"),
    ("RevocationList", "`listeners.NAME.tls.crl`"),
    ("ListenerProxyProtocol", "`listeners.NAME.proxy_protocol`"),
    ("Settings", "`listeners.NAME.protocol.mongo`"),
    ("AuthSettings", "`listeners.NAME.protocol.mongo.auth`"),
    ("AuthUser", "`listeners.NAME.protocol.mongo.auth.users`"),
    ("LookupAccount", "`listeners.NAME.protocol.mongo.auth.lookup`"),
    ("MongoMirror", "`listeners.NAME.protocol.mongo.mirror`"),
    ("HttpSettings", "`listeners.NAME.protocol.http`"),
    ("GrpcSettings", "`listeners.NAME.protocol.grpc`"),
    ("GrpcBridge", "`listeners.NAME.protocol.grpc.bridge`"),
    ("GrpcReverseBridge", "`listeners.NAME.protocol.grpc.reverse_bridge`"),
    ("GrpcWeb", "`listeners.NAME.protocol.grpc.web`"),
    ("GrpcTranscode", "`listeners.NAME.protocol.grpc.transcode`"),
    ("HttpRoute", "`listeners.NAME.protocol.http.routes`"),
    ("HttpMatch", "`listeners.NAME.protocol.http.routes.match`"),
    ("HttpValueMatch", "`listeners.NAME.protocol.http.routes.match.headers`, `query`"),
    ("HttpWeighted", "`listeners.NAME.protocol.http.routes.clusters`"),
    ("HttpRedirect", "`listeners.NAME.protocol.http.routes.redirect`"),
    ("HttpReply", "`listeners.NAME.protocol.http.routes.reply`"),
    ("HttpRetry", "`listeners.NAME.protocol.http.routes.retry`"),
    ("HttpBackoff", "`listeners.NAME.protocol.http.routes.retry.backoff`"),
    ("HttpBudget", "`listeners.NAME.protocol.http.routes.retry.budget`"),
    ("HttpMirror", "`listeners.NAME.protocol.http.routes.mirror`"),
    ("HttpCors", "`listeners.NAME.protocol.http.cors`, `routes.cors`"),
    ("HttpHedge", "`listeners.NAME.protocol.http.routes.hedge`"),
    ("HttpRewrite", "`listeners.NAME.protocol.http.routes.rewrite`"),
    ("HttpPatternRewrite", "`listeners.NAME.protocol.http.routes.rewrite.regex`"),
    (
        "HttpHeaderEdits",
        "`listeners.NAME.protocol.http.routes.request_headers`, `response_headers`",
    ),
    ("Cluster", "`clusters.NAME`"),
    ("HttpClusterSettings", "`clusters.NAME.http`"),
    ("ClusterTls", "`clusters.NAME.tls`"),
    ("Endpoint", "`clusters.NAME.endpoints`"),
    ("Hash", "`clusters.NAME.hash`"),
    ("SlowStart", "`clusters.NAME.slow_start`"),
    ("HealthCheck", "`clusters.NAME.health_check`"),
    ("TcpProbe", "`clusters.NAME.health_check.probe.tcp`"),
    ("ProbeSettings", "`clusters.NAME.health_check.probe.mongo`"),
    ("HttpProbe", "`clusters.NAME.health_check.probe.http`"),
    ("GrpcProbe", "`clusters.NAME.health_check.probe.grpc`"),
    ("OutlierDetection", "`clusters.NAME.outlier_detection`"),
    ("SuccessRate", "`clusters.NAME.outlier_detection.success_rate`"),
    ("FailurePercentage", "`clusters.NAME.outlier_detection.failure_percentage`"),
    ("ReplicaSet", "`clusters.NAME.replica_set`"),
    ("Pool", "`clusters.NAME.pool`"),
    ("Failover", "`clusters.NAME.failover`"),
    ("CircuitBreaker", "`clusters.NAME.circuit_breaker`"),
    ("Keepalive", "`clusters.NAME.keepalive`"),
    ("Dns", "`clusters.NAME.dns`"),
    ("Policy", "`policies`"),
    ("Match", "`policies.match`"),
    ("Deny", "`policies.deny`"),
    ("RateLimit", "`policies.rate_limit`"),
    ("SharedLimit", "`policies.rate_limit.shared`"),
    ("SharedLimitRedis", "`policies.rate_limit.shared.redis`"),
    ("SharedLimitService", "`policies.rate_limit.shared.rate_limit_service`"),
    ("DescriptorEntry", "`policies.rate_limit.shared.rate_limit_service.descriptors`"),
    ("ConcurrencyLimit", "`policies.concurrency_limit`"),
    ("Adaptive", "`policies.concurrency_limit.adaptive`"),
    ("ConnectionLimit", "`policies.connection_limit`"),
    ("BandwidthLimit", "`policies.bandwidth_limit`"),
    ("TimeLimit", "`policies.time_limit`"),
    ("Route", "`policies.route`"),
    ("Fault", "`policies.fault`"),
    ("Delay", "`policies.fault.delay`"),
    ("FaultRefusal", "`policies.fault.refuse`"),
    ("FaultSlice", "`policies.fault.slice`"),
    ("AccessLog", "`access_log`"),
    ("EventLog", "`event_log`"),
    ("Tracing", "`tracing`"),
    ("TraceAlways", "`tracing.always`"),
];

#[test]
fn the_page_lists_every_key() {
    let schema = config::schema();
    let mut page = String::new();
    for (name, heading) in MAPS {
        let map = map(&schema, name);
        page += &format!("## {heading}\n\n{}\n\n", one_line(&map["description"]));
        page += "| key | type | default | meaning |\n|---|---|---|---|\n";
        let required: Vec<&str> =
            map["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = map["properties"].as_object().unwrap();
        let (first, rest): (Vec<_>, Vec<_>) =
            properties.iter().partition(|(key, _)| required.contains(&key.as_str()));
        for (key, property) in first.into_iter().chain(rest) {
            let (meaning, default) = documented(property);
            let default = if required.contains(&key.as_str()) { "required" } else { &default };
            let kind = kind(property).replace('|', "\\|");
            page += &format!("| `{key}` | {kind} | {default} | {meaning} |\n");
        }
        page += "\n";
    }
    agrees(PAGE, "keys", &page);
}

/// Every key as one line: its path, its type, and `required` or its default if that is a value.
pub(crate) fn keys() -> Vec<String> {
    let schema = config::schema();
    let mut lines = Vec::new();
    for (name, heading) in MAPS {
        let places = heading.split(", ").map(|place| place.trim_matches('`'));
        let place = places.collect::<Vec<_>>().join("|");
        let map = map(&schema, name);
        let required: Vec<&str> =
            map["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, property) in map["properties"].as_object().unwrap() {
            let (_, default) = documented(property);
            // A default in words is prose, which may be reworded.
            let is_value = default.starts_with(['`', '[']) || default.parse::<f64>().is_ok();
            let default = match required.contains(&key.as_str()) {
                true => "required",
                false if is_value => &default,
                false => "",
            };
            let place = if name.is_empty() { String::new() } else { format!("{place}.") };
            let kind = kind(property).replace('`', "");
            // A link to another map: its own lines follow.
            let kind = match kind.split_once("](#") {
                Some(_) => kind.split('[').map(|it| it.split("](").next().unwrap_or(it)).collect(),
                None => kind,
            };
            let line = format!("{place}{key}  {kind}  {}", default.replace('`', ""));
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// Where things are on the page: what is told in prose, and then the keys, those of one place of the
/// file in a line.
#[test]
fn the_page_begins_with_what_is_on_it() {
    let page = read(PAGE);
    let prose = page.split("<!-- begin keys -->").next().unwrap();
    let link = |shown: &str, heading: &str| format!("[{shown}](#{})", anchor(heading));
    let headings = prose.lines().filter_map(|line| line.strip_prefix("## "));
    let told: Vec<String> = headings.map(|heading| link(heading, heading)).collect();
    let mut contents = format!("{}.\n\nKeys:\n", told.join(" · "));
    let mut before = String::new();
    for (_, heading) in MAPS {
        let path = heading.trim_matches('`');
        let parts: Vec<&str> = path.split('.').collect();
        // One line for each place of the file, and for each protocol.
        let depth = if parts.first() == Some(&"listeners") { 4 } else { 2 };
        let depth = if parts.first() == Some(&"policies") { 1 } else { depth };
        let group = parts.get(..depth.min(parts.len())).unwrap().join(".");
        let rest = path.strip_prefix(&group).unwrap_or(path).trim_start_matches('.');
        match (before == group, rest.is_empty()) {
            (true, false) => {
                contents +=
                    &format!(" · {}", link(&format!("`{}`", rest.replace('`', "")), heading))
            }
            _ => contents += &format!("\n- {}", link(heading, heading)),
        }
        before = group;
    }
    agrees(PAGE, "contents", &contents);
}

#[test]
fn no_map_of_the_schema_is_left_out() {
    let schema = config::schema();
    let known = |name: &String| {
        // `NoSettings` has no keys, and words are listed where they can be written.
        let aside = name == "NoSettings" || schema["$defs"][name]["oneOf"].is_array();
        aside || MAPS.iter().any(|(map, _)| map == name)
    };
    for name in schema["$defs"].as_object().unwrap().keys() {
        assert!(known(name), "{name} is on no page");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of every default")]
fn the_defaults_on_the_page_are_those_that_run() {
    let written = "listeners: { a: { address: \":1\", protocol: mongo, cluster: b }, \
                   w: { address: \":2\", protocol: http, cluster: w }, r: { address: \":3\", \
                   protocol: { grpc: { bridge: true, reverse_bridge: true, web: true } }, cluster: r }, \
                   g: { address: \":4\", protocol: grpc, cluster: r } }\n\
                   clusters: { w: { endpoints: [\"c:2\"] }, p: { endpoints: [\"c:4\"], pool: {} }, r: { endpoints: [\"c:3\"] }, b: { endpoints: [\"c:1\"], lb_policy: maglev, slow_start: {}, \
                   health_check: {}, outlier_detection: {} } }\naccess_log: {}\nevent_log: {}\n\
                   policies: [{ name: d, deny: {} }, { name: r, rate_limit: { rate: 5/s } }, \
                   { name: c, concurrency_limit: { adaptive: {} } }, \
                   { name: o, connection_limit: { max: 5 } }, \
                   { name: b, bandwidth_limit: { up: 5/s } }, { name: f, fault: { close: end } }]";
    let runs = config::parse("test", written).unwrap().to_json();
    let schema = config::schema();
    let mut compared = 0;
    for (name, place) in [
        ("", ""),
        ("Drain", "/drain"),
        ("Listener", "/listeners/a"),
        ("Settings", "/listeners/a/protocol/mongo"),
        ("HttpSettings", "/listeners/w/protocol/http"),
        ("GrpcSettings", "/listeners/g/protocol/grpc"),
        ("GrpcBridge", "/listeners/r/protocol/grpc/bridge"),
        ("GrpcReverseBridge", "/listeners/r/protocol/grpc/reverse_bridge"),
        ("GrpcWeb", "/listeners/r/protocol/grpc/web"),
        ("HttpClusterSettings", "/clusters/w/http"),
        ("Cluster", "/clusters/b"),
        ("Hash", "/clusters/b/hash"),
        ("SlowStart", "/clusters/b/slow_start"),
        ("HealthCheck", "/clusters/b/health_check"),
        ("ProbeSettings", "/clusters/b/health_check/probe/mongo"),
        ("OutlierDetection", "/clusters/b/outlier_detection"),
        ("SuccessRate", "/clusters/b/outlier_detection/success_rate"),
        ("FailurePercentage", "/clusters/b/outlier_detection/failure_percentage"),
        ("Pool", "/clusters/p/pool"),
        ("Failover", "/clusters/p/failover"),
        ("CircuitBreaker", "/clusters/b/circuit_breaker"),
        ("Keepalive", "/clusters/b/keepalive"),
        ("Dns", "/clusters/b/dns"),
        ("Policy", "/policies/0"),
        ("Deny", "/policies/0/deny"),
        ("RateLimit", "/policies/1/rate_limit"),
        ("ConcurrencyLimit", "/policies/2/concurrency_limit"),
        ("Adaptive", "/policies/2/concurrency_limit/adaptive"),
        ("ConnectionLimit", "/policies/3/connection_limit"),
        ("BandwidthLimit", "/policies/4/bandwidth_limit"),
        ("Fault", "/policies/5/fault"),
        ("AccessLog", "/access_log"),
        ("EventLog", "/event_log"),
    ] {
        let runs = runs.pointer(place).unwrap();
        for (key, property) in map(&schema, name)["properties"].as_object().unwrap() {
            let (_, default) = documented(property);
            let is_value = default.starts_with('`') || default.parse::<f64>().is_ok();
            // One worker a core is a number by the time it runs; the policy is not the default,
            // so that there is a hash; nothing waits, so that no time is shown.
            let differs = ["workers", "lb_policy", "max_delay", "queue_timeout"];
            if !is_value || differs.contains(&&**key) || name == "Settings" && key == "shard_keys" {
                continue;
            }
            let runs = match &runs[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let runs = runs.strip_suffix(".0").unwrap_or(&runs);
            let default = default.trim_matches('`');
            assert_eq!(default.strip_suffix(".0").unwrap_or(default), runs, "{name} {key}");
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn every_example_on_the_page_is_right() {
    let examples = blocks(&read(PAGE), "yaml");
    // Those that begin with the name of a file include each other.
    let directory = tempfile::tempdir().unwrap();
    let mut included = 0;
    for example in &examples {
        let name = example.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or("");
        if let Some((folder, _)) = name.split_once('/') {
            std::fs::create_dir_all(directory.path().join(folder)).unwrap();
            std::fs::write(directory.path().join(name), example).unwrap();
            included += 1;
        }
    }
    let include_from = Some(directory.path().to_owned());
    let access = config::Access { environment: true, include_from };
    for example in examples {
        let plan = config::parse_with(PAGE, example.as_bytes(), &access);
        let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!example.contains("\ninclude:") || plan.listeners.len() > included);
    }
    assert_eq!(included, 1);
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(['`', '.', ','], "").replace(' ', "-")
}

/// One map of the schema.
fn map<'s>(schema: &'s Value, name: &str) -> &'s Value {
    if name.is_empty() { schema } else { &schema["$defs"][name] }
}

/// What a key means, and its default.
fn documented(property: &Value) -> (String, String) {
    let text = one_line(&property["description"]);
    match text.rsplit_once("Default: ") {
        Some((meaning, default)) => {
            (meaning.trim().to_owned(), default.trim_end_matches('.').to_owned())
        }
        None => (text, "none".to_owned()),
    }
}

fn one_line(description: &Value) -> String {
    description.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The values that a key takes, in words.
#[expect(clippy::too_many_lines, reason = "a word for every kind that there is")]
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return match name {
            "NoSettings" => "nothing".to_owned(),
            _ => match MAPS.iter().find(|(map, _)| *map == name) {
                Some((_, heading)) => format!("[map](#{})", anchor(heading)),
                None => kind(&config::schema()["$defs"][name]),
            },
        };
    }
    let pattern = |schema: &Value| schema["pattern"].as_str().unwrap_or_default().to_owned();
    if pattern(schema).contains("/ *(s|m|h|d)") {
        return "rate".to_owned();
    }
    if let Some(words) = schema["oneOf"].as_array() {
        return words.iter().map(kind).collect::<Vec<_>>().join(", ");
    }
    if let Some(kinds) = schema["anyOf"].as_array() {
        if kinds.iter().any(|kind| pattern(kind).contains("KiB")) {
            return "size".to_owned();
        }
        let kinds: Vec<String> = kinds.iter().map(kind).filter(|k| k != "nothing").collect();
        return kinds.join(" or ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("(ms|s|m|h|d)")) {
        return "duration".to_owned();
    }
    if let Some(pattern) = schema["pattern"].as_str().filter(|p| p.contains(":[0-9]{1,5}")) {
        // What is listened on may have no host.
        let kind = if pattern.starts_with("^.*") { "`ip:port`" } else { "`host:port`" };
        return kind.to_owned();
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        kinds => kinds.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
    };
    let kind_of = *kinds.iter().find(|kind| **kind != "null").unwrap_or(&"null");
    match kind_of {
        "null" => "nothing".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        "integer" | "number" if schema["minimum"].is_null() => "number".to_owned(),
        "integer" | "number" => format!("{} to {}", schema["minimum"], schema["maximum"]),
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("name: {}", kind(&schema["additionalProperties"]))
        }
        // The protocol: a map with one of these keys.
        "object" => {
            let keys = schema["properties"].as_object().unwrap().iter();
            let keys = keys.map(|(name, settings)| match kind(settings).as_str() {
                "" => format!("`{name}: {{}}`"),
                settings => format!("`{name}:` {settings}"),
            });
            keys.collect::<Vec<_>>().join(" or ")
        }
        "string" => "text".to_owned(),
        other => panic!("teach this test the type {other}"),
    }
}
