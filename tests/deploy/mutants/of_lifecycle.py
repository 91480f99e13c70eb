"""lifecycle.py: how pods start, answer probes, roll, go, and keep apart."""

import lifecycle
from mutants.mutation import container, edit_cluster_file, expect_each, pod, spec, workload


def graces_and_drains(overlays):
    def sleep(m, seconds):
        return {"preStop": {"sleep": {"seconds": seconds}}}
    expect_each(lifecycle.grace_fits_the_drain, overlays.cpu, [
        (lambda m: edit_cluster_file(m, "drain_ms: 30000", "drain_ms: 90000"),
         "StatefulSet attention", "45, must be 100"),
        (lambda m: pod(m).pop("terminationGracePeriodSeconds"), "StatefulSet expert", "30, must be 40"),
        (lambda m: container(m, "router").pop("lifecycle"), "StatefulSet router: its lifecycle is {}"),
        (lambda m: container(m, "router").update(lifecycle=sleep(m, 30)), "should sleep 5 s"),
        (lambda m: container(m).update(lifecycle=sleep(m, 5)), "StatefulSet expert", "should sleep 0 s"),
        (lambda m: container(m, "router")["lifecycle"].update(postStart={"sleep": {"seconds": 1}}), "postStart"),
    ])


def probes_that_ask_something_else(overlays):
    def probe(m, name="livenessProbe"):
        return container(m)[name]
    expect_each(lifecycle.probes_ask_three_questions, overlays.cpu, [
        (lambda m: probe(m)["httpGet"].update(path="/readyz"), "livenessProbe", "should be /livez"),
        (lambda m: probe(m)["httpGet"].update(port=9401), "livenessProbe asks"),
        (lambda m: probe(m)["httpGet"].update(scheme="HTTPS"), "livenessProbe asks", "HTTPS"),
        (lambda m: container(m).pop("startupProbe"), "startupProbe asks None"),
        (lambda m: probe(m).update(exec={"command": ["/usr/bin/orrery"]}), "livenessProbe has exec"),
        (lambda m: probe(m).pop("failureThreshold"), "livenessProbe has httpGet"),
        (lambda m: probe(m).update(timeoutSeconds=0), "livenessProbe waits 0 s"),
        (lambda m: probe(m).update(failureThreshold=1), "livenessProbe gives up after 10 s"),
        (lambda m: probe(m, "startupProbe").update(failureThreshold=1),
         "startupProbe gives up after 10 s, must be 1800"),
    ])


def rolls_that_take_too_many(overlays):
    expect_each(lifecycle.sets_roll_one_by_one, overlays.cpu, [
        (lambda m: workload(m).spec.update(podManagementPolicy="OrderedReady"), "podManagementPolicy is OrderedReady"),
        (lambda m: workload(m).spec.update(updateStrategy={"type": "OnDelete"}), "updateStrategy"),
        (lambda m: workload(m).spec.pop("minReadySeconds"), "minReadySeconds is 0"),
    ])
    expect_each(lifecycle.sets_roll_one_by_one, overlays.lws, [
        (lambda m: workload(m).spec["rolloutStrategy"]["rollingUpdateConfiguration"].update(maxUnavailable=2),
         "rolloutStrategy is"),
        (lambda m: workload(m).spec["leaderWorkerTemplate"].pop("restartPolicy"), "must be 'None'"),
        (lambda m: workload(m).spec.pop("networkConfig"), "networkConfig is None"),
    ])


def jobs_that_miss_a_node(overlays):
    def job(m):
        return workload(m, "bring").spec

    def apart(m):
        return pod(m, "bring")["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    expect_each(lifecycle.jobs_run_once_on_each_node, overlays.brought, [
        (lambda m: job(m).update(completions=3), "as many completions"),
        (lambda m: job(m).pop("completionMode"), "must be Indexed"),
        (lambda m: pod(m, "bring").pop("affinity"), "affinity is None"),
        (lambda m: apart(m)["labelSelector"]["matchLabels"].update({"app.kubernetes.io/name": "orrery"}),
         "affinity is"),
    ])


def last_words_that_are_lost(overlays):
    expect_each(lifecycle.last_words_are_kept, overlays.cpu, [
        (lambda m: container(m).pop("terminationMessagePolicy"), "StatefulSet expert: has no terminationMessagePolicy"),
    ])


def pods_that_share_a_node(overlays):
    def spread(m):
        return pod(m)["topologySpreadConstraints"][0]
    expect_each(lifecycle.pods_are_spread_over_nodes, overlays.cpu, [
        (lambda m: pod(m).pop("topologySpreadConstraints"), "spreads []"),
        (lambda m: spread(m).update(topologyKey="kubernetes.io/hostnam"), "hostnam"),
        (lambda m: spread(m)["labelSelector"]["matchLabels"].update({"app.kubernetes.io/component": "router"}),
         "StatefulSet expert", "must spread its own pods"),
    ])
    expect_each(lifecycle.pods_are_spread_over_nodes, overlays.h200, [
        (lambda m: spread(m).pop("nodeTaintsPolicy"), "over tainted nodes"),
        (lambda m: pod(m).pop("nodeSelector"), "over nodes without its volume"),
    ])
    expect_each(lifecycle.pods_are_spread_over_nodes, overlays.lws, [
        (lambda m: workload(m).manifest["metadata"].pop("annotations"), "have None for themselves"),
    ])


def budgets_of_too_many_or_none(overlays):
    def budget(m, name):
        return spec(m, "PodDisruptionBudget", name)

    def least(m, name, number):
        budget(m, name).pop("maxUnavailable")
        budget(m, name).update(minAvailable=number)
    expect_each(lifecycle.budgets_let_some_go, overlays.cpu, [
        (lambda m: budget(m, "expert").update(maxUnavailable=2), "lets 2 go", "max_failed_shards is 1"),
        (lambda m: budget(m, "expert").update(maxUnavailable=0), "lets 0 of 4 go"),
        (lambda m: budget(m, "attention").update(maxUnavailable=0), "lets 0 of 2 go"),
        (lambda m: budget(m, "attention").update(maxUnavailable=2), "lets 2 of 2 go"),
        (lambda m: budget(m, "attention").update(maxUnavailable="50%"), "lets None of 2 go"),
        (lambda m: budget(m, "router").pop("maxUnavailable"), "lets None of 2 go"),
        (lambda m: least(m, "router", 2), "lets 0 of 2 go"),
        (lambda m: least(m, "expert", 1), "lets 3 go, and limits.max_failed_shards is 1"),
    ])
    expect_each(lifecycle.budgets_let_some_go, overlays.lws, [
        (lambda m: edit_cluster_file(m, "max_failed_shards: 4", "max_failed_shards: 1"), "rolls 4 shards at a time"),
    ])


CASES = [graces_and_drains, probes_that_ask_something_else, rolls_that_take_too_many, jobs_that_miss_a_node,
         last_words_that_are_lost, pods_that_share_a_node, budgets_of_too_many_or_none]
