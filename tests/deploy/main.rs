//! What is shipped around the proxy works with the tools that it is for: packages, manifests, dashboards.

#![allow(clippy::unwrap_used, clippy::panic)]

mod grafana;
mod kubernetes;
mod package;
#[path = "../support/mod.rs"]
mod support;
mod workflows;

use std::path::{Path, PathBuf};

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
