"""Do names lead somewhere? Each check takes Manifests and returns what is wrong with them, one sentence each."""

import cluster_text
from manifests import flags

# Made by hand or by others before (deploy/README.md); in podman, volumes of these names.
GIVEN_SECRETS = {"orrery-router-tls", "orrery-attention-tls", "orrery-expert-tls", "orrery-resume-key"}
SECRET_KEYS = {"orrery-resume-key": {"resume.key"}}
TLS_KEYS = {"tls.crt", "tls.key", "ca.crt"}


def selectors_match(manifests):
    wrong = []
    for service in manifests.of("Service"):
        name = service["metadata"]["name"]
        pods = manifests.selected_by(service["spec"]["selector"])
        if not pods:
            wrong.append(f"Service {name} selects no pod")
        for port in service["spec"]["ports"]:
            for workload in pods:
                if port["targetPort"] not in port_names(workload):
                    wrong.append(f"Service {name}: {workload} has no port {port['targetPort']}")
    for workload in manifests.workloads():
        selector = workload.spec.get("selector", {}).get("matchLabels", {})
        if not selector.items() <= workload.labels.items():
            wrong.append(f"{workload}: its selector does not match its own pods")
        for other in manifests.selected_by(selector) if selector else []:
            if other.name != workload.name:
                wrong.append(f"{workload}: its selector matches pods of {other}, too")
        for spread in workload.pod.get("topologySpreadConstraints", []):
            if not spread["labelSelector"]["matchLabels"].items() <= workload.labels.items():
                wrong.append(f"{workload}: spreads other pods than its own")
    return wrong + budgets(manifests) + policies(manifests) + monitors(manifests)


def port_names(workload):
    return {port["name"] for container in workload.containers() for port in container.get("ports", [])}


def budgets(manifests):
    wrong = []
    budgets_of = {}
    for budget in manifests.of("PodDisruptionBudget"):
        name = budget["metadata"]["name"]
        pods = manifests.selected_by(budget["spec"]["selector"]["matchLabels"])
        if len(pods) != 1:
            wrong.append(f"PodDisruptionBudget {name} selects {len(pods)} workloads, should be one")
        for workload in pods:
            budgets_of.setdefault(workload.name, []).append(name)
    for workload in manifests.members():
        found = budgets_of.get(workload.name, [])
        if len(found) != 1:
            # Evictions of a pod with two budgets fail.
            wrong.append(f"{workload} has {len(found)} PodDisruptionBudgets, must have one")
    return wrong


def policies(manifests):
    wrong = []
    for policy in manifests.of("NetworkPolicy"):
        labels = policy["spec"]["podSelector"].get("matchLabels", {})
        if labels and not manifests.selected_by(labels) and not names_an_absent_role(labels, manifests):
            wrong.append(f"NetworkPolicy {policy['metadata']['name']} selects no pod")
    return wrong


def names_an_absent_role(labels, manifests):
    """A dense model has no expert shards, and keeps their policy."""
    return labels.get("app.kubernetes.io/component") == "expert" and not manifests.selected_by(labels) and not any(
        workload.role == "expert" for workload in manifests.members())


def monitors(manifests):
    wrong = []
    for monitor in manifests.of("PodMonitor"):
        pods = manifests.selected_by(monitor["spec"]["selector"]["matchLabels"])
        if set(each.name for each in pods) != set(each.name for each in manifests.members()):
            wrong.append("PodMonitor does not select the pods of all members and no others")
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for workload in pods:
                if endpoint["port"] not in port_names(workload):
                    wrong.append(f"PodMonitor: {workload} has no port {endpoint['port']}")
    return wrong


def scaled_targets_exist(manifests):
    wrong = []
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for scaler in manifests.of(kind):
            target = scaler["spec"]["scaleTargetRef"]
            workload = next((each for each in manifests.workloads()
                             if (each.kind, each.name) == (target["kind"], target["name"])), None)
            if workload is None:
                wrong.append(f"{kind} {scaler['metadata']['name']}: there is no {target['kind']} {target['name']}")
            elif workload.replicas() is not None:
                wrong.append(f"{workload} says replicas, and {kind} {scaler['metadata']['name']} says them as well")
    return wrong


def objects_exist(manifests):
    """Service accounts, priority classes, services of sets, ConfigMaps, secrets, claims."""
    wrong = []
    accounts = {each["metadata"]["name"] for each in manifests.of("ServiceAccount")}
    priorities = {each["metadata"]["name"] for each in manifests.of("PriorityClass")}
    for workload in manifests.workloads():
        if workload.pod.get("serviceAccountName") not in accounts:
            wrong.append(f"{workload}: there is no ServiceAccount {workload.pod.get('serviceAccountName')}")
        if workload.pod.get("priorityClassName") not in priorities:
            wrong.append(f"{workload}: there is no PriorityClass {workload.pod.get('priorityClassName')}")
        if workload.kind == "StatefulSet":
            wrong += service_of_set(manifests, workload)
        for volume in workload.pod.get("volumes", []):
            wrong += [f"{workload}, volume {volume['name']}: {problem}"
                      for problem in volume_problems(manifests, workload, volume)]
    return wrong


def service_of_set(manifests, workload):
    service = manifests.find("Service", workload.spec["serviceName"])
    if service is None:
        return [f"{workload}: there is no Service {workload.spec['serviceName']}"]
    wrong = []
    if service["spec"].get("clusterIP") != "None":
        wrong.append(f"{workload}: its Service is not headless, so that its pods have no names")
    if not service["spec"].get("publishNotReadyAddresses"):
        wrong.append(f"{workload}: its Service hides pods that are not ready, which others must be able to ask")
    if workload.name not in [each.name for each in manifests.selected_by(service["spec"]["selector"])]:
        wrong.append(f"{workload}: its Service does not select it")
    return wrong


def volume_problems(manifests, workload, volume):
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"]["claimName"]
        is_podmans = workload.kind == "Deployment"  # a volume of podman's, made before
        if is_podmans or manifests.find("PersistentVolumeClaim", claim):
            return []
        return [f"there is no claim {claim}"]
    wrong = []
    for source in volume.get("projected", {}).get("sources", []):
        (kind, reference), = source.items()
        if kind == "configMap":
            found = manifests.find("ConfigMap", reference["name"])
            keys = set(found["data"]) if found else None
        elif kind == "secret":
            keys = SECRET_KEYS.get(reference["name"], TLS_KEYS) if reference["name"] in GIVEN_SECRETS else None
        else:
            wrong.append(f"a source of kind {kind} is not expected")
            continue
        if keys is None:
            wrong.append(f"there is no {kind} {reference['name']}")
            continue
        wrong += [f"{kind} {reference['name']} has no key {item['key']}"
                  for item in reference["items"] if item["key"] not in keys]
    return wrong


def volumes_fit_their_claims(manifests):
    """A claim that names its volume is bound to it only if all of this agrees."""
    wrong = []
    for claim in manifests.of("PersistentVolumeClaim"):
        name, wanted = claim["metadata"]["name"], claim["spec"]
        if "volumeName" not in wanted:
            continue
        volume = manifests.find("PersistentVolume", wanted["volumeName"])
        if volume is None:
            wrong.append(f"claim {name}: there is no PersistentVolume {wanted['volumeName']}")
            continue
        found = volume["spec"]
        holder = found["claimRef"]
        if holder != {"namespace": claim["metadata"]["namespace"], "name": name}:
            wrong.append(f"claim {name}: its volume is for {holder['namespace']}/{holder['name']}")
        for field in ("storageClassName", "accessModes"):
            if found.get(field) != wanted.get(field):
                wrong.append(f"claim {name}: {field} {wanted.get(field)}, its volume has {found.get(field)}")
        if found["capacity"]["storage"] != wanted["resources"]["requests"]["storage"]:
            wrong.append(f"claim {name}: wants {wanted['resources']['requests']['storage']}, its volume has "
                         f"{found['capacity']['storage']}")
    return wrong


def files_of(workload, container):
    """What the container sees: {path of a file: None}, and folders whose contents are not known, with a slash."""
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    seen = set()
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        if "projected" not in volume:
            seen.add(mount["mountPath"].rstrip("/") + "/")
            continue
        for source in volume["projected"]["sources"]:
            for reference in source.values():
                seen |= {f"{mount['mountPath']}/{item['path']}" for item in reference["items"]}
    return seen


def sees(seen, path):
    return path in seen or any(folder.endswith("/") and path.startswith(folder) for folder in seen)


def mounted_files_exist(manifests):
    wrong = []
    for workload in manifests.workloads():
        volumes = {volume["name"] for volume in workload.pod.get("volumes", [])}
        mounted = {mount["name"] for container in workload.containers() for mount in container.get("volumeMounts", [])}
        wrong += [f"{workload}: mounts the volume {name}, which is not there" for name in sorted(mounted - volumes)]
        wrong += [f"{workload}: nothing mounts the volume {name}" for name in sorted(volumes - mounted)]
        for container in workload.containers():
            seen = files_of(workload, container)
            wrong += [f"{workload}, container {container['name']}: {what} {path} is not mounted"
                      for what, path in needed_files(manifests, workload, container) if not sees(seen, path)]
    return wrong


def needed_files(manifests, workload, container):
    given = flags(container)
    for flag in ("cluster", "model", "out"):
        if given.get(flag):
            yield f"--{flag}", given[flag]
    if container["name"] != workload.role:
        return
    cluster = cluster_file(manifests, workload)
    yield "model.dir", cluster_text.first(cluster, "model", "dir")
    for name in ("certificate", "private_key", "ca"):
        yield f"tls.{name}", cluster_text.first(cluster, "tls", name)
    if workload.role == "router":
        yield "resume_key_file", cluster_text.first(cluster, "resume_key_file")


def cluster_text_of(manifests, workload):
    """The text of the cluster file that the pods of this workload get."""
    for volume in workload.pod.get("volumes", []):
        for source in volume.get("projected", {}).get("sources", []):
            if "configMap" in source:
                found = manifests.find("ConfigMap", source["configMap"]["name"])
                return found["data"]["cluster.txtpb"] if found else ""
    # In podman, a volume that was filled from the only one.
    return manifests.of("ConfigMap")[0]["data"]["cluster.txtpb"]


def cluster_file(manifests, workload):
    return cluster_text.parse(cluster_text_of(manifests, workload))
