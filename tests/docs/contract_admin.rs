//! `contract/admin.txt`: each path of the admin interface, and the keys of its JSON.

use crate::{contract::holds, path, read};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tollgate::{demo, proxy::Proxy};

/// Values whose keys are not the admin interface's own: those of the config, and names of outcomes.
const OPEN: &[&str] = &["match", "settings", "configured", "was", "outcomes"];

/// What is asked for, in this order: the method, the path as the page writes it, the path asked for, the body.
const REQUESTS: &[[&str; 4]] = &[
    ["PUT", "/policies/NAME", "/policies/slow", r#"{"enabled": true}"#],
    [
        "PUT",
        "/policies/NAME",
        "/policies/more",
        r#"{"match": {"resource": "none.none"}, "deny": {}}"#,
    ],
    [
        "POST",
        "/faults",
        "/faults",
        r#"{"match": {"resource": "none.none"}, "fault": {"delay": "1ms"}, "for": "1h"}"#,
    ],
    ["POST", "/clusters/NAME/pause", "/clusters/db/pause?drain_timeout=10ms", ""],
    ["POST", "/clusters/NAME/switch", "/clusters/db/switch?to=db", ""],
    ["GET", "/clusters", "/clusters", ""],
    ["POST", "/clusters/NAME/resume", "/clusters/db/resume", ""],
    [
        "POST",
        "/clusters/NAME/endpoints/ADDRESS",
        "/clusters/spare/endpoints/localhost:1?state=ejected",
        "",
    ],
];

/// The paths whose answers are read until every known key was seen.
const PAGES: &[&str] = &[
    "/operations",
    "/callsites",
    "/clusters",
    "/listeners",
    "/sessions",
    "/policies",
    "/faults",
    "/pools",
];

/// Adds the path of every key in `value`.
fn add_keys(value: &Value, place: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => {
            list.iter().for_each(|item| add_keys(item, &format!("{place}[]"), keys));
        }
        Value::Object(map) => {
            for (key, value) in map {
                let gap = if place.ends_with(' ') { "" } else { "." };
                let place = format!("{place}{gap}{key}");
                keys.insert(place.clone());
                if !OPEN.contains(&key.as_str()) {
                    add_keys(value, &place, keys);
                }
            }
        }
        _ => {}
    }
}

/// Sends a request, and returns the JSON of the answer.
fn ask(admin: SocketAddr, method: &str, target: &str, body: &str) -> Value {
    let mut client = TcpStream::connect(admin).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.0\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
    );
    client.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 20"), "{method} {target}: {answer}");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{method} {target}: {answer}"))
}

/// Every method and path in backquotes in the table at the head of the page.
fn paths() -> BTreeSet<String> {
    let page = read("docs/admin.md");
    let table = page.split("\n## ").next().unwrap();
    let quoted = table.split('`').skip(1).step_by(2);
    let methods = ["GET ", "POST ", "PUT ", "DELETE "];
    quoted.filter(|it| methods.iter().any(|m| it.starts_with(m))).map(str::to_owned).collect()
}

#[test]
fn contract_of_the_admin_interface() {
    let server = demo::DemoService::Mongo.start().unwrap();
    let plan = format!(
        "admin: 127.0.0.1:0\nworkers: 1\n\
         listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: db }}\n\
         clusters:\n  db: {{ endpoints: [\"{server}\"], health_check: {{ interval: 100ms }}, outlier_detection: {{}} }}\n  \
         spare: {{ endpoints: [\"localhost:1\"], pool: {{}} }}\n\
         policies: [{{ name: slow, enabled: false, match: {{ operation: find }}, fault: {{ delay: 50ms }} }}]\n",
    );
    let proxy = Proxy::start(config::parse("test", &plan).unwrap()).unwrap();
    let admin = proxy.admin().unwrap();
    let until = CancellationToken::new();
    demo::DemoService::Mongo.spawn_traffic(proxy.listener("db").unwrap(), until.clone()).unwrap();
    let mut keys = paths();
    for [method, name, target, body] in REQUESTS {
        add_keys(&ask(admin, method, target, body), &format!("{method} {name} "), &mut keys);
    }
    // What is under way differs from answer to answer.
    let known = fs::read_to_string(path("contract/admin.txt")).unwrap_or_default();
    let is_update = std::env::var_os("UPDATE_CONTRACT").is_some();
    let began = Instant::now();
    loop {
        for page in PAGES {
            add_keys(&ask(admin, "GET", page, ""), &format!("GET {page} "), &mut keys);
        }
        let seen = !is_update
            && known
                .lines()
                .filter(|line| line.starts_with("GET "))
                .all(|line| keys.contains(line));
        if seen || began.elapsed() > Duration::from_secs(8) {
            break;
        }
        thread::park_timeout(Duration::from_millis(30));
    }
    add_keys(&ask(admin, "POST", "/drain", ""), "POST /drain ", &mut keys);
    until.cancel();
    proxy.wait().unwrap();
    holds("admin.txt", &keys.into_iter().collect::<Vec<_>>());
}
