"""Do manifests and cluster files say the same? Each check returns what is wrong, one sentence each."""

import pathlib

import cluster_text
from manifests import MONITORING_PORT, PORTS, flags
from mounts import TLS_FILES, cluster_file
from scalers import scaler_of

# What a Job packs for (`orrery pack`), and the field of `numerics`; what either means where it is not said.
PACKED_NUMERICS = {
    "backend": "cpu",
    "precision": "bf16",
    "row_format": "precision",
    "ffn_weights": "stored",
    "ffn_products": "precision",
    "linear_weights": "stored",
}

# What NCCL is told of the network (overlays/gpu-h200).
NCCL_VARIABLES = {"NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_IB_GID_INDEX"}
NODES_LABELS = {"nvidia.com/gpu.product": "NVIDIA-H200", "orrery/models": ""}
GPU_NODES = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def port_of(address):
    return int(address.rpartition(":")[2])


def ports_agree(manifests):
    """Cluster file, containers: one port for each role."""
    wrong = []
    for workload in manifests.members():
        declared = [{"name": "grpc", "containerPort": PORTS[workload.role]},
                    {"name": "monitoring", "containerPort": MONITORING_PORT}]
        ports = workload.container().get("ports")
        if ports != declared and workload.kind != "Deployment":
            wrong.append(f"{workload}: declares the ports {ports}, should be {declared}")
        for role, port in PORTS.items():
            for member in cluster_text.members(cluster_file(manifests, workload), role):
                if port_of(member["address"][0]) != port:
                    wrong.append(f"{workload}: its cluster file has {member['name'][0]} at {member['address'][0]}, "
                                 f"the port should be {port}")
    return wrong


def least_replicas(manifests, workload):
    scaler = scaler_of(manifests, workload)
    return scaler.least if scaler else workload.replicas()


def most_replicas(manifests, workload):
    scaler = scaler_of(manifests, workload)
    return scaler.most if scaler else workload.replicas()


def names_agree(manifests):
    """Every pod is a member of its own cluster file, and every member that must be there is a pod, always."""
    wrong = []
    always = {name for workload in manifests.members()
              for name in workload.pod_names(least_replicas(manifests, workload))}
    for workload in manifests.members():
        cluster = cluster_file(manifests, workload)
        listed = {member["name"][0]: member for member in cluster_text.members(cluster, workload.role)}
        for pod in workload.pod_names(most_replicas(manifests, workload)):
            if pod not in listed:
                wrong.append(f"{workload}: its cluster file has no {workload.role} named {pod}")
                continue
            address = listed[pod]["address"][0]
            expected = f"{pod}.{workload.spec.get('serviceName', workload.name)}:{PORTS[workload.role]}"
            if workload.kind != "Deployment" and address != expected:
                wrong.append(f"{workload}: its cluster file has {pod} at {address}, not at {expected}")
            if pod in always and cluster_text.is_spare(listed[pod]):
                wrong.append(f"{workload}: {pod} is always there, and spare in its cluster file")
        members = [member for role in PORTS for member in cluster_text.members(cluster, role)]
        for field in ("name", "address"):
            values = [member[field][0] for member in members]
            wrong += [f"{workload}: its cluster file has two members of {field} {value}"
                      for value in sorted(set(values)) if values.count(value) > 1]
        wrong += [f"{workload}: its cluster file needs {member['name'][0]}, and no pod is always there of that name"
                  for member in members if not cluster_text.is_spare(member) and member["name"][0] not in always]
    return sorted(set(wrong))


def routers_know_everybody(manifests):
    """Whoever is there, also another generation; and those that are to stay have the routers' model and numerics."""
    wrong = []
    members = [each for each in manifests.members() if each.role != "router"]
    for router in (each for each in manifests.members() if each.role == "router"):
        cluster = cluster_file(manifests, router)
        listed = {member["name"][0]: member for role in PORTS for member in cluster_text.members(cluster, role)}
        for workload in members:
            pods = workload.pod_names(least_replicas(manifests, workload))
            wrong += [f"{router}: its cluster file does not name {pod}, which is there"
                      for pod in pods if pod not in listed]
            if any(cluster_text.is_retiring(listed.get(pod, {})) for pod in pods):
                continue
            own = cluster_file(manifests, workload)
            wrong += [f"{router}: {field} of its cluster file is {cluster.get(field)}, {workload} has {own.get(field)}"
                      for field in ("model", "numerics") if cluster.get(field) != own.get(field)]
    return wrong


def threads_are_processors(manifests):
    """`num_threads` of a rank and of a shard is the number of processors that its pod has."""
    wrong = []
    for workload in manifests.members():
        if workload.role == "router":
            continue
        processors = workload.container().get("resources", {}).get("limits", {}).get("cpu")
        pods = workload.pod_names(most_replicas(manifests, workload))
        for member in cluster_text.members(cluster_file(manifests, workload), workload.role):
            threads = cluster_text.first(member, "num_threads")
            if member["name"][0] in pods and threads != str(processors):
                wrong.append(f"{workload}: {member['name'][0]} has {processors} processors, and num_threads {threads}")
    return wrong


def computes_on_a_gpu(manifests, workload):
    """A member by its cluster file, a Job by what it packs for."""
    if workload.role in ("attention", "expert"):
        return cluster_text.first(cluster_file(manifests, workload), "numerics", "backend") == "BACKEND_CUDA"
    return flags(workload.container()).get("backend") == "cuda"


def exchanges_by_nccl(manifests, workload):
    return (workload.role in ("attention", "expert")
            and cluster_text.first(cluster_file(manifests, workload), "exchange") == "EXCHANGE_NCCL")


def gpus_agree(manifests):
    """Who computes on a GPU has one; who exchanges rows by NCCL has a port for RDMA, and says which."""
    wrong = []
    for workload in manifests.workloads():
        for_gpu, by_nccl = computes_on_a_gpu(manifests, workload), exchanges_by_nccl(manifests, workload)
        limits = workload.container().get("resources", {}).get("limits", {})
        for resource, is_needed in (("nvidia.com/gpu", for_gpu), ("rdma/ib", by_nccl)):
            needed = "1" if is_needed else None
            if limits.get(resource) != needed:
                wrong.append(f"{workload}: has {limits.get(resource)} of {resource}, needs {needed}")
        variables = {each["name"] for each in workload.container().get("env", [])}
        if variables != (NCCL_VARIABLES if by_nccl else set()):
            wrong.append(f"{workload}: has the variables {sorted(variables)}, needs those of NCCL: {by_nccl}")
    return wrong


def pods_may_run_where_they_must(manifests):
    """Nodes with GPUs take no pods but those that say so: who computes on one, and where models are on those nodes'
    disks, all."""
    on_gpu = {each.name for each in manifests.workloads() if computes_on_a_gpu(manifests, each)}
    all_must = bool(on_gpu and manifests.of("PersistentVolume"))
    wrong = []
    for workload in manifests.workloads():
        expected = [GPU_NODES] if all_must or workload.name in on_gpu else []
        if workload.pod.get("tolerations", []) != expected:
            wrong.append(f"{workload}: tolerates {workload.pod.get('tolerations', [])}, must be {expected}")
        if not workload.pod.get("nodeSelector", {}).items() <= NODES_LABELS.items():
            wrong.append(f"{workload}: is for nodes with {workload.pod['nodeSelector']}, known are {NODES_LABELS}")
    return wrong


def gpu_members_have_the_gpu_image(manifests):
    """And so has what packs for them. Whoever has the cluster file of a GPU cluster has it as well: routers."""
    wrong = []
    for workload in manifests.workloads():
        name = workload.container()["image"].rpartition("/")[2].partition(":")[0]
        backend = None
        if workload.role:
            backend = cluster_text.first(cluster_file(manifests, workload), "numerics", "backend")
        if (backend == "BACKEND_CUDA" or computes_on_a_gpu(manifests, workload)) and not name.endswith("-cuda"):
            wrong.append(f"{workload}: is for GPUs, and its image is {workload.container()['image']}")
    return wrong


def everything_is_encrypted(manifests):
    """But rows by NCCL, which does not encrypt."""
    wrong = []
    for workload in manifests.members():
        cluster = cluster_file(manifests, workload)
        by_nccl = cluster_text.first(cluster, "exchange") == "EXCHANGE_NCCL"
        if cluster_text.first(cluster, "require_encryption") != "true" and not by_nccl:
            wrong.append(f"{workload}: its cluster file does not say require_encryption")
        if cluster_text.first(cluster, "allow_plain_text") == "true":
            wrong.append(f"{workload}: its cluster file allows plain text")
        for field, name in TLS_FILES.items():
            path = cluster_text.first(cluster, "tls", field) or ""
            if pathlib.PurePath(path).name != name:
                wrong.append(f"{workload}: its cluster file has tls.{field} {path or None}, should be {name}")
    return wrong


def jobs_pack_what_members_read(manifests):
    """Numerics and folder are those of a cluster file; a checkpoint's folder has the model's name, too."""
    wrong = []
    clusters = [cluster_file(manifests, workload) for workload in manifests.members()]
    for workload in manifests.workloads():
        if workload.kind != "Job":
            continue
        given = flags(workload.container())
        packed = {"out": given.get("out")} | {name: given.get(name, absent)
                                              for name, absent in PACKED_NUMERICS.items()}
        read = [{"out": cluster_text.first(cluster, "model", "dir")}
                | {name: numeric(cluster, name) for name in PACKED_NUMERICS} for cluster in clusters]
        if packed not in read:
            wrong.append(f"{workload} packs {packed}, members read {read[0]}")
        if "verify" not in given:
            wrong.append(f"{workload}: does not --verify what it has packed")
        if pathlib.PurePath(given.get("model") or "").name != pathlib.PurePath(given.get("out") or "").name:
            wrong.append(f"{workload}: --model={given.get('model')} and --out={given.get('out')} are not of one name")
    return wrong


def numeric(cluster, name):
    """PRODUCT_FORMAT_FP8: fp8."""
    value = cluster_text.first(cluster, "numerics", name)
    return value.rpartition("_")[2].lower() if value else PACKED_NUMERICS[name]
