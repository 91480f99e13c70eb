"""rules.py, promql.py, scalers.py and scraping.py: who asks for which series."""

import pathlib
import re

import promql
import rules
import scalers
import scraping
from manifests import ROLES
from mutants.mutation import expect, expect_each, spec

TABLE = pathlib.Path(__file__).resolve().parents[3] / "rpc" / "monitoring" / "README.md"


def documented_series():
    """As the table of metrics has them, which tests/cluster compares with real processes."""
    series = {role: {"up": set(scraping.LABELS)} for role in ROLES}
    rows = re.findall(r"^\| `([\w:]+)` \| (\w+) \|([^|]*)\|([^|]*)\|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    for name, kind, labels, of in rows:
        for role in ROLES:
            if of.strip() == "all" or role in of:
                for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
                    series[role][name + suffix] = (scraping.LABELS | set(re.findall(r"`(\w+)`", labels))
                                                   | ({"le"} if suffix == "_bucket" else set()))
    return series


SERIES = documented_series()


def rules_about_nothing(overlays):
    def check(manifests):
        return rules.rules_ask_for_what_there_is(manifests, SERIES)

    def ask(expression):
        return lambda m: rules.rules(m)[-1].update(expr=expression)
    expect_each(check, overlays.monitored, [
        (ask(expression), "rule OrreryImbalance", part) for expression, part in (
            ('rate(orrery_expert_rowz_total{pod="up"}[5m]) > 0', "no series orrery_expert_rowz_total"),
            ("rate(orery_expert_rows_total[5m]) > 0", "no series orery_expert_rows_total"),
            ("nobody_exports_this_total > 0", "no series nobody_exports_this_total"),
            ("orrery:requests:rate1m > 0", "no series orrery:requests:rate1m"),
            ('upp{job="orrery"} == 0', "no series upp"),
            ("upp == 0", "no series upp"),
            ("up == 0 unless on (pod) nobody", "no series nobody"),
            ('{__name__="orrery_nothing"} > 0', "a selector without a plain name"),
            ('up{__name__="up"} > 0', "a selector without a plain name"),
            ('orrery_attention_peer_usable{shard="x"} == 0', "orrery_attention_peer_usable has no label shard"),
            ('orrery_router_requests_total{peer="x"} > 0', "orrery_router_requests_total has no label peer"),
            ('up{job="orrey"} == 0', "up never has job='orrey'"),
            ('up{job=~"orre.|other"} == 0', "up never has job=~"),
            ('up{namespace="orery"} == 0', "up never has namespace='orery'"),
            ("sum by (peer) (orrery_router_imbalance_ratio) > 3", "orrery_router_imbalance_ratio has no label peer"),
            ("sum(up) by (pot) > 3", "up has no label pot"),
            ("orrery:requests:rate5m > 0 and on (pots) up", "has no label pots"),
            ("orrery:requests:rate5m{peer=\"x\"} > 0", "orrery:requests:rate5m has no label peer"),
            ("sum(up > 0", "is not closed"),
            ("up{job} > 0", "no PromQL matchers"),
        )])


def recordings_that_are_no_promql(overlays):
    manifests = overlays.monitored.copy()
    rules.rules(manifests)[0]["expr"] = "sum(up"
    expect(lambda m: rules.rules_ask_for_what_there_is(m, SERIES), manifests, "orrery:requests:rate5m", "is not closed")


def expressions_are_read(_):
    """Words of the language are no series."""
    for expression in (
            'sum by (pod) (rate(orrery_router_requests_total{code=~"A|B", pod!="x",}[5m] offset 1h)) > bool 1e-3',
            "max(up) without (pod) or vector(1) unless -inf",
            "histogram_quantile(0.99, SUM BY (le) (rate(orrery_router_request_seconds_bucket[5m:30s])))",
            "up * on (pod) group_left (version) orrery_build_info # a comment: nobody{x=1}",
            'label_replace(up @ 1700000000, "a", "$1", "b", `(.*)`) atan2 0x1F',
            "topk(3, count_values('pod', up)) % Inf == NaN"):
        if found := promql.problems(expression, scraping.all_of(SERIES), scraping.VALUES):
            raise AssertionError(f"{expression}: {found}")


def alerts_without_an_explanation(overlays):
    def check(manifests):
        return rules.alerts_are_explained(manifests, "### OrreryNoRank\n### OrreryNoSuchThing\n")
    expect(check, overlays.monitored, "about OrreryWedged")
    expect(check, overlays.monitored, "explains OrreryNoSuchThing")
    expect(check, with_labels(overlays.monitored, {}), "OrreryImbalance has no severity, or no summary")


def with_labels(manifests, labels):
    manifests = manifests.copy()
    rules.rules(manifests)[-1]["labels"] = labels
    return manifests


def a_runbook_with_other_metrics(overlays):
    def check(manifests):
        return rules.the_runbook_names_what_there_is(manifests, SERIES, "`orrery_no_such` `orrery:requests:rate1m`")
    expect(check, overlays.monitored, "the runbook names orrery_no_such")
    expect(check, overlays.monitored, "the runbook names orrery:requests:rate1m")


def autoscalers_of_nothing(overlays):
    for overlay, kind, least in ((overlays.scaled, "HorizontalPodAutoscaler", "minReplicas"),
                                 (overlays.keda, "ScaledObject", "minReplicaCount")):
        def scaler(m, name="attention", kind=kind):
            return spec(m, kind, name)
        expect_each(scalers.scaled_targets_exist, overlay, [
            (lambda m: scaler(m)["scaleTargetRef"].update(kind="Deployment"), "no Deployment attention"),
            (lambda m: scaler(m)["scaleTargetRef"].update(name="atention"), "no StatefulSet atention"),
            (lambda m: scaler(m)["scaleTargetRef"].update(apiVersion="apps/v2"), "no StatefulSet attention"),
            (lambda m: scaler(m)["scaleTargetRef"].update(name="router"), "StatefulSet router is scaled by"),
            (lambda m: scaler(m)["scaleTargetRef"].update(name="expert"), "StatefulSet expert says replicas"),
            (lambda m: m.objects.remove(m.find(kind, "attention")),
             "attention says no replicas, and nothing scales it"),
            (lambda m: scaler(m).update({least: 9}), "scales between 9 and 4"),
            (lambda m: scaler(m).pop(least), "scales between None and 4"),
        ])
    expect_each(scalers.scaled_targets_exist, overlays.keda, [
        (lambda m: spec(m, "ScaledObject", "attention")["fallback"].update(replicas=1), "falls back to 1"),
        (lambda m: spec(m, "ScaledObject", "attention").pop("fallback"), "falls back to None"),
    ])


def autoscalers_by_metrics_of_others(overlays):
    def check(manifests):
        return scalers.scaled_by_metrics_of_their_role(manifests, SERIES)

    def pods(m, i=0):
        return spec(m, "HorizontalPodAutoscaler", "attention")["metrics"][i]["pods"]

    def append(metric):
        return lambda m: spec(m, "HorizontalPodAutoscaler", "attention")["metrics"].append(metric)
    expect_each(check, overlays.scaled, [
        (lambda m: pods(m)["metric"].update(name="orrery_foo"), "its pods have no series {'name': 'orrery_foo'}"),
        (lambda m: pods(m)["metric"].update(name="orrery_router_open_requests"), "its pods have no series"),
        (lambda m: pods(m)["metric"].update(selector={"matchLabels": {"a": "b"}}), "its pods have no series"),
        (lambda m: pods(m, 1)["target"].update(averageValue="700"), "orrery_attention_kv_usage_ratio is to be 700"),
        (lambda m: pods(m)["target"].update(averageValue="0"), "is to be 0"),
        (lambda m: pods(m).update(target={"type": "Value", "value": "5"}), "must be an AverageValue"),
        (append({"type": "Resource", "resource": {"name": "cpu"}}), "a metric of type Resource"),
        (append({"type": "External", "external": {"metric": {"name": "nobody"}}}), "a metric of type External"),
        (lambda m: spec(m, "HorizontalPodAutoscaler", "attention").update(metrics=[]), "measures nothing"),
    ])

    def trigger(m, i=0):
        return spec(m, "ScaledObject", "attention")["triggers"][i]

    def ask(query):
        return lambda m: trigger(m)["metadata"].update(query=query)
    expect_each(check, overlays.keda, [
        (ask("sum(nobody_has_it)"), "ScaledObject attention", "no series nobody_has_it"),
        (ask('sum(orrery_attention_waiting_sequences{namespace="orery"})'), "never has namespace='orery'"),
        (ask("sum(orrery_router_open_requests)"), "no series orrery_router_open_requests"),
        (lambda m: trigger(m, 1)["metadata"].update(threshold="70"), "is to be 70"),
        (lambda m: trigger(m).update(type="cron"), "scales by cron"),
        (lambda m: trigger(m)["metadata"].pop("serverAddress"), "should have serverAddress"),
        (lambda m: trigger(m)["metadata"].update(serverAddress="prometheus:9090"), "serverAddress is prometheus:9090"),
        (lambda m: trigger(m).update(metricType="Value"), "must be an AverageValue"),
    ])


def an_adapter_that_does_not_know_a_metric(overlays):
    runbook = "seriesQuery: '{__name__=~\"orrery_attention_(waiting_sequences|kv_usage_ratio)\"}'"
    expect(lambda m: scalers.the_adapter_knows_the_metrics(m, runbook), overlays.scaled,
           "does not know orrery_router_open_requests")


def members_that_are_not_scraped(overlays):
    def monitor(m):
        return spec(m, "PodMonitor", "orrery")

    def endpoint(m):
        return monitor(m)["podMetricsEndpoints"][0]
    expect_each(scraping.members_are_scraped, overlays.monitored, [
        (lambda m: monitor(m)["selector"]["matchLabels"].update({"app.kubernetes.io/name": "orery"}), "of all members"),
        (lambda m: monitor(m)["selector"]["matchLabels"].update({"app.kubernetes.io/component": "router"}),
         "all members"),
        (lambda m: monitor(m).update(jobLabel="nope"), "jobLabel nope does not make"),
        (lambda m: monitor(m).update(jobLabel="app.kubernetes.io/component"), "StatefulSet expert job orrery"),
        (lambda m: endpoint(m).update(port="nope"), "PodMonitor asks ('nope'"),
        (lambda m: endpoint(m).update(path="/metricz"), "/metricz"),
        (lambda m: endpoint(m).update(scheme="https"), "https"),
        (lambda m: endpoint(m).update(scrapeTimeout="60s"), "waits 60s, asks each 15s"),
        (lambda m: endpoint(m)["relabelings"][0].update(targetLabel="role"), "relabelings"),
        (lambda m: monitor(m)["podMetricsEndpoints"].append(endpoint(m)), "more than once"),
    ])


CASES = [rules_about_nothing, recordings_that_are_no_promql, expressions_are_read, alerts_without_an_explanation,
         a_runbook_with_other_metrics, autoscalers_of_nothing,
         autoscalers_by_metrics_of_others, an_adapter_that_does_not_know_a_metric, members_that_are_not_scraped]
