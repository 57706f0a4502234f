//! In how many places a new key of a listener is written.

use super::walk::{names, production_sources, read, root, shown};
use std::collections::BTreeSet;

/// Keys whose names other parts of the config have too.
const SHARED: [&str; 8] = [
    "address",
    "protocol",
    "cluster",
    "max_connections",
    "tcp_user_timeout",
    // An attribute, and a key of `tls`.
    "sni",
    // The crates that their settings lie in.
    "tls",
    "proxy_protocol",
];

/// The code between the file and the plan. A key's use is a fourth place.
const CONFIG: [&str; 2] = ["crates/config", "crates/session"];

/// The module of `crates/config` that a file belongs to: `check/reserved.rs` is a part of `check`.
fn module(path: &str) -> String {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    parts.iter().take(4).copied().collect::<Vec<_>>().join("/")
}

#[test]
fn a_listener_key_is_in_three_modules() {
    let file = read(&root().join("crates/config/src/file.rs"));
    let listener = file.split("pub(crate) struct Listener {").nth(1).unwrap();
    let fields = listener.split("\n}").next().unwrap().lines();
    let keys: Vec<&str> = fields
        .filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split(':').next())
        .filter(|key| !SHARED.contains(key))
        .collect();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        let sources = production_sources(&CONFIG);
        let places: BTreeSet<String> = sources
            .iter()
            .filter(|path| {
                let text = read(path);
                let code = text.lines().filter(|line| !line.trim().starts_with("//"));
                code.into_iter().any(|line| names(line, key))
            })
            .map(|path| module(&shown(path)))
            .collect();
        assert!(places.len() <= 3, "{key}: {places:?}");
    }
}
