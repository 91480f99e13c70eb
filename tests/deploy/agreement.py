"""Do manifests, cluster files and conventions say the same? Each check returns what is wrong, one sentence each."""

import cluster_text
from manifests import flags
from references import cluster_file

PORTS = {"router": 7400, "attention": 7410, "expert": 7420}
MONITORING_PORT = 9400
PROBES = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
# services/*/main.cc, kStopTimeout.
STOP_S = 5
SLACK_S = 5
DEFAULT_DRAIN_MS = 10000


def main_container(workload):
    return next(each for each in workload.pod["containers"] if each["name"] == workload.role)


def port_of(address):
    return int(address.rpartition(":")[2])


def ports_agree(manifests):
    """Cluster file, flags, containers, Services: one port for each role."""
    wrong = []
    for workload in manifests.members():
        container = main_container(workload)
        given = flags(container)
        expected = {"listen_address": PORTS[workload.role], "monitoring_address": MONITORING_PORT}
        for flag, port in expected.items():
            if flag not in given or port_of(given[flag]) != port:
                wrong.append(f"{workload}: --{flag} is {given.get(flag)}, its port should be {port}")
        declared = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        if declared and declared != {"grpc": PORTS[workload.role], "monitoring": MONITORING_PORT}:
            wrong.append(f"{workload}: declares the ports {declared}")
        for role, port in PORTS.items():
            for member in cluster_text.members(cluster_file(manifests, workload), role):
                if port_of(member["address"][0]) != port:
                    wrong.append(f"{workload}: its cluster file has {member['name'][0]} at {member['address'][0]}, "
                                 f"the port should be {port}")
    for service in manifests.of("Service"):
        for workload in manifests.selected_by(service["spec"]["selector"]):
            if workload.role in PORTS and service["spec"]["ports"][0]["port"] != PORTS[workload.role]:
                wrong.append(f"Service {service['metadata']['name']}: its port should be {PORTS[workload.role]}")
    return wrong


def names_agree(manifests):
    """Every pod is a member of its own cluster file, and every member that must be there is a pod."""
    wrong = []
    pods = {name for workload in manifests.members()
            for name in workload.pod_names(most_replicas(manifests, workload))}
    for workload in manifests.members():
        cluster = cluster_file(manifests, workload)
        listed = {member["name"][0]: member for member in cluster_text.members(cluster, workload.role)}
        most = most_replicas(manifests, workload)
        least = workload.replicas() if workload.replicas() is not None else least_replicas(manifests, workload)
        for pod in workload.pod_names(most):
            if pod not in listed:
                wrong.append(f"{workload}: its cluster file has no {workload.role} named {pod}")
                continue
            address = listed[pod]["address"][0]
            expected = f"{pod}.{workload.spec.get('serviceName', workload.name)}:{PORTS[workload.role]}"
            if workload.kind != "Deployment" and address != expected:
                wrong.append(f"{workload}: its cluster file has {pod} at {address}, not at {expected}")
            if pod in workload.pod_names(least) and cluster_text.is_spare(listed[pod]):
                wrong.append(f"{workload}: {pod} is always there, and spare in its cluster file")
        for role in PORTS:
            for member in cluster_text.members(cluster, role):
                name = member["name"][0]
                if not cluster_text.is_spare(member) and name not in pods:
                    wrong.append(f"{workload}: its cluster file needs {name}, and no pod is named that")
    return sorted(set(wrong))


def gpu_members_have_the_gpu_image(manifests):
    """And so has what packs for them."""
    wrong = []
    for workload in manifests.workloads():
        backend = None
        if workload.role:
            backend = cluster_text.first(cluster_file(manifests, workload), "numerics", "backend")
        for container in workload.containers():
            name = container["image"].rpartition("/")[2].partition(":")[0]
            for_gpu = backend == "BACKEND_CUDA" or flags(container).get("backend") == "cuda"
            if for_gpu and not name.endswith("-cuda"):
                wrong.append(f"{workload}, container {container['name']}: is for GPUs, and its image is "
                             f"{container['image']}")
    return wrong


def scaler_of(manifests, workload):
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for scaler in manifests.of(kind):
            if scaler["spec"]["scaleTargetRef"]["name"] == workload.name:
                spec = scaler["spec"]
                return (spec.get("minReplicas", spec.get("minReplicaCount")),
                        spec.get("maxReplicas", spec.get("maxReplicaCount")))
    return None


def most_replicas(manifests, workload):
    scaler = scaler_of(manifests, workload)
    return scaler[1] if scaler else workload.replicas()


def least_replicas(manifests, workload):
    scaler = scaler_of(manifests, workload)
    return scaler[0] if scaler else workload.replicas()


def grace_fits_the_drain(manifests):
    wrong = []
    for workload in manifests.members():
        cluster = cluster_file(manifests, workload)
        drain_s = int(cluster_text.first(cluster, "limits", "drain_ms") or DEFAULT_DRAIN_MS) / 1000
        if workload.role == "router":
            drain_s = 0  # what is under way goes on at another router
        pre_stop_s = (main_container(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {})
                      .get("seconds", 0))
        needed_s = pre_stop_s + drain_s + STOP_S + SLACK_S
        grace_s = workload.pod.get("terminationGracePeriodSeconds", 30)
        if grace_s < needed_s:
            wrong.append(f"{workload}: terminationGracePeriodSeconds is {grace_s}, must be {needed_s:g} at least: "
                         f"preStop {pre_stop_s}, drain {drain_s:g}, stop {STOP_S}, slack {SLACK_S}")
    return wrong


def probes_ask_three_questions(manifests):
    wrong = []
    for workload in manifests.members():
        container = main_container(workload)
        for probe, path in PROBES.items():
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("path") != path or asked.get("port") != "monitoring":
                wrong.append(f"{workload}: its {probe} asks {asked}, should be {path} at port monitoring")
        given = flags(container).get("monitoring_address")
        if not given or port_of(given) not in [port["containerPort"] for port in container.get("ports", [])
                                               if port["name"] == "monitoring"]:
            wrong.append(f"{workload}: port monitoring is not where --monitoring_address={given} listens")
    return wrong


def rooms_and_budgets_agree(manifests):
    """No more shards may be evicted at a time than the others have room for."""
    wrong = []
    for workload in manifests.members():
        if workload.role != "expert":
            continue
        failed = int(cluster_text.first(cluster_file(manifests, workload), "limits", "max_failed_shards") or 1)
        budget = manifests.find("PodDisruptionBudget", workload.name)
        allowed = budget["spec"].get("maxUnavailable") if budget else None
        if not isinstance(allowed, int) or allowed > failed:
            wrong.append(f"PodDisruptionBudget {workload.name} lets {allowed} go, and limits.max_failed_shards is "
                         f"{failed}")
        if workload.kind == "LeaderWorkerSet" and workload.spec["leaderWorkerTemplate"]["size"] > failed:
            wrong.append(f"{workload} rolls {workload.spec['leaderWorkerTemplate']['size']} shards at a time, and "
                         f"limits.max_failed_shards is {failed}")
    return wrong
