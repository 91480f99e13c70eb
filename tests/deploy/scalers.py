"""Autoscalers: whom they scale, how far, and by what. Each check returns what is wrong, one sentence each."""

import dataclasses
import re

import promql
import scraping
from objects import title
from units import quantity

ADDRESS = re.compile(r"https?://[\w.-]+:\d+")
# Ratios are of 0 to 1.
RATIO = re.compile(r"\w+_ratio\b")


@dataclasses.dataclass
class Scaler:
    """What both kinds say."""
    title: str
    kind: str
    target: dict
    measured: list  # metrics, or triggers
    least: int
    most: int
    fallback: int  # where Prometheus does not answer; a HorizontalPodAutoscaler leaves as many as there are


def scalers(manifests):
    found = []
    for manifest in manifests.of("HorizontalPodAutoscaler") + manifests.of("ScaledObject"):
        spec = manifest["spec"]
        least = spec.get("minReplicas", spec.get("minReplicaCount"))
        most = spec.get("maxReplicas", spec.get("maxReplicaCount"))
        fallback = spec.get("fallback", {}).get("replicas") if manifest["kind"] == "ScaledObject" else least
        measured = spec.get("metrics", spec.get("triggers", []))
        found.append(Scaler(title(manifest), manifest["kind"], spec["scaleTargetRef"], measured, least, most, fallback))
    return found


def scaler_of(manifests, workload):
    return next((each for each in scalers(manifests) if each.target["name"] == workload.name), None)


def scaled_targets_exist(manifests):
    wrong = []
    targets = {}
    for scaler in scalers(manifests):
        target = scaler.target
        workload = next((each for each in manifests.members() if target == {
            "apiVersion": each.manifest["apiVersion"], "kind": each.kind, "name": each.name}), None)
        if workload is None:
            wrong.append(f"{scaler.title}: there is no {target['kind']} {target['name']}")
            continue
        if workload.replicas() is not None:
            wrong.append(f"{workload} says replicas, and {scaler.title} says them as well")
        if targets.setdefault(workload.name, scaler) is not scaler:
            wrong.append(f"{workload} is scaled by {scaler.title} and by {targets[workload.name].title}")
        if not (isinstance(scaler.least, int) and isinstance(scaler.most, int) and 1 <= scaler.least <= scaler.most):
            wrong.append(f"{scaler.title}: scales between {scaler.least} and {scaler.most}")
        elif not isinstance(scaler.fallback, int) or not scaler.least <= scaler.fallback <= scaler.most:
            wrong.append(f"{scaler.title}: falls back to {scaler.fallback}, scales between {scaler.least} and "
                         f"{scaler.most}")
    wrong += [f"{workload} says no replicas, and nothing scales it" for workload in manifests.members()
              if workload.replicas() is None and workload.name not in targets]
    return wrong


def queries(manifests):
    """Of those that ask Prometheus themselves."""
    return [trigger["metadata"]["query"] for manifest in manifests.of("ScaledObject")
            for trigger in manifest["spec"]["triggers"]]


def scaled_by_metrics_of_their_role(manifests, series):
    """`series`: of each role, as scraping.series_of() has them."""
    wrong = []
    for scaler in scalers(manifests):
        workload = next((each for each in manifests.members() if each.name == scaler.target["name"]), None)
        known = series.get(workload.role, {}) if workload else {}
        if not scaler.measured:
            wrong.append(f"{scaler.title} measures nothing")
        problems = metric_problems if scaler.kind == "HorizontalPodAutoscaler" else trigger_problems
        wrong += [f"{scaler.title}: {problem}" for each in scaler.measured for problem in problems(each, known)]
    return wrong


def metric_problems(metric, known):
    if metric["type"] != "Pods":
        yield f"scales by a metric of type {metric['type']}: queues and caches say when, by metrics of type Pods"
        return
    name, target = metric["pods"]["metric"]["name"], metric["pods"]["target"]
    if set(metric["pods"]["metric"]) != {"name"} or name not in known:
        yield f"its pods have no series {metric['pods']['metric']}"
    if target["type"] != "AverageValue" or "averageValue" not in target:
        yield f"the target of {name} is {target}, must be an AverageValue"
    else:
        yield from bound_problems(name, target["averageValue"])


def trigger_problems(trigger, known):
    if trigger["type"] != "prometheus" or trigger.get("metricType") != "AverageValue":
        yield f"scales by {trigger['type']} {trigger.get('metricType')}, must be an AverageValue of prometheus"
        return
    if set(trigger["metadata"]) != {"serverAddress", "query", "threshold"}:
        yield f"asks with {', '.join(sorted(trigger['metadata']))}, should have serverAddress, query, threshold"
        return
    query, address = trigger["metadata"]["query"], trigger["metadata"]["serverAddress"]
    if not ADDRESS.fullmatch(address):
        yield f"serverAddress is {address}, should be like http://prometheus-operated.monitoring.svc:9090"
    yield from promql.problems(query, known, scraping.VALUES)
    yield from bound_problems(query, trigger["metadata"]["threshold"])


def bound_problems(asked, bound):
    value = quantity(bound)
    if value <= 0 or (RATIO.search(asked) and value > 1):
        yield f"{asked} is to be {bound}, which is no bound of it"


def the_adapter_knows_the_metrics(manifests, runbook):
    """The runbook's rules for the Prometheus adapter, and autoscalers' metrics."""
    pattern = re.search(r'seriesQuery: \'\{__name__=~"(.*?)"\}\'', runbook)[1]
    return [f"the runbook's adapter does not know {metric['pods']['metric']['name']}"
            for manifest in manifests.of("HorizontalPodAutoscaler") for metric in manifest["spec"]["metrics"]
            if not re.fullmatch(pattern, metric["pods"]["metric"]["name"])]
