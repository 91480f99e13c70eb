"""What a pod may do. Each check returns what is wrong, one sentence each."""

from objects import NAMESPACE

OUR_USER = 65532
# The level `restricted` of Kubernetes, and a read-only root besides. A container says nothing that overrides its pod.
POD_CONTEXT = {
    "runAsNonRoot": True,
    "runAsUser": OUR_USER,
    "runAsGroup": OUR_USER,
    "fsGroup": OUR_USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
NAMESPACE_LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


def pods_are_restricted(manifests):
    wrong = []
    for workload in manifests.workloads():
        wrong += [f"{workload}: {problem}" for problem in pod_problems(workload.pod)]
        for container in workload.containers():
            wrong += [f"{workload}, container {container['name']}: {problem}"
                      for problem in container_problems(container)]
    return wrong


def differences(context, expected):
    return [f"securityContext.{field} is {context.get(field)}, must be {expected.get(field)}"
            for field in sorted(set(context) | set(expected)) if context.get(field) != expected.get(field)]


def pod_problems(pod):
    yield from differences(pod.get("securityContext", {}), POD_CONTEXT)
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    for field in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(field) is not False:
            yield f"{field} is not false"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if len(kinds) != 1 or not kinds <= {"persistentVolumeClaim", "projected"}:
            yield f"volume {volume['name']} is of kind {', '.join(sorted(kinds))}"


def container_problems(container):
    yield from differences(container.get("securityContext", {}), CONTAINER_CONTEXT)
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "has a port of its host"
    for variable in container.get("env", []):
        if set(variable) != {"name", "value"}:
            yield f"the variable {variable['name']} comes from elsewhere: secrets are files"


def the_namespace_is_restricted(manifests):
    names = [namespace["metadata"]["name"] for namespace in manifests.of("Namespace")]
    wrong = [] if names == [NAMESPACE] else [f"Namespace is {', '.join(names) or 'missing'}, must be {NAMESPACE}"]
    for namespace in manifests.of("Namespace"):
        labels = namespace["metadata"].get("labels", {})
        wrong += [f"Namespace {namespace['metadata']['name']}: {label} is {labels.get(label)}, must be {level}"
                  for label, level in NAMESPACE_LABELS.items() if labels.get(label) != level]
    return wrong


def images(manifests):
    return {container["image"] for workload in manifests.workloads() for container in workload.containers()}


def images_are_pinned(manifests):
    wrong = []
    for workload in manifests.workloads():
        for container in workload.containers():
            image = container["image"]
            tag = image.rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest") and "@sha256:" not in image:
                wrong.append(f"{workload}: the image {image} is not pinned to a version")
            if container.get("imagePullPolicy") != "IfNotPresent":
                wrong.append(f"{workload}: imagePullPolicy of {image} is not IfNotPresent")
    versions = {image.rpartition(":")[2] for image in images(manifests)}
    if len(versions) > 1:
        wrong.append(f"images of several versions: {', '.join(sorted(versions))}")
    return wrong


def images_are_ours(manifests, image):
    """`image` is what base/image says; the one for GPUs is named after it."""
    repository, _, version = image.rpartition(":")
    ours = {f"{repository}:{version}", f"{repository}-cuda:{version}"}
    return [f"the image {other} is neither of {', '.join(sorted(ours))}" for other in sorted(images(manifests) - ours)]


def requests_equal_limits(manifests):
    wrong = []
    for workload in manifests.workloads():
        for container in workload.containers():
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            if requests != limits:
                wrong.append(f"{workload}, container {container['name']}: requests {requests}, limits {limits}")
            for name in ("cpu", "memory"):
                if name not in limits:
                    wrong.append(f"{workload}, container {container['name']}: no limit of {name}")
            if not str(limits.get("cpu", "1")).isdigit():
                wrong.append(f"{workload}, container {container['name']}: {limits['cpu']} processors, not whole ones")
    return wrong
