"""What Prometheus gets from members, and how series are labelled. A check returns what is wrong, one sentence each."""

import re

from manifests import ROLES
from objects import NAMESPACE
from units import seconds

JOB = "orrery"
PORT = "monitoring"
# Labels that the Prometheus operator gives to whatever a PodMonitor selects, and the one that ours adds; with all the
# values that they have, where that is known.
VALUES = {"namespace": {NAMESPACE}, "job": {JOB}, "endpoint": {PORT}, "container": set(ROLES), "component": set(ROLES)}
LABELS = {"pod", "instance", *VALUES}
RELABELINGS = [{"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
                "targetLabel": "component"}]


def series_of(text):
    """Of an answer of /metrics: {name: labels}, those of scraping included."""
    found = {"up": set(LABELS)}  # Prometheus' own
    for name, labels in re.findall(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set(LABELS)).update(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', labels))
    return found


def all_of(series):
    """Of each role -> of all together."""
    found = {}
    for each in series.values():
        for name, labels in each.items():
            found.setdefault(name, set()).update(labels)
    return found


def members_are_scraped(manifests):
    wrong = []
    for monitor in manifests.of("PodMonitor"):
        spec = monitor["spec"]
        pods = manifests.selected_by(spec["selector"]["matchLabels"])
        if {each.name for each in pods} != {each.name for each in manifests.members()}:
            wrong.append("PodMonitor does not select the pods of all members and no others")
        for workload in pods:
            if workload.labels.get(spec.get("jobLabel")) != JOB:
                wrong.append(f"PodMonitor: jobLabel {spec.get('jobLabel')} does not make {workload} job {JOB}")
        if len(spec["podMetricsEndpoints"]) != 1:
            wrong.append("PodMonitor asks each pod more than once, or never")
        for endpoint in spec["podMetricsEndpoints"]:
            asked = (endpoint.get("port"), endpoint.get("path"), endpoint.get("scheme", "http"))
            if asked != (PORT, "/metrics", "http"):
                wrong.append(f"PodMonitor asks {asked}, should be /metrics at port {PORT}")
            if endpoint.get("relabelings") != RELABELINGS:
                wrong.append(f"PodMonitor: relabelings {endpoint.get('relabelings')}, should be {RELABELINGS}")
            interval, timeout = endpoint.get("interval", "0s"), endpoint.get("scrapeTimeout", "0s")
            if not 0 < seconds(timeout) <= seconds(interval):
                wrong.append(f"PodMonitor waits {timeout}, asks each {interval}")
    return wrong
