//! The manifests and the Helm chart: right by Kubernetes' schemas, restricted, and in step with the config.

use crate::{
    path, read,
    support::{python::drivers, tools},
};
use config::plan::Plan;
use serde_json::Value;
use std::{collections::BTreeSet, process::Command, sync::LazyLock};

const CHART: &str = "deploy/helm/tollgate";
const MANIFESTS: [&str; 8] = [
    "deployment.yaml",
    "namespace.yaml",
    "optional/networkpolicy.yaml",
    "optional/poddisruptionbudget.yaml",
    "optional/prometheusrule.yaml",
    "optional/servicemonitor.yaml",
    "service.yaml",
    "sidecar.yaml",
];

/// A changed ConfigMap is taken without a restart.
const WATCHES: &str = "watch: true\n";

/// Where objects come from, and the objects.
type Case = (String, Vec<Value>);

/// Every object, of the chart by its set of values, and of the manifests.
static OBJECTS: LazyLock<Option<Vec<Case>>> = LazyLock::new(|| {
    let python = tools::python_with_helm()?;
    let mut script = Command::new(python.join("python"));
    script.arg(drivers().join("kubernetes.py")).arg(path(CHART));
    script.args(MANIFESTS.map(|name| path("deploy/kubernetes").join(name)));
    let run = script.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let found: Value = serde_json::from_slice(&run.stdout).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let chart = found["chart"].as_object().unwrap().iter();
    let mut all: Vec<_> =
        chart.map(|(case, objects)| (format!("chart: {case}"), list(objects))).collect();
    all.push(("manifests".to_owned(), list(&found["manifests"])));
    Some(all)
});

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// All containers of a pod, sidecars first.
fn containers(pod: &Value) -> Vec<&Value> {
    let of = |key: &str| pod[key].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers")).collect()
}

fn plan(name: &str, text: &str) -> Plan {
    config::parse(name, text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The config that a pod's container mounts.
fn config_of(objects: &[Value], case: &str, pod: &Value) -> Plan {
    let volumes = pod["volumes"].as_array().unwrap().iter();
    let name = volumes.filter_map(|volume| volume["configMap"]["name"].as_str()).next().unwrap();
    let maps = of_kind(objects, "ConfigMap");
    match maps.iter().find(|map| map["metadata"]["name"] == name) {
        Some(map) => plan(case, map["data"]["tollgate.yaml"].as_str().unwrap()),
        // kustomize makes it of the file.
        None => plan(case, &read("deploy/kubernetes/tollgate.yaml")),
    }
}

/// Every pod with the plan of its proxy.
fn pods() -> Vec<(String, Value, Plan)> {
    let mut found = Vec::new();
    for (case, objects) in OBJECTS.iter().flatten() {
        for deployment in of_kind(objects, "Deployment") {
            let pod = deployment["spec"]["template"]["spec"].clone();
            let plan = config_of(objects, case, &pod);
            found.push((format!("{case}: {}", deployment["metadata"]["name"]), pod, plan));
        }
    }
    found
}

#[test]
fn the_pods_fit_their_configs() {
    for (name, pod, plan) in pods() {
        let proxy = containers(&pod).into_iter().find(|it| it["name"] == "tollgate").unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let drain = (plan.drain_wait.unwrap_or_default() + plan.drain_timeout).as_secs();
        let sidecar = proxy["restartPolicy"] == "Always";
        assert!(if sidecar { grace >= drain + 5 } else { grace == drain + 5 }, "{name}: {grace}");
        let admin = plan.admin.as_ref().unwrap().address;
        assert!(!admin.ip().is_loopback(), "{name}: the kubelet asks from outside");
        let ports: Vec<_> = proxy["ports"].as_array().into_iter().flatten().collect();
        let number = |port: &Value| {
            let named = ports.iter().find(|it| it["name"] == *port);
            named.map_or(port, |it| &it["containerPort"]).as_u64().unwrap()
        };
        for (probe, path) in
            [("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")]
        {
            let get = &proxy[probe]["httpGet"];
            if sidecar && probe == "readinessProbe" {
                continue;
            }
            assert_eq!(get["path"], path, "{name}: {probe}");
            assert_eq!(number(&get["port"]), u64::from(admin.port()), "{name}: {probe}");
        }
        let listening: BTreeSet<_> =
            plan.listeners.iter().map(|it| u64::from(it.address.port())).collect();
        let open = ports.iter().filter(|it| it["name"] != "admin").map(|it| number(&it["name"]));
        // The chart's second set of values names a port without a listener.
        let open: BTreeSet<_> = open.collect();
        assert!(sidecar || open.is_superset(&listening), "{name}: {open:?} {listening:?}");
        assert_eq!(proxy["args"], serde_json::json!(["run", "-c", "/etc/tollgate/tollgate.yaml"]));
    }
}

#[test]
fn the_pods_are_restricted() {
    for (name, pod, _) in pods() {
        for container in containers(&pod) {
            let of = |key: &str| match &container["securityContext"][key] {
                Value::Null => pod["securityContext"][key].clone(),
                value => value.clone(),
            };
            assert_eq!(of("runAsNonRoot"), true, "{name}");
            assert_eq!(of("allowPrivilegeEscalation"), false, "{name}");
            assert_eq!(of("seccompProfile")["type"], "RuntimeDefault", "{name}");
            assert_eq!(of("capabilities")["drop"], serde_json::json!(["ALL"]), "{name}");
            assert!(of("capabilities")["add"].is_null(), "{name}");
            if container["name"] == "tollgate" {
                assert_eq!(of("readOnlyRootFilesystem"), true, "{name}");
            }
        }
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(
            volumes.iter().all(|it| it["configMap"].is_object() || it["secret"].is_object()),
            "{name}"
        );
    }
}

#[test]
fn a_change_of_the_config_reaches_a_running_pod() {
    for (case, objects) in OBJECTS.iter().flatten() {
        let text = serde_json::to_string(objects).unwrap();
        // A file by subPath never changes; a checksum starts pods for nothing; a sidecar's hook runs too early.
        for word in ["subPath", "checksum", "preStop"] {
            assert!(!text.contains(word), "{case}: {word}");
        }
    }
    assert!(read("deploy/kubernetes/tollgate.yaml").contains(WATCHES));
    assert!(read(&format!("{CHART}/templates/configmap.yaml")).contains(WATCHES));
}

#[test]
fn services_budgets_and_policies_select_the_pods() {
    let Some(cases) = &*OBJECTS else { return };
    for (case, objects) in cases {
        let deployments = of_kind(objects, "Deployment");
        let labels = |object: &Value| object["spec"]["template"]["metadata"]["labels"].clone();
        let fits = |selector: &Value| {
            let wanted = selector.as_object().unwrap();
            deployments.iter().any(|it| wanted.iter().all(|(key, value)| labels(it)[key] == *value))
        };
        for service in of_kind(objects, "Service") {
            assert!(fits(&service["spec"]["selector"]), "{case}: {service}");
        }
        for (kind, key) in [("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")] {
            for object in of_kind(objects, kind) {
                assert!(fits(&object["spec"][key]["matchLabels"]), "{case}: {object}");
            }
        }
        for monitor in of_kind(objects, "ServiceMonitor") {
            assert_eq!(monitor["spec"]["endpoints"][0]["port"], "admin", "{case}");
        }
    }
    let optional = |case: &str, kind: &str| {
        let (_, objects) = cases.iter().find(|(name, _)| name.ends_with(case)).unwrap();
        !of_kind(objects, kind).is_empty()
    };
    for kind in ["NetworkPolicy", "ServiceMonitor", "PrometheusRule"] {
        assert!(optional("all", kind) && optional("manifests", kind), "{kind}");
        assert!(!optional("default", kind), "{kind} is on by default");
    }
    assert!(!optional("least", "PodDisruptionBudget"));
}

#[test]
fn the_chart_s_rules_are_those_of_prometheus() {
    for (case, objects) in OBJECTS.iter().flatten() {
        for rule in of_kind(objects, "PrometheusRule") {
            let groups = rule["spec"]["groups"].as_array().unwrap();
            let names: Vec<_> =
                groups.iter().map(|group| group["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["tollgate-recording", "tollgate"], "{case}");
            let alerts = &groups[1]["rules"];
            // Prometheus's templates are not Helm's.
            assert!(alerts.to_string().contains("{{ $labels.instance }}"), "{case}: {alerts}");
        }
    }
}

#[test]
fn kustomize_finds_its_files() {
    let file: Value =
        serde_saphyr::from_str(&read("deploy/kubernetes/kustomization.yaml")).unwrap();
    let resources = file["resources"].as_array().unwrap().iter();
    let mut named: BTreeSet<String> = resources.map(|it| it.as_str().unwrap().to_owned()).collect();
    for line in read("deploy/kubernetes/kustomization.yaml").lines() {
        let off = line.trim().strip_prefix("# - ").and_then(|it| it.split(' ').next());
        named.extend(off.map(str::to_owned));
    }
    named.insert("sidecar.yaml".to_owned());
    assert_eq!(named.iter().map(String::as_str).collect::<Vec<_>>(), MANIFESTS);
    assert_eq!(file["configMapGenerator"][0]["files"][0], "tollgate.yaml");
    assert_eq!(file["generatorOptions"]["disableNameSuffixHash"], true);
}
