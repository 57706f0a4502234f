//! docs/admin.md: every path is there, each command works, and answers have the keys that are shown.

use crate::{blocks, read};
use serde_json::Value;
use std::{collections::BTreeSet, net::TcpStream, process::Command};
use std::{io::Write as _, net::SocketAddr};
use tollgate::proxy::Proxy;

const PAGE: &str = "docs/admin.md";

/// A proxy with the page's config, on ports that are free; and its admin interface.
fn proxy() -> (Proxy, SocketAddr) {
    let config = blocks(&read(PAGE), "yaml").remove(0);
    let config =
        config.replace("127.0.0.1:9901", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0");
    let proxy = Proxy::start(config::parse(PAGE, &config).unwrap()).unwrap();
    let admin = proxy.admin().unwrap();
    (proxy, admin)
}

/// Blocks of commands, each with the answer that is shown after its last command, if one is.
fn samples() -> Vec<(Vec<String>, Option<Value>)> {
    let page = read(PAGE);
    let parts = page.split("```sh\n").skip(1);
    let sample = |part: &str| {
        let (commands, rest) = part.split_once("\n```").unwrap();
        let answer = rest.trim_start().strip_prefix("```json\n");
        let answer = answer.map(|text| text.split("\n```").next().unwrap());
        let answer = answer.map(|text| serde_json::from_str(text).expect(text));
        (commands.lines().map(str::to_owned).collect(), answer)
    };
    parts.map(sample).collect()
}

/// The names of a JSON object's members, or those of the first object in a list.
fn keys(answer: &Value) -> Option<BTreeSet<&str>> {
    let object = answer.as_array().map_or(Some(answer), |list| list.first())?;
    Some(object.as_object()?.keys().map(String::as_str).collect())
}

/// Runs a command of the page against this admin interface, and returns what is answered.
fn run(command: &str, admin: SocketAddr) -> String {
    let command = command.replace("localhost:9901", &admin.to_string());
    let command = command.replacen("curl ", "curl --fail-with-body ", 1);
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let body = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command}: {body}");
    body
}

#[test]
fn every_command_on_the_page_returns_the_keys_shown() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "no curl");
        println!("SKIPPED: no curl");
        return;
    }
    let (proxy, admin) = proxy();
    let listener = proxy.listener("web").unwrap();
    let mut client = TcpStream::connect(listener).unwrap();
    client.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    std::io::copy(&mut client, &mut std::io::sink()).unwrap();
    for (commands, shown) in samples() {
        let answers: Vec<_> = commands.iter().map(|command| run(command, admin)).collect();
        let (Some(shown), Some(answer)) = (shown, answers.last()) else { continue };
        let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{answer}"));
        // Nothing that passes here has a call site.
        if let Some(there) = keys(&answer) {
            assert_eq!(keys(&shown).unwrap(), there, "{commands:?}");
        }
    }
    proxy.wait().unwrap();
}

#[test]
fn the_page_and_the_index_name_the_same_paths() {
    let page = read(PAGE);
    let index = read("src/admin/page/paths.html").replace("<em>", "").replace("</em>", "");
    let named = index.split("<dt>").skip(1).map(|entry| {
        let path = &entry[entry.find('/').unwrap()..];
        path.split(['"', '\n', '<']).next().unwrap().split('?').next().unwrap().to_owned()
    });
    for path in named {
        assert!(page.contains(&format!(" {path}`")), "{PAGE} lacks {path}");
    }
}
