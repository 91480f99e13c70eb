"""objects.py and security.py: what is there, and what pods may do."""

import objects
import security
from mutants.mutation import container, expect, expect_each, pod, workload


def kinds_that_no_check_knows(overlays):
    def add(kind, version):
        return lambda m: m.objects.append({"apiVersion": version, "kind": kind, "metadata": {"name": "other"}})
    expect_each(objects.kinds_are_known, overlays.cpu, [
        (add("DaemonSet", "apps/v1"), "DaemonSet other", "not known"),
        (add("CronJob", "batch/v1"), "CronJob other"),
        (add("Role", "rbac.authorization.k8s.io/v1"), "Role other"),
        (add("StatefulSet", "apps/v1beta1"), "apps/v1beta1 StatefulSet is not known"),
    ])


def objects_of_other_namespaces(overlays):
    def move(kind, name):
        return lambda m: m.find(kind, name)["metadata"].update(namespace="default")
    expect_each(objects.objects_are_in_the_namespace, overlays.cpu, [
        (move("Service", "expert"), "Service expert is in the namespace default"),
        (move("NetworkPolicy", "default-deny"), "NetworkPolicy default-deny"),
        (lambda m: m.of("ConfigMap")[0]["metadata"].pop("namespace"), "in the namespace None, must be in orrery"),
        (move("PriorityClass", "orrery-serving"), "must be in None"),
        (lambda m: m.objects.append(m.find("Service", "expert")), "Service expert is there 2 times"),
    ])


def fields_that_no_check_knows(overlays):
    expect_each(objects.objects_have_known_fields, overlays.cpu, [
        (lambda m: m.find("PriorityClass", "orrery-serving").update(globalDefault=True), "globalDefault"),
        (lambda m: m.find("ServiceAccount", "expert").update(secrets=[]), "ServiceAccount expert: secrets"),
        (lambda m: m.find("Service", "expert")["metadata"].update(annotations={"a": "b"}), "metadata.annotations"),
        (lambda m: m.find("Service", "expert")["spec"].update(type="NodePort"), "Service expert: spec.type"),
        (lambda m: workload(m).spec.update(ordinals={"start": 1}), "StatefulSet expert: spec.ordinals"),
    ])
    expect_each(objects.objects_have_known_fields, overlays.packed, [
        (lambda m: workload(m, "pack").spec.update(suspend=True), "Job pack: spec.suspend"),
    ])


def words_that_nobody_knows(overlays):
    def spread(m):
        return pod(m)["topologySpreadConstraints"][0]

    def claim(m):
        return m.find("PersistentVolumeClaim", "orrery-models")["spec"]
    expect_each(objects.words_are_known, overlays.cpu, [
        (lambda m: spread(m).update(whenUnsatisfiable="ScheduleAnyways"), "whenUnsatisfiable is ScheduleAnyways"),
        (lambda m: container(m).update(terminationMessagePolicy="Fallback"), "terminationMessagePolicy is Fallback"),
        (lambda m: claim(m).update(accessModes=["ReadWriteMay"]), "accessModes is ReadWriteMay"),
    ])


def steps_that_labels_do_not_tell(overlays):
    def label(kind, name, step):
        return lambda m: m.find(kind, name)["metadata"].setdefault("labels", {}).update({"orrery/step": step})
    expect_each(objects.steps_are_told_by_labels, overlays.packed, [
        (label("Job", "pack", "model"), "Job pack: label orrery/step is model, must be models"),
        (lambda m: m.find("ServiceAccount", "pack")["metadata"].pop("labels"), "ServiceAccount pack", "must be models"),
        (label("PersistentVolumeClaim", "orrery-checkpoint", "models"), "must be checkpoint"),
        (label("StatefulSet", "expert", "models"), "must be None"),
    ])


def fields_of_pods_that_no_check_knows(overlays):
    expect_each(objects.pods_have_known_fields, overlays.cpu, [
        (lambda m: pod(m).update(hostname="another"), "hostname of a pod"),
        (lambda m: workload(m).manifest["spec"]["template"]["metadata"].update(annotations={"a": "b"}),
         "metadata.annotations of a pod"),
        (lambda m: pod(m).update(initContainers=[]), "initContainers of a pod"),
        (lambda m: pod(m).update(dnsPolicy="Default"), "dnsPolicy of a pod"),
        (lambda m: pod(m)["containers"].append(dict(container(m), name="another")), "must have one container"),
        (lambda m: container(m).update(name="shard"), "must have one container, named expert"),
        (lambda m: container(m).update(envFrom=[{"secretRef": {"name": "key"}}]), "envFrom of a container"),
        (lambda m: container(m).update(workingDir="/tmp"), "workingDir of a container"),
        (lambda m: pod(m).update(restartPolicy="Never"), "restartPolicy is Never"),
        (lambda m: workload(m).labels.update({"app.kubernetes.io/component": "experts"}), "of no role"),
        (lambda m: workload(m).labels.pop("app.kubernetes.io/component"), "of no role"),
    ])


def accounts_and_priorities_of_others(overlays):
    expect_each(objects.accounts_and_priorities_are_their_own, overlays.cpu, [
        (lambda m: pod(m).update(serviceAccountName="nobody"), "its ServiceAccount is nobody"),
        (lambda m: pod(m).update(serviceAccountName="router"), "its ServiceAccount is router, must be expert"),
        (lambda m: m.objects.remove(m.find("ServiceAccount", "expert")), "must be expert, and there"),
        (lambda m: m.find("ServiceAccount", "expert").update(automountServiceAccountToken=True), "gives pods a token"),
        (lambda m: pod(m).pop("priorityClassName"), "its PriorityClass is None"),
        (lambda m: m.objects.remove(m.find("PriorityClass", "orrery-serving")), "must be orrery-serving, and there"),
        (lambda m: m.find("PriorityClass", "orrery-serving").update(value=-1), "must come after orrery-serving"),
        (lambda m: m.find("PriorityClass", "orrery-preparation").pop("preemptionPolicy"), "push nobody out"),
    ])
    expect_each(objects.accounts_and_priorities_are_their_own, overlays.packed, [
        (lambda m: pod(m, "pack").update(priorityClassName="orrery-serving"), "Job pack", "must be orrery-preparation"),
    ])


def pods_that_may_too_much(overlays):
    context = "securityContext"
    expect_each(security.pods_are_restricted, overlays.cpu, [
        (lambda m: pod(m).update(hostNetwork=True), "hostNetwork"),
        (lambda m: pod(m)[context].update(runAsUser=0), "runAsUser is 0"),
        (lambda m: pod(m)[context].update(runAsNonRoot=False), "runAsNonRoot is False"),
        (lambda m: pod(m)[context].pop("seccompProfile"), "seccompProfile is None"),
        (lambda m: pod(m)[context].update(fsGroup=0), "fsGroup is 0"),
        (lambda m: pod(m)[context].update(supplementalGroups=[0]), "supplementalGroups"),
        (lambda m: pod(m)[context].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "sysctls"),
        (lambda m: pod(m).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
        (lambda m: pod(m)["volumes"].append({"name": "disk", "hostPath": {"path": "/"}}), "hostPath"),
        (lambda m: pod(m)["volumes"].append({"name": "key", "secret": {"secretName": "key"}}), "of kind secret"),
        (lambda m: container(m)[context].update(readOnlyRootFilesystem=False), "readOnlyRootFilesystem is False"),
        (lambda m: container(m)[context].update(capabilities={"drop": []}), "capabilities"),
        (lambda m: container(m)[context]["capabilities"].update(add=["IPC_LOCK"]), "IPC_LOCK"),
        (lambda m: container(m)[context].pop("allowPrivilegeEscalation"), "allowPrivilegeEscalation is None"),
        (lambda m: container(m)[context].update(runAsUser=0), "runAsUser is 0, must be None"),
        (lambda m: container(m)[context].update(runAsNonRoot=False), "container expert", "runAsNonRoot is False"),
        (lambda m: container(m)[context].update(seccompProfile={"type": "Unconfined"}), "Unconfined"),
        (lambda m: container(m)[context].update(procMount="Unmasked"), "procMount"),
        (lambda m: container(m)[context].update(privileged=True), "privileged"),
        (lambda m: container(m)["ports"][0].update(hostPort=7420), "a port of its host"),
        (lambda m: container(m).update(env=[{"name": "NCCL_IB_HCA", "valueFrom": {"secretKeyRef": {}}}]),
         "NCCL_IB_HCA", "secrets are files"),
    ])


def a_namespace_that_allows_more(overlays):
    def labels(m):
        return m.of("Namespace")[0]["metadata"]["labels"]
    expect_each(security.the_namespace_is_restricted, overlays.cpu, [
        (lambda m: m.objects.remove(m.of("Namespace")[0]), "Namespace is missing"),
        (lambda m: labels(m).update({"pod-security.kubernetes.io/enforce": "baseline"}), "enforce is baseline"),
        (lambda m: m.of("Namespace")[0]["metadata"].update(name="orery"), "Namespace is orery"),
        (lambda m: labels(m).pop("pod-security.kubernetes.io/audit"), "audit is None"),
        (lambda m: labels(m).pop("pod-security.kubernetes.io/warn"), "warn is None"),
    ])


def images_without_a_version(overlays):
    expect_each(security.images_are_pinned, overlays.cpu, [
        *((lambda m, image=image: container(m).update(image=image), image, "not pinned")
          for image in ("localhost/orrery", "localhost/orrery:latest", "registry.example:5000/orrery")),
        (lambda m: container(m).update(image="localhost/orrery:0.0.9"), "several versions"),
        (lambda m: container(m).update(imagePullPolicy="Always"), "imagePullPolicy"),
    ])


def images_of_others(overlays):
    def check(manifests):
        return security.images_are_ours(manifests, "localhost/orrery:0.1.0")
    expect_each(check, overlays.cpu, [
        (lambda m, image=image: container(m).update(image=image), f"the image {image}")
        for image in ("localhost/orery:0.1.0", "registry.example/orrery:0.1.0", "localhost/orrery:0.1.1")])


def limits_that_differ_from_requests(overlays):
    def resources(m):
        return container(m)["resources"]
    expect_each(security.requests_equal_limits, overlays.cpu, [
        (lambda m: resources(m)["limits"].update(memory="8Gi"), "StatefulSet expert", "8Gi"),
        (lambda m: resources(m).pop("limits"), "limits {}"),
        (lambda m: container(m).pop("resources"), "no limit of memory"),
        (lambda m: [each.update(cpu="500m") for each in resources(m).values()], "not whole ones"),
    ])
    # A device that only the request names.
    manifests = overlays.h200.copy()
    container(manifests)["resources"]["limits"].pop("rdma/ib")
    expect(security.requests_equal_limits, manifests, "StatefulSet expert", "rdma/ib")


CASES = [kinds_that_no_check_knows, objects_of_other_namespaces, fields_that_no_check_knows, words_that_nobody_knows,
         steps_that_labels_do_not_tell, fields_of_pods_that_no_check_knows,
         accounts_and_priorities_of_others, pods_that_may_too_much, a_namespace_that_allows_more,
         images_without_a_version, images_of_others, limits_that_differ_from_requests]
