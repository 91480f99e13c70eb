"""What pods find on their disks: volumes, claims, files. Each check returns what is wrong, one sentence each."""

import cluster_text
from manifests import flags
from units import quantity

# Made by hand or by cert-manager (deploy/README.md); in podman, volumes with the same files.
RESUME_KEY = "orrery-resume-key"
# Fields of `tls` in the cluster file, and the keys of the secret.
TLS_FILES = {"certificate": "tls.crt", "private_key": "tls.key", "ca": "ca.crt"}
# The files of a projected volume are of root and of the pod's group: nobody else reads a private key.
FILE_MODE = 0o440
# Disks of the nodes (deploy/README.md).
NODES_DISK = {
    "local": {"path": "/var/lib/orrery/models"},
    "persistentVolumeReclaimPolicy": "Retain",
    "nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "orrery/models", "operator": "Exists"}]}]}},
}
# The one mount that is written: where Jobs put a packed model.
PACKED = "models"


def secrets_of(workload):
    """Those that it may have: names, and their keys."""
    if workload.role is None:
        return {}
    secrets = {f"orrery-{workload.role}-tls": set(TLS_FILES.values())}
    return secrets | ({RESUME_KEY: {"resume.key"}} if workload.role == "router" else {})


def may_only_read(workload, volume):
    return workload.role is not None or volume != PACKED


def volumes_lead_somewhere(manifests):
    return [f"{workload}, volume {volume['name']}: {problem}" for workload in manifests.workloads()
            for volume in workload.pod.get("volumes", []) for problem in volume_problems(manifests, workload, volume)]


def volume_problems(manifests, workload, volume):
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"]["claimName"]
        is_podmans = workload.kind == "Deployment"  # a volume of podman's, made before
        if not is_podmans and not manifests.find("PersistentVolumeClaim", claim):
            yield f"there is no claim {claim}"
        if may_only_read(workload, volume["name"]) and not volume["persistentVolumeClaim"].get("readOnly"):
            yield f"the claim {claim} is not readOnly"
        return
    projected = volume.get("projected", {})
    if projected.get("defaultMode") != FILE_MODE:
        yield f"defaultMode must be {FILE_MODE:04o}: for the pod's user, and nobody else"
    for source in projected.get("sources", []):
        (kind, reference), = source.items()
        if set(reference) != {"name", "items"}:
            yield f"a source has {', '.join(sorted(reference))}, should have name and items"
        elif kind == "configMap":
            found = manifests.find("ConfigMap", reference["name"])
            yield from key_problems(kind, reference, set(found["data"]) if found else None)
        elif kind == "secret":
            yield from key_problems(kind, reference, secrets_of(workload).get(reference["name"]))
        else:
            yield f"a source of kind {kind} is not expected"


def key_problems(kind, reference, keys):
    if keys is None:
        yield f"there is no {kind} {reference['name']} for it"
        return
    for item in reference["items"]:
        if item["key"] not in keys:
            yield f"{kind} {reference['name']} has no key {item['key']}"
        if set(item) != {"key", "path"} or item["path"].rpartition("/")[2] != item["key"]:
            yield f"{kind} {reference['name']}: {item} should have key and path, and the file the key's name"


def volumes_fit_their_claims(manifests):
    """A claim that names its volume is bound to it only if all of this agrees."""
    wrong = []
    for volume in manifests.of("PersistentVolume"):
        name, holder = volume["metadata"]["name"], manifests.find("PersistentVolumeClaim", volume["metadata"]["name"])
        if holder is None or holder["spec"].get("volumeName") != name:
            wrong.append(f"PersistentVolume {name}: no claim of its name names it")
        wrong += [f"PersistentVolume {name}: {field} is {volume['spec'].get(field)}, must be {value}"
                  for field, value in NODES_DISK.items() if volume["spec"].get(field) != value]
    for claim in manifests.of("PersistentVolumeClaim"):
        name, wanted = claim["metadata"]["name"], claim["spec"]
        size = wanted.get("resources", {}).get("requests", {}).get("storage")
        if not wanted.get("accessModes") or size is None or not quantity(size):
            wrong.append(f"claim {name}: has accessModes {wanted.get('accessModes')} and size {size}")
            continue
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
        if quantity(size) != quantity(found["capacity"]["storage"]):
            wrong.append(f"claim {name}: wants {size}, its volume has {found['capacity']['storage']}")
    return wrong


def mounts_fit_their_volumes(manifests):
    wrong = []
    for workload in manifests.workloads():
        volumes = [volume["name"] for volume in workload.pod.get("volumes", [])]
        mounts = [mount for container in workload.containers() for mount in container.get("volumeMounts", [])]
        mounted = {mount["name"] for mount in mounts}
        wrong += [f"{workload}: mounts the volume {name}, which is not there"
                  for name in sorted(mounted - set(volumes))]
        wrong += [f"{workload}: nothing mounts the volume {name}" for name in sorted(set(volumes) - mounted)]
        wrong += [f"{workload}: two volumes are named {name}" for name in set(volumes) if volumes.count(name) > 1]
        for mount in mounts:
            # With a subPath, files that change later are not seen: certificates.
            wrong += [f"{workload}, mount {mount['mountPath']}: {field} is not expected"
                      for field in sorted(set(mount) - {"name", "mountPath", "readOnly"})]
            if may_only_read(workload, mount["name"]) and not mount.get("readOnly"):
                wrong.append(f"{workload}, mount {mount['mountPath']}: is not readOnly")
    return wrong


def files_of(workload, container):
    """What the container sees: paths of files, and of folders whose contents are not known, with a slash."""
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    seen = set()
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        if "projected" not in volume:
            seen.add(mount["mountPath"].rstrip("/") + "/")
            continue
        for source in volume["projected"]["sources"]:
            for reference in source.values():
                seen |= {f"{mount['mountPath']}/{item['path']}" for item in reference.get("items", [])}
    return seen


def sees(seen, path):
    return path in seen or any(folder.endswith("/") and path.startswith(folder) for folder in seen)


def mounted_files_exist(manifests):
    wrong = []
    for workload in manifests.workloads():
        for container in workload.containers():
            seen = files_of(workload, container)
            for what, path in needed_files(manifests, workload, container):
                if not path:
                    wrong.append(f"{workload}: its cluster file has no {what}")
                elif not sees(seen, path):
                    wrong.append(f"{workload}, container {container['name']}: {what} {path} is not mounted")
    return wrong


def needed_files(manifests, workload, container):
    given = flags(container)
    for flag in ("cluster", "model", "out"):
        if given.get(flag):
            yield f"--{flag}", given[flag]
    if workload.role is None:
        return
    cluster = cluster_file(manifests, workload)
    yield "model.dir", cluster_text.first(cluster, "model", "dir")
    for name in TLS_FILES:
        yield f"tls.{name}", cluster_text.first(cluster, "tls", name)
    if workload.role == "router":
        yield "resume_key_file", cluster_text.first(cluster, "resume_key_file")


def cluster_text_of(manifests, workload):
    """The text of the cluster file that the pods of this workload get; empty if there is none."""
    names = [source["configMap"]["name"] for volume in workload.pod.get("volumes", [])
             for source in volume.get("projected", {}).get("sources", []) if "configMap" in source]
    # In podman, a volume that was filled from the only one.
    found = manifests.find("ConfigMap", names[0]) if names else next(iter(manifests.of("ConfigMap")), None)
    return found["data"].get("cluster.txtpb", "") if found else ""


def cluster_file(manifests, workload):
    return cluster_text.parse(cluster_text_of(manifests, workload))
