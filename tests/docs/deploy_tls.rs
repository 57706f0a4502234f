//! The configs that have certificates: they are right, and the certificates that are made for them fit.

use crate::{
    deploy::{texts, yaml},
    path, read,
    support::{certificates::Certificates, tools},
};
use config::plan::Plan;
use std::{path::Path, process::Command};

/// Where the files of a config are when it runs.
const FOLDERS: [&str; 3] = ["/certificates/", "/etc/tollgate/", "/etc/tls/"];

/// The plan of this text, with its certificates in a folder.
fn plan_in(folder: &Path, name: &str, text: &str) -> Plan {
    let folder = format!("{}/", folder.display());
    let text = FOLDERS.iter().fold(text.to_owned(), |text, known| text.replace(known, &folder));
    config::parse(name, &text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The plan of a file of this repository, with certificates that are made here.
pub(crate) fn plan(file: &str) -> Plan {
    plan_of(file, &read(file))
}

fn plan_of(name: &str, text: &str) -> Plan {
    let certificates = Certificates::new();
    for name in ["tls", "tollgate", "services", "partner-ca"] {
        certificates.issue(name, &["orders.example.net"]);
    }
    let plan = plan_in(certificates.directory(), name, text);
    let mut hints = config::hints(&plan);
    // The ports of Atlas are in several configs, and the folders of logs are those of a container.
    hints.retain(|hint| hint.contains("certificate"));
    assert!(hints.is_empty(), "{name}: {hints:?}");
    plan
}

#[test]
fn the_examples_of_tls_are_right() {
    for (file, listeners) in [("atlas", 3), ("services", 2), ("partner", 1)] {
        let plan = plan(&format!("examples/tls/{file}.yaml"));
        assert_eq!(plan.listeners.len(), listeners);
        assert!(plan.clusters.iter().any(|cluster| cluster.tls.is_some()), "{file}");
    }
}

#[test]
fn the_pod_mounts_what_its_config_names() {
    let file = "examples/tls/kubernetes.yaml";
    let text = read(file);
    let (config_map, deployment) = text.split_once("\n---\n").unwrap();
    let config_map: serde_json::Value = serde_saphyr::from_str(config_map).unwrap();
    let deployment: serde_json::Value = serde_saphyr::from_str(deployment).unwrap();
    let config = config_map["data"]["tollgate.yaml"].as_str().unwrap();
    let plan = plan_of(file, config);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let ports = container["ports"].as_array().unwrap().iter();
    let ports: Vec<_> = ports.map(|port| port["containerPort"].as_u64().unwrap()).collect();
    let listening = plan.listeners.iter().map(|it| u64::from(it.address.port()));
    let admin = plan.admin.iter().map(|it| u64::from(it.address.port()));
    assert_eq!(ports, listening.chain(admin).collect::<Vec<_>>());
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(mount["subPath"].is_null(), "Kubernetes does not update it: {mount}");
    }
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    let mounts: Vec<_> = mounts.map(|mount| mount["mountPath"].as_str().unwrap()).collect();
    assert_eq!(mounts, ["/etc/tollgate", "/etc/tls"]);
    assert!(config.contains(" /etc/tls/tls.crt") && !config.contains(" /etc/tollgate/"));
}

#[test]
fn the_certificates_that_compose_makes_fit_its_config() {
    let Some(mut openssl) = tools::program("openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let output = Command::new("sh")
            .arg(path("deploy/tls/make-certificates.sh"))
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    make();
    let plan = plan_in(folder.path(), "tollgate.yaml", &read("deploy/tls/tollgate.yaml"));
    assert_eq!(plan.listeners.len(), 2);
    let first = std::fs::read(folder.path().join("mongo.pem")).unwrap();
    make();
    assert!(first == std::fs::read(folder.path().join("mongo.pem")).unwrap(), "made again");
    let compose = yaml("docker-compose.yml");
    let command = texts(&compose["services"]["mongo-tls"]["command"]);
    for file in command.iter().filter_map(|it| it.strip_prefix("/certificates/")) {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    let verified = openssl
        .args(["verify", "-verify_hostname", "mongo-tls", "-CAfile"])
        .args([folder.path().join("ca.crt"), folder.path().join("mongo.crt")])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
