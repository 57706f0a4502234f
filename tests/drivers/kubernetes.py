"""Renders the Helm chart with Helm's own library, checks each object against Kubernetes' schemas, and prints all of them:

    kubernetes.py CHART MANIFEST...    {"chart": {"default": [object, …], …}, "manifests": [object, …]}

Ends with 1 if an object is wrong. Objects of the Prometheus operator have no schema here.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

# The oldest that the chart names, and the newest whose schemas are here.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]

PODS = [{"podSelector": {"matchLabels": {"app": "shop"}}}]

# Values of the chart: all that is optional is once on and once off.
CASES = {
    "default": {},
    "all": {
        "replicas": 3,
        "image": {"tag": "1.2.3"},
        "imagePullSecrets": [{"name": "registry"}],
        "drain": {"wait": 7, "timeout": 60},
        "ports": [{"name": "orders-db", "port": 27018}, {"name": "web", "port": 8443}],
        "certificates": {"web": "shop-tls", "db": "db-tls"},
        "service": {"type": "LoadBalancer", "annotations": {"example.net/internal": "true"}},
        "podAnnotations": {"example.net/team": "shop"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "networkPolicy": {"enabled": True, "clients": PODS, "monitoring": PODS, "egress": [{"to": PODS}]},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "least": {
        "drain": {"wait": 0, "timeout": 10},
        "resources": None,
        "topologySpread": False,
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": True},
    },
}

# Values that the schema must refuse.
WRONG = [
    {"replica": 3},
    {"ports": []},
    {"ports": [{"name": "a name that is too long", "port": 1}]},
    {"drain": {"wait": "5s", "timeout": 30}},
    {"config": {"listeners": {}, "drain_timeout": "1m"}},
]


def check(object):
    if "monitoring.coreos.com" in object["apiVersion"]:
        return
    for version in VERSIONS:
        kubernetes_validate.validate(object, version, strict=True)


def main(chart, *manifests):
    report = helm_python.chart.lint(chart, strict=True)
    # An icon is only recommended.
    assert not [it for it in report["messages"] if it["severity"] > 1], report
    loaded = helm_python.Chart.load(chart)
    rendered = {}
    for case, values in CASES.items():
        loaded.validate_schema(loaded.merge_values(values))
        texts = loaded.render(values, name="edge", namespace="apps")
        objects = [it for name, text in texts.items() if name.endswith(".yaml") for it in yaml.safe_load_all(text) if it]
        notes = [text for name, text in texts.items() if name.endswith("NOTES.txt")]
        assert case != "default" or "edge-tollgate.apps.svc" in notes[0], notes
        rendered[case] = objects
    for values in WRONG:
        try:
            loaded.validate_schema(loaded.merge_values(values))
        except helm_python.HelmError:
            continue
        sys.exit(f"the schema accepts {values}")
    plain = [it for path in manifests for it in yaml.safe_load_all(open(path)) if it]
    for object in [it for objects in rendered.values() for it in objects] + plain:
        try:
            check(object)
        except Exception as error:
            sys.exit(f"{object['kind']} {object['metadata']['name']}: {getattr(error, 'message', error)}")
    print(json.dumps({"chart": rendered, "manifests": plain}))


main(*sys.argv[1:])
