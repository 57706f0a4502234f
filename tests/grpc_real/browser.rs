//! Chromium calls by gRPC-Web from a page of another origin, over HTTP/1.1: browsers speak HTTP/2
//! over TLS only.

use crate::support::{free_address, python::Service, tollgate::Tollgate, tools};
use std::process::Command;

/// The page: it calls both listeners, and writes down what it is answered.
const PAGE: &str = include_str!("../drivers/web_page.html");

/// What Chromium makes of a page once it has come to rest.
fn dom(chromium: &mut Command, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = chromium
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--no-proxy-server"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=20000", "--dump-dom", url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn chromium_calls_only_from_an_allowed_page() {
    let Some(mut chromium) = tools::program("chromium") else { return };
    let Some(service) = Service::start("grpc_service.py", &[]) else { return };
    let service = service.address();
    let site = free_address();
    // `${…}` of the script is not a variable of the config.
    let page = serde_json::to_string(PAGE).unwrap().replace("${", "$${");
    let rpc = |name: &str, web: &str| {
        format!(
            "  {name}: {{ address: \"127.0.0.1:0\", cluster: rpc, \
             protocol: {{ grpc: {{ web: {web} }} }} }}\n"
        )
    };
    let (open, closed) =
        (rpc("open", &format!("{{ origins: [\"http://{site}\"] }}")), rpc("closed", "true"));
    let tollgate = Tollgate::start(&format!(
        "listeners:\n{open}{closed}  site: {{ address: \"{site}\", cluster: rpc, protocol: {{ http: {{ routes: \
         [{{ name: page, reply: {{ status: 200, body: {page}, headers: {{ content-type: \
         text/html }} }} }}] }} }} }}\n\
         clusters:\n  rpc: {{ endpoints: [\"{service}\"] }}\n"
    ));
    let (open, closed) = (tollgate.listener("open"), tollgate.listener("closed"));
    let dom = dom(&mut chromium, &format!("http://{site}/?open={open}&closed={closed}"));
    for told in [
        "unary: hello you, status 0",
        "text: hello you, status 0",
        "stream: 5 messages, status 0",
        "failed: status 5, no such: ü%",
        "closed: TypeError",
    ] {
        assert!(dom.contains(told), "{told}: {dom}");
    }
    tollgate.logged(1, |line| line["reason"] == "preflight" && line["listener"] == "open");
    let calls = tollgate.logged(4, |line| line["resource"] == "default");
    assert!(calls.iter().all(|line| line["listener"] == "open"), "{calls:?}");
}
