//! docs/testing-with-faults.md and docs/policies.md: what they send is taken, and the Python works.

use crate::{blocks, path, read};
use std::process::Command;
use tollgate::proxy::Proxy;

const PAGE: &str = "docs/testing-with-faults.md";

/// A config that knows whatever the pages speak of.
const CONFIG: &str = "
admin: 127.0.0.1:0
workers: 1
listeners:
  orders-db: { address: '127.0.0.1:0', protocol: mongo, cluster: orders }
  web: { address: '127.0.0.1:0', protocol: http, cluster: orders }
  cache: { address: '127.0.0.1:0', protocol: tcp, cluster: orders }
clusters: { orders: { endpoints: ['127.0.0.1:9'] } }
policies:
  - { name: drill, enabled: false, deny: {} }
  - { name: no-drops, match: { operation: drop }, deny: {} }
  - { name: reports-elsewhere, match: { app: 'report*' }, deny: {} }
  - { name: importer-slow-down, match: { app: importer }, rate_limit: { rate: 50/s, burst: 20 } }
";

/// What the commands of a page send below such a path: the end of the path, and the body.
fn sent(page: &str, to: &str) -> Vec<(String, String)> {
    let commands = blocks(&read(page), "sh").join("\n");
    let lines = commands.lines().filter(|line| line.contains(&format!("localhost:9901{to}")));
    let body = |line: &str| {
        let (path, body) = line.split_once(to)?.1.split_once(" -d '")?;
        Some((path.to_owned(), body.trim_end_matches('\'').to_owned()))
    };
    lines.filter_map(body).collect()
}

#[test]
fn every_fault_on_the_page_is_taken() {
    let plan = config::parse("test", CONFIG).unwrap();
    let scope = config::Scope::of(&plan);
    let bodies = sent(PAGE, "/faults");
    assert!(bodies.len() >= 3);
    for (_, body) in bodies {
        if let Err(problems) = config::fault(body.as_bytes(), &scope, |_| false) {
            panic!("{problems}");
        }
    }
}

#[test]
fn every_change_on_the_page_is_taken() {
    let plan = config::parse("test", CONFIG).unwrap();
    let scope = config::Scope::of(&plan);
    let bodies = sent("docs/policies.md", "/policies/");
    assert!(bodies.len() >= 5);
    for (name, body) in bodies {
        let taken = match plan.policies.iter().find(|rule| *rule.name == *name) {
            Some(rule) => config::change(rule, body.as_bytes(), &scope).map(|_| true),
            None => config::addition(&name, body.as_bytes(), &scope).map(|rule| rule.is_some()),
        };
        match taken {
            Ok(taken) => assert!(taken, "{name}: {body}"),
            Err(problems) => panic!("{problems}"),
        }
    }
}

#[test]
fn the_python_on_the_page_is_the_examples() {
    let shown = blocks(&read(PAGE), "python");
    assert_eq!(shown, [read("examples/faults/tollgate_faults.py").trim_end()]);
    let tests = read("examples/faults/test_checkout.py");
    let shown = blocks(&read(PAGE), "py");
    let name = shown[0].lines().next().unwrap();
    assert!(tests.contains(name), "{name} is not among the example's tests");
}

#[test]
fn the_python_on_the_page_switches_a_fault_on_and_off() {
    let proxy = Proxy::start(config::parse("test", CONFIG).unwrap()).unwrap();
    let script = "
from tollgate_faults import ask, fault
with fault(match={'operation': 'find'}, deny={}, name='mine') as mine:
    assert [it['id'] for it in ask('GET', '/faults')] == [mine['id']]
    assert [it['name'] for it in ask('GET', '/policies')][:2] == ['mine', 'drill']
assert ask('GET', '/faults') == []
with fault(deny={}) as gone:
    ask('DELETE', '/faults/' + gone['id'])
try:
    with fault(match={'operatoin': 'find'}, deny={}):
        raise SystemExit('a mistake was taken')
except ValueError as wrong:
    assert 'did you mean `operation`?' in str(wrong), wrong
";
    let run = Command::new("python3")
        .args(["-c", script])
        .env("PYTHONPATH", path("examples/faults"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TOLLGATE_ADMIN", format!("http://{}", proxy.admin().unwrap()))
        .output();
    match run {
        Ok(run) => {
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        }
        Err(error) => assert!(std::env::var_os("CI").is_none(), "no Python: {error}"),
    }
    proxy.control().drain();
    proxy.wait().unwrap();
}
