"""What is there: kinds, namespaces, names, fields of pods. Each check returns what is wrong, one sentence each.

A kind or a field that stands in none of these lists would be one that no check looks at.
"""

import collections

from manifests import ROLES

NAMESPACE = "orrery"
# Kinds that lie in a namespace, and those that do not, with their versions.
WITHIN_NAMESPACE = {
    "Certificate": "cert-manager.io/v1",
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Issuer": "cert-manager.io/v1",
    "Job": "batch/v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "StatefulSet": "apps/v1",
}
BESIDE_NAMESPACES = {
    "ClusterIssuer": "cert-manager.io/v1",
    "Namespace": "v1",
    "PersistentVolume": "v1",
    "PriorityClass": "scheduling.k8s.io/v1",
}
# Fields of an object, of its metadata, and of its spec, for kinds of Kubernetes' own; those of operators are in
# custom_kinds.py.
FIELDS = {"apiVersion", "automountServiceAccountToken", "data", "description", "kind", "metadata", "preemptionPolicy",
          "spec", "value"}
METADATA_FIELDS = {"labels", "name", "namespace"}
SET_FIELDS = {"minReadySeconds", "replicas", "selector", "template"}
SPEC_FIELDS = {
    "Deployment": SET_FIELDS,
    "HorizontalPodAutoscaler": {"behavior", "maxReplicas", "metrics", "minReplicas", "scaleTargetRef"},
    "Job": {"activeDeadlineSeconds", "backoffLimit", "completionMode", "completions", "parallelism", "template",
            "ttlSecondsAfterFinished"},
    "NetworkPolicy": {"egress", "ingress", "podSelector", "policyTypes"},
    "PersistentVolume": {"accessModes", "capacity", "claimRef", "local", "nodeAffinity",
                         "persistentVolumeReclaimPolicy", "storageClassName"},
    "PersistentVolumeClaim": {"accessModes", "resources", "storageClassName", "volumeName"},
    "PodDisruptionBudget": {"maxUnavailable", "minAvailable", "selector"},
    "Service": {"clusterIP", "ports", "publishNotReadyAddresses", "selector"},
    "StatefulSet": SET_FIELDS | {"podManagementPolicy", "serviceName", "updateStrategy"},
}
POD_FIELDS = {
    "affinity", "automountServiceAccountToken", "containers", "enableServiceLinks", "nodeSelector", "priorityClassName",
    "restartPolicy", "securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "tolerations",
    "topologySpreadConstraints", "volumes",
}
CONTAINER_FIELDS = {
    "args", "command", "env", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports",
    "readinessProbe", "resources", "securityContext", "startupProbe", "terminationMessagePolicy", "volumeMounts",
}
# Fields that hold one of a few words, which the schemas of Kubernetes, as published, do not list.
WORDS = {
    "accessModes": {"ReadWriteMany", "ReadWriteOnce"},
    "appProtocol": {"grpc"},
    "completionMode": {"Indexed"},
    "effect": {"NoSchedule"},
    "nodeTaintsPolicy": {"Honor"},
    "operator": {"DoesNotExist", "Exists", "In", "NotIn"},
    "persistentVolumeReclaimPolicy": {"Retain"},
    "preemptionPolicy": {"Never"},
    "protocol": {"TCP", "UDP"},
    "terminationMessagePolicy": {"FallbackToLogsOnError"},
    "topologyKey": {"kubernetes.io/hostname"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
}
# What comes before the members, by the label of `kubectl apply -l` (deploy/README.md, Install).
STEP = "orrery/step"
STEPS = {"PersistentVolumeClaim orrery-models": "models", "PersistentVolume orrery-models": "models",
         "PersistentVolumeClaim orrery-checkpoint": "checkpoint"}
PRIORITIES = {"Job": "orrery-preparation"}  # members: orrery-serving
RESTARTS = {"Job": "OnFailure", "Pod": "Never"}  # members: Always


def title(manifest):
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def kinds_are_known(manifests):
    known = WITHIN_NAMESPACE | BESIDE_NAMESPACES
    return [f"{title(each)}: {each['apiVersion']} {each['kind']} is not known to these checks"
            for each in manifests.objects if known.get(each["kind"]) != each["apiVersion"]]


def objects_are_in_the_namespace(manifests):
    """Each once."""
    wrong = []
    for each in manifests.objects:
        namespace = each["metadata"].get("namespace")
        expected = None if each["kind"] in BESIDE_NAMESPACES else NAMESPACE
        if namespace != expected:
            wrong.append(f"{title(each)} is in the namespace {namespace}, must be in {expected}")
    times = collections.Counter(title(each) for each in manifests.objects)
    return wrong + [f"{name} is there {count} times" for name, count in times.items() if count > 1]


def words_are_known(manifests):
    return [f"{title(each)}: {field} is {word}, should be {' or '.join(sorted(WORDS[field]))}"
            for each in manifests.objects for field, word in words(each) if word not in WORDS[field]]


def words(value):
    """(field, word) of all fields with such a word in it, lists of them word by word."""
    if isinstance(value, list):
        for inner in value:
            yield from words(inner)
    if isinstance(value, dict):
        for field, inner in value.items():
            if field in WORDS:
                yield from ((field, word) for word in (inner if isinstance(inner, list) else [inner]))
            else:
                yield from words(inner)


def steps_are_told_by_labels(manifests):
    """Claims of models, and Jobs with their accounts, can be applied before the rest, and the rest without them."""
    steps = STEPS | {f"{kind} {workload.name}": "models" for workload in manifests.workloads()
                     if workload.kind == "Job" for kind in ("Job", "ServiceAccount")}
    wrong = []
    for each in manifests.objects:
        step = each["metadata"].get("labels", {}).get(STEP)
        if step != steps.get(title(each)):
            wrong.append(f"{title(each)}: label {STEP} is {step}, must be {steps.get(title(each))}")
    return wrong


def objects_have_known_fields(manifests):
    wrong = []
    for each in manifests.objects:
        wrong += [f"{title(each)}: {field} is not expected" for field in sorted(set(each) - FIELDS)]
        wrong += [f"{title(each)}: metadata.{field} is not expected"
                  for field in sorted(set(each["metadata"]) - METADATA_FIELDS)
                  if (each["kind"], field) != ("LeaderWorkerSet", "annotations")]  # lifecycle.py
        if each["kind"] in SPEC_FIELDS:
            wrong += [f"{title(each)}: spec.{field} is not expected"
                      for field in sorted(set(each["spec"]) - SPEC_FIELDS[each["kind"]])]
    return wrong


def pods_have_known_fields(manifests):
    wrong = []
    for workload in manifests.workloads():
        wrong += [f"{workload}: {field} of a pod is not expected" for field in sorted(set(workload.pod) - POD_FIELDS)]
        wrong += [f"{workload}: metadata.{field} of a pod is not expected"
                  for field in sorted(workload.metadata_fields - METADATA_FIELDS)]
        if [each["name"] for each in workload.pod["containers"]] != [workload.role or workload.name]:
            wrong.append(f"{workload}: must have one container, named {workload.role or workload.name}")
        if workload.kind not in ("Job", "Pod") and workload.role not in ROLES:
            wrong.append(f"{workload}: its pods say of no role that they have it, but {workload.role}")
        restart = workload.pod.get("restartPolicy", "Always")
        if restart != RESTARTS.get(workload.kind, "Always"):
            wrong.append(f"{workload}: restartPolicy is {restart}, must be {RESTARTS.get(workload.kind, 'Always')}")
        for container in workload.containers():
            wrong += [f"{workload}: {field} of a container is not expected"
                      for field in sorted(set(container) - CONTAINER_FIELDS)]
    return wrong


def accounts_and_priorities_are_their_own(manifests):
    """A service account of each workload's own, with no token; serving before preparing."""
    wrong = []
    for workload in manifests.workloads():
        account = manifests.find("ServiceAccount", workload.name)
        if account is None or workload.pod.get("serviceAccountName") != workload.name:
            wrong.append(f"{workload}: its ServiceAccount is {workload.pod.get('serviceAccountName')}, must be "
                         f"{workload.name}, and there")
        elif account.get("automountServiceAccountToken") is not False:
            wrong.append(f"ServiceAccount {workload.name} gives pods a token")
        priority = workload.pod.get("priorityClassName")
        expected = PRIORITIES.get(workload.kind, "orrery-serving")
        if priority != expected or not manifests.find("PriorityClass", expected):
            wrong.append(f"{workload}: its PriorityClass is {priority}, must be {expected}, and there")
    serving, preparation = (manifests.find("PriorityClass", name) or {}
                            for name in ("orrery-serving", "orrery-preparation"))
    if not serving.get("value", 0) > preparation.get("value", 0) or preparation.get("preemptionPolicy") != "Never":
        wrong.append("PriorityClass orrery-preparation must come after orrery-serving, and push nobody out")
    return wrong
