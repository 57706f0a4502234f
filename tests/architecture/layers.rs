//! What may depend on what: crates on crates, and modules of `src/` on modules.

use crate::walk::{code, names, production_sources, read, root, shown};
use std::{fs, path::PathBuf};

/// Modules that serve every protocol and so must know none.
const PROTOCOL_BLIND: [&str; 6] = ["policy", "cluster", "relay", "metrics", "config", "shapes"];

/// Words that only a protocol, and the registry, may use.
const PROTOCOLS: [&str; 3] = ["mongo", "http", "grpc"];

/// A line that names a protocol all the same: what people write of how a cluster's endpoints are
/// spoken to stands under a key, and the key has a name.
const KEY: (&str, &str) = ("crates/config/src/file/cluster.rs", "#[serde(rename = \"http\")]");

/// The only file outside a protocol's own crate that names the crate.
const REGISTRY: &str = "crates/protocols/src/registry.rs";

/// More files that name one. The crate of HTTP also has the server that every dialect runs on, and
/// the demo's service frames its messages as gRPC's crate does.
const ALSO_NAMED: [(&str, &str); 2] =
    [("tollgate-http", "crates/protocols/src/terminated.rs"), ("grpc", "crates/demo/src/rpc.rs")];

/// Where the names of protocols are schemes of URLs.
const SCHEMES: &str = "crates/values/src/address.rs";

/// The crate that speaks to collectors, over protocols of the same names.
const COLLECTORS: &str = "crates/traces/";

/// The crates of the workspace, lowest first: a crate depends only on crates before it.
const CRATES: [&str; 21] = [
    "operation",
    "values",
    "tollgate-metrics",
    "process",
    "proxy-protocol",
    "tls",
    "net",
    "traces",
    "cluster",
    "shapes",
    "policy",
    "session",
    "relay",
    "tcp",
    "mongo",
    "tollgate-http",
    "grpc",
    "protocols",
    "config",
    "demo",
    "tollgate",
];

/// The modules of `src/`, lowest first: a module uses only modules before it.
const MODULES: [&str; 14] = [
    "certificates",
    "handover",
    "threads",
    "listener",
    "connection",
    "worker",
    "service_manager",
    "own_log",
    "reload",
    "admin",
    "proxy",
    "top",
    "demo",
    "cli",
];

/// What a protocol's crate may not build on: a codec does no I/O.
const IO: [&str; 5] = ["tokio", "tokio-util", "hyper", "mio", "socket2"];

/// The folders of `protocols/`.
fn protocols() -> Vec<String> {
    let entries = fs::read_dir(root().join("protocols")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The package in a folder of `protocols/`. The types that all of Rust's HTTP is made of have taken
/// the name of one.
fn package(folder: &str) -> &str {
    if folder == "http" { "tollgate-http" } else { folder }
}

/// The files of one module of `src/` (`gate.rs`, `gate/….rs`), or of the crate of that name.
fn module(name: &str) -> Vec<PathBuf> {
    if root().join("crates").join(name).is_dir() {
        return production_sources(&[&format!("crates/{name}/src")]);
    }
    module_of_src(name)
}

fn module_of_src(name: &str) -> Vec<PathBuf> {
    let (file, folder) =
        (root().join("src").join(format!("{name}.rs")), root().join("src").join(name));
    let mut found = production_sources(&["src"]);
    found.retain(|path| *path == file || path.starts_with(&folder));
    found
}

/// The protocol that a line of code names, if any.
fn protocol_in(line: &str) -> Option<&'static str> {
    // The types of HTTP that all of Rust shares, and addresses, are not the protocol's crate.
    let line = ["axum::http", "http::uri", "http://"]
        .iter()
        .fold(line.to_owned(), |line, known| line.replace(known, ""));
    let named = PROTOCOLS.into_iter().find(|protocol| names(&line, protocol));
    // `tokio::net::tcp::…` is not the crate `tcp`.
    let tcp = line.match_indices("tcp::").any(|(at, _)| {
        !line[..at].ends_with(|c: char| c == ':' || c == '_' || c.is_alphanumeric())
    });
    named.or(tcp.then_some("tcp"))
}

/// The packages that a manifest's table lists.
fn packages<'t>(manifest: &'t str, table: &str) -> Vec<&'t str> {
    let lines = manifest.lines().skip_while(|line| *line != table).skip(1);
    let entries = lines.take_while(|line| !line.starts_with('['));
    entries
        .filter_map(|line| line.split(['.', ' ', '=']).next().filter(|n| !n.is_empty()))
        .collect()
}

#[test]
fn what_serves_every_protocol_names_none() {
    let mut wrong = Vec::new();
    for path in PROTOCOL_BLIND.iter().flat_map(|name| module(name)) {
        for line in code(&read(&path)) {
            let key = path.ends_with(KEY.0) && line == KEY.1;
            if let Some(protocol) = protocol_in(line).filter(|_| !key) {
                wrong.push(format!("{} names {protocol}: {line}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!module("proxy").is_empty(), "the modules are looked for in the wrong place");
}

#[test]
fn a_protocol_depends_on_operation_and_on_no_other_protocol() {
    let protocols = protocols();
    assert!(protocols.contains(&"tcp".to_owned()));
    for protocol in &protocols {
        let manifest = root().join("protocols").join(protocol).join("Cargo.toml");
        let manifest = read(&manifest);
        let named = format!("name = \"{}\"", package(protocol));
        assert!(manifest.contains(&named), "{protocol} is not called {named}");
        for depends in packages(&manifest, "[dependencies]") {
            let dialect = protocol == "grpc" && depends == "tollgate-http";
            let other = depends != "operation" && protocols.iter().any(|p| package(p) == depends);
            assert!(!other || dialect, "{protocol} depends on {depends}");
            // A protocol that ends both connections itself needs I/O; a codec never does.
            let server = ["http", "grpc"].contains(&protocol.as_str());
            assert!(server || !IO.contains(&depends), "{protocol} does I/O through {depends}");
            assert_ne!(depends, "tollgate", "{protocol} depends on the proxy");
        }
    }
}

/// Whether a line of code names this crate.
fn names_crate(line: &str, package: &str) -> bool {
    let path = format!("{}::", package.replace('-', "_"));
    let mut found = line.match_indices(&path);
    // `tokio::net::tcp::…` is not the crate `tcp`.
    found
        .any(|(at, _)| !line[..at].ends_with(|c: char| c == ':' || c == '_' || c.is_alphanumeric()))
}

#[test]
fn a_protocol_is_named_in_one_file_outside_its_crate() {
    let files = production_sources(&["src", "crates"]);
    for package in protocols().iter().map(|it| package(it)).filter(|it| *it != "operation") {
        let named =
            |path: &&PathBuf| code(&read(path)).into_iter().any(|line| names_crate(line, package));
        let found: Vec<String> = files.iter().filter(named).map(|path| shown(path)).collect();
        let also = ALSO_NAMED.iter().filter(|(name, _)| *name == package);
        let mut expected: Vec<&str> = also.map(|(_, path)| *path).chain([REGISTRY]).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{package}");
    }
}

#[test]
fn no_text_is_compared_with_the_name_of_a_protocol() {
    let mut wrong = Vec::new();
    for path in production_sources(&["src", "crates"]) {
        // The demonstration has services, each in one protocol.
        let known = shown(&path).starts_with("crates/demo/")
            || shown(&path).starts_with(COLLECTORS)
            || [SCHEMES, REGISTRY].contains(&&*shown(&path));
        for line in code(&read(&path)).into_iter().filter(|_| !known) {
            let key = path.ends_with(KEY.0) && line == KEY.1;
            let name = protocols::all().find(|it| line.contains(&format!("\"{}\"", it.name)));
            if let Some(protocol) = name.filter(|_| !key) {
                wrong.push(format!("{} names {}: {line}", shown(&path), protocol.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operation_depends_on_bytes_alone() {
    let manifest = read(&root().join("protocols/operation/Cargo.toml"));
    assert_eq!(packages(&manifest, "[dependencies]"), ["bytes"]);
}

/// The position of a name in an order.
fn position(order: &[&str], name: &str) -> usize {
    let found = order.iter().position(|it| *it == name);
    found.unwrap_or_else(|| panic!("{name} has no place in the order of this file"))
}

/// The manifests of all crates that the proxy is made of.
fn manifests() -> Vec<String> {
    let folders = ["crates", "protocols"].map(|folder| root().join(folder));
    let inner = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let inner = inner.map(|entry| entry.unwrap().path().join("Cargo.toml"));
    let all = inner.chain([root().join("Cargo.toml")]);
    all.map(|path| read(&path)).collect()
}

#[test]
fn crates_depend_only_on_crates_below() {
    let manifests = manifests();
    assert_eq!(manifests.len(), CRATES.len());
    for manifest in &manifests {
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
        let name = name.trim_matches('"');
        let own = position(&CRATES, name);
        for depends in packages(manifest, "[dependencies]") {
            let above = CRATES[own..].contains(&depends);
            assert!(!above, "{name} depends on {depends}, which is above it");
        }
    }
}

/// The modules that `src/lib.rs` declares.
fn modules() -> Vec<String> {
    let text = read(&root().join("src/lib.rs"));
    let declared = text.lines().filter_map(|line| line.strip_prefix("pub mod "));
    declared.map(|name| name.trim_end_matches(';').to_owned()).collect()
}

/// The modules that code uses by `crate::…`, also inside braces that span lines.
fn used(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found.push(first_word(rest));
            continue;
        }
        let mut depth = 0;
        let mut begins = false;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => {
                    begins = depth == 0;
                    depth += 1;
                }
                '}' => depth -= 1,
                ',' => begins = depth == 1,
                c if begins && !c.is_whitespace() => {
                    found.push(first_word(&rest[at..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_only_modules_below() {
    let modules = modules();
    assert_eq!(modules.len(), MODULES.len(), "{modules:?}");
    let mut upwards = Vec::new();
    for name in &modules {
        let own = position(&MODULES, name);
        for path in module_of_src(name) {
            for other in used(&code(&read(&path)).join("\n")) {
                let above = MODULES[own..].iter().find(|it| **it == other && *it != name);
                upwards.extend(above.map(|above| (MODULES[own], *above)));
            }
        }
    }
    upwards.sort_unstable();
    upwards.dedup();
    let none: [(&str, &str); 0] = [];
    assert_eq!(upwards, none, "each first uses its second, which is above it in `MODULES`");
}

#[test]
fn the_checks_see_what_they_should() {
    assert_eq!(protocol_in("use mongo::Mongo;"), Some("mongo"));
    assert_eq!(protocol_in("if protocol == \"grpc\" {"), Some("grpc"));
    assert_eq!(protocol_in("relay::<tcp::Tcp>(link)"), Some("tcp"));
    for innocent in [
        "use tokio::net::tcp::OwnedReadHalf;",
        "use axum::http::StatusCode;",
        "\"tollgate_mongo_documents_total\"",
        "// as mongo does",
    ] {
        assert!(code(innocent).into_iter().all(|line| protocol_in(line).is_none()), "{innocent}");
    }
    assert_eq!(used("use crate::{gate::{Gate, x},\n relay};"), ["gate", "relay"]);
    assert_eq!(used("crate::relay::run()"), ["relay"]);
    let manifest = "[dependencies]\nbytes.workspace = true\nnom = \"8\"\n\n[features]\nx = []\n";
    assert_eq!(packages(manifest, "[dependencies]"), ["bytes", "nom"]);
}
