"""What a pod may do, and with whom it may talk. Each check returns what is wrong, one sentence each."""

OUR_USER = 65532
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
                      "secret"}

# The edges of the design: who calls whom at which port. Anything else is refused.
EDGES = {
    ("clients", "router", "7400"),
    ("router", "router", "7400"),
    ("router", "attention", "7410"),
    ("router", "expert", "7420"),
    ("attention", "expert", "7420"),
    ("expert", "expert", "7420"),
    ("prometheus", "router", "9400"),
    ("prometheus", "attention", "9400"),
    ("prometheus", "expert", "9400"),
    ("router", "dns", "53"),
    ("attention", "dns", "53"),
    ("expert", "dns", "53"),
}
# NCCL meets at ports that the system chooses.
NCCL_EDGES = {(a, b, "1024-65535") for a in ("attention", "expert") for b in ("attention", "expert")}
# Namespaces, by the labels that select them.
NAMESPACES = {
    ("orrery/clients", "allowed"): "clients",
    ("kubernetes.io/metadata.name", "monitoring"): "prometheus",
    ("kubernetes.io/metadata.name", "kube-system"): "dns",
}


def pods_are_restricted(manifests):
    """As Kubernetes' level `restricted` demands, and a read-only root besides."""
    wrong = []
    for namespace in manifests.of("Namespace"):
        level = namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
        if level != "restricted":
            wrong.append(f"Namespace {namespace['metadata']['name']} enforces {level}, not restricted")
    for workload in manifests.workloads():
        wrong += [f"{workload}: {problem}" for problem in pod_problems(workload)]
        for container in workload.containers():
            wrong += [f"{workload}, container {container['name']}: {problem}"
                      for problem in container_problems(container)]
    return wrong


def pod_problems(workload):
    pod = workload.pod
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if context.get("runAsUser") != OUR_USER:
        yield f"runAsUser is {context.get('runAsUser')}, the image is for {OUR_USER}"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    if pod.get("automountServiceAccountToken") is not False:
        yield "a token of its service account is mounted"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is of kind {', '.join(sorted(kinds))}"


def container_problems(container):
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("privileged"):
        yield "privileged"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "does not drop all capabilities"
    added = context.get("capabilities", {}).get("add", [])
    if added:
        yield f"adds the capabilities {', '.join(added)}"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "has a port of its host"
    if any("secretKeyRef" in variable.get("valueFrom", {}) for variable in container.get("env", [])):
        yield "has a secret in its environment"


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
            if container.get("imagePullPolicy") == "Always":
                wrong.append(f"{workload}: pulls {image} whenever it starts")
    versions = {image.rpartition(":")[2] for image in images(manifests)}
    if len(versions) > 1:
        wrong.append(f"images of several versions: {', '.join(sorted(versions))}")
    return wrong


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


def edges_are_those_of_the_design(manifests):
    roles = {workload.role: workload.labels for workload in manifests.members()}
    wrong = []
    if not any(policy["spec"]["podSelector"] == {} and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
               and not policy["spec"].get("ingress") and not policy["spec"].get("egress")
               for policy in manifests.of("NetworkPolicy")):
        wrong.append("no NetworkPolicy denies what the others do not allow")
    incoming, outgoing = set(), set()
    for policy in manifests.of("NetworkPolicy"):
        for role in (role for role, labels in roles.items() if selects(policy["spec"]["podSelector"], labels)):
            for rule in policy["spec"].get("ingress", []):
                incoming |= {(peer, role, port) for peer in peers(rule.get("from"), roles) for port in ports(rule)}
            for rule in policy["spec"].get("egress", []):
                outgoing |= {(role, peer, port) for peer in peers(rule.get("to"), roles) for port in ports(rule)}
    within = set(roles)
    expected = {edge for edge in EDGES | (NCCL_EDGES if uses_nccl(manifests) else set())
                if all(end in within or end in ("clients", "prometheus", "dns") for end in edge[:2])}
    # An edge between two of our pods has to be allowed at both.
    for a, b, port in sorted(expected):
        if a in within and (a, b, port) not in outgoing:
            wrong.append(f"{a} may not call {b} at {port}: no egress")
        if b in within and (a, b, port) not in incoming:
            wrong.append(f"{a} may not call {b} at {port}: no ingress")
    wrong += [f"{a} may call {b} at {port}, which the design does not know"
              for a, b, port in sorted((incoming | outgoing) - expected)]
    return wrong


def uses_nccl(manifests):
    return any("EXCHANGE_NCCL" in text for each in manifests.of("ConfigMap") for text in each["data"].values())


def selects(selector, labels):
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
               for expression in selector.get("matchExpressions", []))


def peers(given, roles):
    if not given:
        return ["anybody"]
    found = []
    for peer in given:
        if "namespaceSelector" in peer:
            labels = peer["namespaceSelector"].get("matchLabels", {})
            found += [NAMESPACES.get(label, f"namespaces with {label[0]}={label[1]}") for label in labels.items()]
            found += ["anybody"] if not labels else []
        elif "podSelector" in peer:
            found += [role for role, labels in roles.items() if selects(peer["podSelector"], labels)]
        else:
            found.append(str(peer.get("ipBlock", "anybody")))
    return found


def ports(rule):
    if not rule.get("ports"):
        return ["any"]
    return [f"{port['port']}-{port['endPort']}" if "endPort" in port else str(port["port"]) for port in rule["ports"]]
