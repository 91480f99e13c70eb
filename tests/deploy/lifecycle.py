"""How pods start, answer probes, roll, go, and keep apart. Each check returns what is wrong, one sentence each."""

import cluster_text
from agreement import least_replicas
from mounts import cluster_file
from objects import title

PROBES = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
# Half an hour for weights of a large model (deploy/README.md, Probes).
STARTUP_S = 1800
# /livez says no after 30 s without a heartbeat (rpc/monitoring/README.md); the runbook promises a restart at 90 s.
LIVENESS_S = 90 - 30
# A router goes on for so long, until clients have heard from the DNS that it is going. Ranks and shards say so
# themselves.
PRE_STOP_S = {"router": 5, "attention": 0, "expert": 0}
# services/*/main.cc, kStopTimeout.
STOP_S = 5
SLACK_S = 5
DEFAULT_DRAIN_MS = 10000
# Until everybody has seen that it is back.
READY_S = 5
DISKS_LABEL = "orrery/models"
EXCLUSIVE_TOPOLOGY = "leaderworkerset.sigs.k8s.io/exclusive-topology"
NODE = "kubernetes.io/hostname"
# A group at a time; all of them by names of one service; a shard that dies is replaced alone.
GROUPS = {
    "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0}},
    "startupPolicy": "LeaderCreated",
    "networkConfig": {"subdomainPolicy": "Shared"},
    "restartPolicy": "None",
}


def probes_ask_three_questions(manifests):
    wrong = []
    for workload in manifests.members():
        for name, path in PROBES.items():
            probe = workload.container().get(name, {})
            asked = {"path": path, "port": "monitoring"}
            if probe.get("httpGet") not in (asked, asked | {"scheme": "HTTP"}):
                wrong.append(f"{workload}: its {name} asks {probe.get('httpGet')}, should be {path} at port monitoring")
            if set(probe) != {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold"}:
                wrong.append(f"{workload}: its {name} has {', '.join(sorted(probe))}")
                continue
            if not 1 <= probe["timeoutSeconds"] <= probe["periodSeconds"]:
                wrong.append(f"{workload}: its {name} waits {probe['timeoutSeconds']} s, asks each "
                             f"{probe['periodSeconds']} s")
            window_s = probe["periodSeconds"] * probe["failureThreshold"]
            if name == "startupProbe" and window_s < STARTUP_S:
                wrong.append(f"{workload}: its {name} gives up after {window_s} s, must be {STARTUP_S} at least")
            if name == "livenessProbe" and window_s != LIVENESS_S:
                wrong.append(f"{workload}: its {name} gives up after {window_s} s, must be {LIVENESS_S}")
    return wrong


def pre_stop_s(workload):
    return workload.container().get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)


def grace_fits_the_drain(manifests):
    wrong = []
    for workload in manifests.members():
        lifecycle = workload.container().get("lifecycle", {})
        seconds = PRE_STOP_S[workload.role]
        if lifecycle != ({"preStop": {"sleep": {"seconds": seconds}}} if seconds else {}):
            wrong.append(f"{workload}: its lifecycle is {lifecycle}, should sleep {seconds} s before it stops")
        cluster = cluster_file(manifests, workload)
        drain_s = int(cluster_text.first(cluster, "limits", "drain_ms") or DEFAULT_DRAIN_MS) / 1000
        if workload.role == "router":
            drain_s = 0  # what is under way goes on at another router
        needed_s = pre_stop_s(workload) + drain_s + STOP_S + SLACK_S
        grace_s = workload.pod.get("terminationGracePeriodSeconds", 30)
        if grace_s < needed_s:
            wrong.append(f"{workload}: terminationGracePeriodSeconds is {grace_s}, must be {needed_s:g} at least: "
                         f"preStop {pre_stop_s(workload)}, drain {drain_s:g}, stop {STOP_S}, slack {SLACK_S}")
    return wrong


def sets_roll_one_by_one(manifests):
    """And start all at once, for they wait for each other."""
    wrong = []
    for workload in manifests.members():
        if workload.kind == "StatefulSet":
            for field, expected in (("podManagementPolicy", "Parallel"), ("updateStrategy", {"type": "RollingUpdate"})):
                if workload.spec.get(field) != expected:
                    wrong.append(f"{workload}: {field} is {workload.spec.get(field)}, must be {expected}")
            ready_s = workload.spec.get("minReadySeconds", 0)
            if ready_s < READY_S:
                wrong.append(f"{workload}: minReadySeconds is {ready_s}, must be {READY_S} at least")
        if workload.kind == "LeaderWorkerSet":
            found = dict(workload.spec, restartPolicy=workload.spec["leaderWorkerTemplate"].get("restartPolicy"))
            wrong += [f"{workload}: {field} is {found.get(field)!r}, must be {expected!r}"
                      for field, expected in GROUPS.items() if found.get(field) != expected]
    return wrong


def jobs_run_once_on_each_node(manifests):
    """Where each node has a disk of its own to fill (components/bring)."""
    wrong = []
    for workload in manifests.workloads():
        if workload.kind != "Job" or not manifests.of("PersistentVolume"):
            continue
        spec = workload.spec
        if spec.get("completionMode") != "Indexed" or spec.get("completions") != spec.get("parallelism"):
            wrong.append(f"{workload}: must be Indexed, with as many completions as run side by side")
        others = [{"topologyKey": NODE, "labelSelector": {"matchLabels": workload.identity()}}]
        apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": others}}
        if workload.pod.get("affinity") != apart:
            wrong.append(f"{workload}: affinity is {workload.pod.get('affinity')}, must be {apart}")
    return wrong


def last_words_are_kept(manifests):
    """Why a process left by itself is in its last line, which `kubectl describe` shows (deploy/README.md, Alerts)."""
    return [f"{workload}: has no terminationMessagePolicy" for workload in manifests.workloads()
            if "terminationMessagePolicy" not in workload.container()]


def pods_are_spread_over_nodes(manifests):
    wrong = []
    for workload in manifests.members():
        if workload.kind == "LeaderWorkerSet":
            topology = workload.manifest["metadata"].get("annotations", {}).get(EXCLUSIVE_TOPOLOGY)
            if topology != NODE:
                wrong.append(f"{workload}: its groups have {topology} for themselves, must be {NODE}")
            continue
        spreads = workload.pod.get("topologySpreadConstraints", [])
        found = [(each.get("topologyKey"), each.get("maxSkew"), each.get("labelSelector")) for each in spreads]
        if found != [(NODE, 1, {"matchLabels": workload.identity()})]:
            wrong.append(f"{workload}: spreads {found}, must spread its own pods over {NODE}")
        for each in spreads:
            # Nodes that take none of its pods would count as empty, and nothing could run beside them.
            strict = each.get("whenUnsatisfiable") == "DoNotSchedule"
            if strict and each.get("nodeTaintsPolicy") != "Honor":
                wrong.append(f"{workload}: spreads its pods over tainted nodes, too")
            if strict and manifests.of("PersistentVolume") and DISKS_LABEL not in workload.pod.get("nodeSelector", {}):
                wrong.append(f"{workload}: spreads its pods over nodes without its volume, too")
    return wrong


def budgets_let_some_go(manifests):
    """One at least, or no node can be drained; not all; and no more shards than the others have room for."""
    wrong = []
    for workload in manifests.members():
        budget = manifests.find("PodDisruptionBudget", workload.name)
        if budget is None:
            continue  # references.py
        num_pods = len(workload.pod_names(least_replicas(manifests, workload)))
        allowed = let_go(budget["spec"], num_pods)
        if allowed is None or not 1 <= allowed < num_pods:
            wrong.append(f"{title(budget)} lets {allowed} of {num_pods} go, must be 1 at least, and not all")
        if workload.role == "expert":
            failed = int(cluster_text.first(cluster_file(manifests, workload), "limits", "max_failed_shards") or 1)
            if allowed is None or allowed > failed:
                wrong.append(f"{title(budget)} lets {allowed} go, and limits.max_failed_shards is {failed}")
            size = workload.spec.get("leaderWorkerTemplate", {}).get("size", 1)
            if size > failed:
                wrong.append(f"{workload} rolls {size} shards at a time, and limits.max_failed_shards is {failed}")
    return wrong


def let_go(budget, num_pods):
    """None: it does not say how many, in whole ones."""
    least, most = budget.get("minAvailable"), budget.get("maxUnavailable")
    if least is None and isinstance(most, int):
        return most
    return num_pods - least if most is None and isinstance(least, int) else None
