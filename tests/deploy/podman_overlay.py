"""overlays/podman is overlays/cpu but for the kind of object, replicas and addresses: same image, command, arguments,
environment, mounts. Its own kustomization.yaml says what differs, and why.
"""

import re

import cluster_text
from mounts import cluster_file, files_of
from objects import title

# What podman does not take, or takes for something else.
LEFT_OUT_OF_CONTAINERS = {"ports", "startupProbe", "readinessProbe", "livenessProbe"}
LEFT_OUT_OF_SETS = {"serviceName", "podManagementPolicy", "updateStrategy"}
DIFFERENT_KINDS = {"StatefulSet", "Deployment", "ConfigMap", "PersistentVolumeClaim"}
# What tests/containers puts into the volume orrery-ROLE.
FILES = {"/etc/orrery/cluster.txtpb", *(f"/etc/orrery/tls/{name}" for name in ("tls.crt", "tls.key", "ca.crt"))}
ROUTERS_FILES = {"/etc/orrery/keys/resume.key"}


def podman_differs_in_kind_and_addresses_only(cpu, podman):
    wrong = []
    theirs = {workload.name: workload for workload in podman.workloads()}
    for ours in cpu.workloads():
        other = theirs.pop(ours.name, None)
        if other is None:
            wrong.append(f"{ours} is not in the overlay podman")
            continue
        if (ours.kind, other.kind) != ("StatefulSet", "Deployment"):
            wrong.append(f"{ours} became a {other.kind}")
        wrong += compare(f"{ours}", without(ours.spec, LEFT_OUT_OF_SETS | {"template"}),
                         without(other.spec, {"template"}))
        wrong += compare(f"{ours}, labels", ours.labels, other.labels)
        wrong += compare(f"{ours}, pod", without(ours.pod, {"containers", "volumes"}),
                         without(other.pod, {"containers", "volumes"}))
        wrong += compare(f"{ours}, volumes", {volume["name"]: as_podman_has_it(ours, volume)
                                              for volume in ours.pod["volumes"]},
                         {volume["name"]: volume for volume in other.pod["volumes"]})
        wrong += compare(f"{ours}, containers", [each["name"] for each in ours.pod["containers"]],
                         [each["name"] for each in other.pod["containers"]])
        wrong += compare(f"{ours}, container", without(ours.container(), LEFT_OUT_OF_CONTAINERS), other.container())
        files = {file for file in files_of(ours, ours.container()) if not file.endswith("/")}
        wrong += compare(f"{ours}, files", files, FILES | (ROUTERS_FILES if ours.role == "router" else set()))
        wrong += compare(f"{ours}, cluster file", without_places(cluster_file(cpu, ours)),
                         without_places(cluster_file(podman, other)))
    wrong += [f"{other} is not in the overlay cpu" for other in theirs.values()]
    return wrong + compare("objects", other_objects(cpu), other_objects(podman))


def other_objects(manifests):
    return {title(each): each for each in manifests.objects if each["kind"] not in DIFFERENT_KINDS}


def without(block, names):
    return {name: value for name, value in block.items() if name not in names}


def as_podman_has_it(workload, volume):
    """A projected volume is one of podman's, with the same files."""
    if "projected" not in volume:
        return volume
    return {"name": volume["name"],
            "persistentVolumeClaim": {"claimName": f"orrery-{workload.role}", "readOnly": True}}


def without_places(cluster):
    """Names as the pods of a StatefulSet have them, and no addresses."""
    def without_place(value):
        if not isinstance(value, dict) or "address" not in value:
            return value
        return dict(value, name=[re.sub(r"-pod-(\d+)$", r"-\1", cluster_text.first(value, "name"))], address=[])
    return {name: [without_place(value) for value in values] for name, values in cluster.items()}


def compare(where, ours, theirs):
    if ours == theirs:
        return []
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return [f"{where}: {ours} in cpu, {theirs} in podman"]
    return [f"{where}: {name} is {ours.get(name)} in cpu, {theirs.get(name)} in podman"
            for name in sorted(set(ours) | set(theirs)) if ours.get(name) != theirs.get(name)]
