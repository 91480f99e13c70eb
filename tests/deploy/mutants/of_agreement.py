"""agreement.py, podman_overlay.py, cluster_text.py: manifests and cluster files, the overlay of a test."""

import agreement
import cluster_text
import podman_overlay
from mutants.mutation import container, edit_args, edit_cluster_file, expect_each, pod, spec, workload


def another_port(overlays):
    expect_each(agreement.ports_agree, overlays.cpu, [
        (lambda m: edit_cluster_file(m, "expert-2.expert:7420", "expert-2.expert:7421"),
         "expert-2 at expert-2.expert:7421"),
        (lambda m: container(m)["ports"][0].update(name="rpc"), "declares the ports", "rpc"),
        (lambda m: container(m)["ports"][1].update(containerPort=9401), "declares the ports", "9401"),
        (lambda m: container(m).pop("ports"), "declares the ports None"),
    ])


def pods_and_members_that_differ(overlays):
    expect_each(agreement.names_agree, overlays.cpu, [
        (lambda m: workload(m).spec.update(replicas=6), "has no expert named expert-5"),
        (lambda m: workload(m).spec.update(replicas=6), "expert-4 is always there, and spare"),
        (lambda m: workload(m).spec.update(replicas=3), "needs expert-3"),
        (lambda m: edit_cluster_file(m, "attention-1.attention:7410", "attention-1.ranks:7410"),
         "attention-1 at attention-1.ranks:7410"),
        (lambda m: edit_cluster_file(m, "expert-3.expert", "expert-2.expert"),
         "two members of address expert-2.expert"),
        (lambda m: edit_cluster_file(m, 'name: "expert-3"', 'name: "expert-2"'), "two members of name expert-2"),
    ])
    expect_each(agreement.names_agree, overlays.lws, [
        (lambda m: edit_cluster_file(m, '"expert-2-3"', '"expert-11"'), "has no expert named expert-2-3"),
        (lambda m: workload(m).spec["leaderWorkerTemplate"].update(size=3), "needs expert-0-3"),
    ])
    expect_each(agreement.names_agree, overlays.podman, [
        (lambda m: edit_cluster_file(m, "10.89.74.21", "10.89.74.20"), "two members of address 10.89.74.20:7420"),
    ])


def routers_that_know_one_generation(overlays):
    def routers_file(m):
        return next(each for each in m.of("ConfigMap") if each["metadata"]["name"].startswith("orrery-cluster-routers"))

    def edit(old, new):
        def change(m):
            data = routers_file(m)["data"]
            assert old in data["cluster.txtpb"], old
            data["cluster.txtpb"] = data["cluster.txtpb"].replace(old, new)
        return change
    expect_each(agreement.routers_know_everybody, overlays.blue_green, [
        (edit('name: "expert-green-3"', 'name: "expert-green-4"'), "does not name expert-green-3, which is there"),
        (edit("WEIGHT_FORMAT_INT8", "WEIGHT_FORMAT_INT4"), "numerics of its cluster file", "expert-green has"),
        (edit(" retiring: true", ""), "numerics of its cluster file", "StatefulSet attention has"),
    ])


def autoscalers_beyond_the_cluster_file(overlays):
    for overlay, kind, least, most in ((overlays.scaled, "HorizontalPodAutoscaler", "minReplicas", "maxReplicas"),
                                       (overlays.keda, "ScaledObject", "minReplicaCount", "maxReplicaCount")):
        expect_each(agreement.names_agree, overlay, [
            (lambda m: spec(m, kind, "attention").update({most: 5}), "has no attention named attention-4"),
            (lambda m: spec(m, kind, "attention").update({least: 1}), "needs attention-1"),
            (lambda m: spec(m, kind, "attention").update({least: 3}), "attention-2 is always there, and spare"),
        ])


def threads_without_processors(overlays):
    expect_each(agreement.threads_are_processors, overlays.cpu, [
        (lambda m: container(m)["resources"]["limits"].update(cpu="8"), "expert-0 has 8 processors, and num_threads 1"),
        (lambda m: edit_cluster_file(m, 'expert-3.expert:7420" num_threads: 1', 'expert-3.expert:7420"'),
         "num_threads None"),
    ])


def members_without_their_devices(overlays):
    def limits(m, name="attention"):
        return container(m, name)["resources"]["limits"]
    expect_each(agreement.gpus_agree, overlays.h200, [
        (lambda m: limits(m).pop("nvidia.com/gpu"), "StatefulSet attention: has None of nvidia.com/gpu"),
        (lambda m: limits(m).pop("rdma/ib"), "StatefulSet attention: has None of rdma/ib"),
        (lambda m: limits(m, "expert").update({"nvidia.com/gpu": "2"}), "StatefulSet expert: has 2 of nvidia.com/gpu"),
        (lambda m: limits(m, "router").update({"nvidia.com/gpu": "1"}), "StatefulSet router", "needs None"),
        (lambda m: limits(m, "bring").pop("nvidia.com/gpu"), "Job bring: has None of nvidia.com/gpu"),
        (lambda m: container(m).pop("env"), "StatefulSet expert: has the variables []"),
        (lambda m: container(m)["env"][0].update(name="NCCL_SOCKET_IFNAM"), "'NCCL_SOCKET_IFNAM'"),
    ])
    expect_each(agreement.gpus_agree, overlays.cpu, [
        (lambda m: container(m).update(env=[{"name": "LD_PRELOAD", "value": "/models/x.so"}]), "['LD_PRELOAD']"),
    ])


def pods_that_find_no_node(overlays):
    expect_each(agreement.pods_may_run_where_they_must, overlays.h200, [
        (lambda m: pod(m).pop("tolerations"), "StatefulSet expert: tolerates []"),
        (lambda m: pod(m)["tolerations"][0].update(key="nvidia.com/gpus"), "StatefulSet expert: tolerates"),
        # Its volume is on the same nodes.
        (lambda m: pod(m, "router").pop("tolerations"), "StatefulSet router: tolerates []"),
        (lambda m: pod(m)["nodeSelector"].update({"orrery/models": "yes"}), "StatefulSet expert: is for nodes with"),
        (lambda m: pod(m)["nodeSelector"].update({"nvidia.com/gpu.product": "NVIDIA-H100"}), "is for nodes with"),
    ])
    expect_each(agreement.pods_may_run_where_they_must, overlays.cpu, [
        (lambda m: pod(m).update(tolerations=[{"operator": "Exists"}]), "StatefulSet expert: tolerates"),
    ])


def gpu_members_with_the_image_for_processors(overlays):
    image = "registry.example:5000/orrery:0.1.0"
    expect_each(agreement.gpu_members_have_the_gpu_image, overlays.lws, [
        (lambda m: container(m).update(image=image), "LeaderWorkerSet expert", "orrery:0.1.0"),
        (lambda m: container(m, "bring").update(image=image), "Job bring", "orrery:0.1.0"),
    ])


def what_is_not_encrypted(overlays):
    expect_each(agreement.everything_is_encrypted, overlays.cpu, [
        (lambda m: edit_cluster_file(m, "require_encryption: true", ""), "does not say require_encryption"),
        (lambda m: edit_cluster_file(m, "require_encryption: true", "require_encryption: true allow_plain_text: true"),
         "allows plain text"),
        (lambda m: edit_cluster_file(m, 'private_key: "/etc/orrery/tls/tls.key"', ""), "tls.private_key None"),
        (lambda m: edit_cluster_file(m, "tls/tls.key", "tls/tls.crt"), "tls.private_key /etc/orrery/tls/tls.crt"),
    ])
    expect_each(agreement.everything_is_encrypted, overlays.h200, [
        (lambda m: edit_cluster_file(m, "EXCHANGE_NCCL", "EXCHANGE_GRPC"), "does not say require_encryption"),
    ])


def jobs_that_pack_something_else(overlays):
    for overlay, job in ((overlays.packed, "pack"), (overlays.brought, "bring")):
        expect_each(agreement.jobs_pack_what_members_read, overlay, [
            (lambda m: edit_args(m, job, "row_format=bf16", "row_format=fp8"),
             f"Job {job} packs", "'row_format': 'fp8'"),
            (lambda m: edit_args(m, job, "precision=bf16", "precision=f32"), f"Job {job} packs"),
            (lambda m: edit_args(m, job, "/models/abacus", "/models/abakus"), "'out': '/models/abakus'"),
            (lambda m: edit_args(m, job, "/checkpoint/abacus", "/checkpoint/other"), "are not of one name"),
            (lambda m: container(m, job)["args"].remove("--verify"), "does not --verify"),
            (lambda m: edit_cluster_file(m, "numerics {", "numerics { ffn_weights: WEIGHT_FORMAT_INT8"), "packs"),
        ])
    expect_each(agreement.jobs_pack_what_members_read, overlays.h200, [
        (lambda m: container(m, "bring")["args"].remove("--ffn_products=fp8"), "Job bring packs"),
        (lambda m: container(m, "bring")["args"].remove("--backend=cuda"), "Job bring packs"),
    ])


def podman_with_something_else(overlays):
    def differences(podman):
        return podman_overlay.podman_differs_in_kind_and_addresses_only(overlays.cpu, podman)

    def claim(m, i):
        return pod(m, "attention")["volumes"][i]["persistentVolumeClaim"]
    expect_each(differences, overlays.podman, [
        (lambda m: container(m)["args"].append("--cpu_variant=scalar"), "args", "--cpu_variant=scalar"),
        (lambda m: container(m)["volumeMounts"].pop(), "volumeMounts"),
        (lambda m: edit_cluster_file(m, "drain_ms: 30000", "drain_ms: 1000"), "cluster file: limits"),
        (lambda m: pod(m)["containers"].append(dict(container(m), name="another")), "containers", "another"),
        (lambda m: claim(m, 0).update(claimName="orrery-expert"), "StatefulSet attention, volumes", "orrery-expert"),
        (lambda m: claim(m, 1).update(claimName="other"), "StatefulSet attention, volumes", "other"),
        (lambda m: claim(m, 0).pop("readOnly"), "StatefulSet attention, volumes"),
        (lambda m: workload(m).spec.update(replicas=3), "replicas is 4 in cpu, 3 in podman"),
        (lambda m: container(m).update(env=[]), "env"),
        (lambda m: spec(m, "Service", "expert").update(clusterIP="10.0.0.1"), "objects: Service expert is"),
    ])

    def with_another_file(cpu):
        return podman_overlay.podman_differs_in_kind_and_addresses_only(cpu, overlays.podman)
    expect_each(with_another_file, overlays.cpu, [
        (lambda m: pod(m)["volumes"][0]["projected"]["sources"][1]["secret"]["items"].pop(),
         "StatefulSet expert, files"),
    ])


def text_that_is_no_cluster_file(_):
    for text in ("router { name: ", "router { }}", "router { name: 'single' }"):
        try:
            cluster_text.parse(text)
        except ValueError:
            continue
        raise AssertionError(f"{text} was taken")


CASES = [another_port, pods_and_members_that_differ, routers_that_know_one_generation,
         autoscalers_beyond_the_cluster_file, threads_without_processors,
         members_without_their_devices, pods_that_find_no_node, gpu_members_with_the_image_for_processors,
         what_is_not_encrypted, jobs_that_pack_something_else, podman_with_something_else, text_that_is_no_cluster_file]
