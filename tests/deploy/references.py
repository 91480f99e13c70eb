"""Do labels lead to the right pods? Each check takes Manifests and returns what is wrong, one sentence each."""

from manifests import PORTS
from network import selects
from objects import title

# For clients that take any router that is ready (deploy/README.md, Install).
CLIENTS_SERVICE = "orrery"


def sets_select_their_own_pods(manifests):
    """By all the labels that tell them from others, which names of members and evictions rely on."""
    wrong = []
    for workload in manifests.members():
        if workload.kind != "LeaderWorkerSet" and workload.spec.get("selector") != {"matchLabels": workload.identity()}:
            wrong.append(f"{workload}: its selector is not that of its own pods: {workload.identity()}")
    identities = {}
    for workload in manifests.workloads():
        other = identities.setdefault(tuple(sorted(workload.identity().items())), workload)
        if other.name != workload.name:
            wrong.append(f"{workload}: nothing tells its pods from those of {other}")
    return wrong


def services_select_their_pods(manifests):
    wrong = []
    workloads = {workload.name: workload for workload in manifests.members()}
    routers = next((name for name, workload in workloads.items() if workload.role == "router"), None)
    for service in manifests.of("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        for_clients = name == CLIENTS_SERVICE
        workload = workloads.get(routers if for_clients else name)
        if workload is None:
            wrong.append(f"Service {name} is named like no workload")
            continue
        if spec.get("selector") != workload.identity():
            wrong.append(f"Service {name} does not select the pods of {workload}: {workload.identity()}")
        if spec.get("clusterIP") != "None":
            wrong.append(f"Service {name} is not headless: its pods have no names, and calls of one connection one pod")
        if spec.get("publishNotReadyAddresses", False) is for_clients:
            wrong.append(f"Service {name} " + ("shows clients pods that are not ready" if for_clients else
                                               "hides pods that are not ready, which others must be able to ask"))
        port = {"name": "grpc", "port": PORTS[workload.role], "targetPort": "grpc", "appProtocol": "grpc"}
        if spec["ports"] != [port]:
            wrong.append(f"Service {name}: its ports are {spec['ports']}, should be {port}")
    if manifests.find("Service", CLIENTS_SERVICE) is None:
        wrong.append(f"there is no Service {CLIENTS_SERVICE}, which clients call")
    return wrong + [problem for workload in manifests.members() if workload.kind == "StatefulSet"
                    for problem in service_of_set(manifests, workload)]


def service_of_set(manifests, workload):
    name = workload.spec.get("serviceName")
    if name != workload.name or manifests.find("Service", workload.name) is None:
        return [f"{workload}: its Service is {name}, must be {workload.name}, and there"]
    return []


def budgets_select_their_pods(manifests):
    """One for each: evictions of a pod with two budgets fail."""
    wrong = []
    workloads = {workload.name: workload for workload in manifests.members()}
    for budget in manifests.of("PodDisruptionBudget"):
        workload = workloads.get(budget["metadata"]["name"])
        if workload is None:
            wrong.append(f"{title(budget)} is named like no workload")
        elif budget["spec"]["selector"] != {"matchLabels": workload.identity()}:
            wrong.append(f"{title(budget)} does not select the pods of {workload}: {workload.identity()}")
    return wrong + [f"{workload} has no PodDisruptionBudget" for name, workload in workloads.items()
                    if manifests.find("PodDisruptionBudget", name) is None]


def policies_select_pods(manifests):
    roles = {workload.role for workload in manifests.members()}
    return [f"{title(policy)} selects no pod" for policy in manifests.of("NetworkPolicy")
            if not any(selects(policy["spec"]["podSelector"], workload.labels) for workload in manifests.workloads())
            # A dense model has no expert shards, and keeps their policy.
            and (policy["metadata"]["name"] != "expert" or "expert" in roles)]
