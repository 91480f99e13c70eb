"""references.py and mounts.py: where labels, names and paths lead."""

import mounts
import references
from mutants.mutation import container, edit_cluster_file, expect_each, pod, spec, workload

COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"


def sets_that_select_other_pods(overlays):
    def labels(m):
        return workload(m).spec["selector"]["matchLabels"]
    expect_each(references.sets_select_their_own_pods, overlays.cpu, [
        (lambda m: labels(m).update({INSTANCE: "another"}), "StatefulSet expert", "not that of its own pods"),
        (lambda m: labels(m).pop(COMPONENT), "StatefulSet expert", "not that of its own pods"),
        (lambda m: workload(m).labels.update({COMPONENT: "attention"}), "nothing tells its pods from those of"),
    ])


def services_that_lead_elsewhere(overlays):
    def service(m, name="expert"):
        return spec(m, "Service", name)
    expect_each(references.services_select_their_pods, overlays.cpu, [
        (lambda m: service(m)["selector"].update({COMPONENT: "experts"}), "Service expert does not select"),
        (lambda m: service(m)["selector"].pop(INSTANCE), "Service expert does not select"),
        (lambda m: service(m, "orrery")["selector"].update({COMPONENT: "routr"}), "Service orrery does not select"),
        (lambda m: service(m, "orrery")["selector"].update({COMPONENT: "attention"}), "does not select the pods of"),
        (lambda m: service(m, "orrery").pop("clusterIP"), "Service orrery is not headless"),
        (lambda m: service(m, "orrery").update(publishNotReadyAddresses=True), "shows clients pods that are not ready"),
        (lambda m: m.objects.remove(m.find("Service", "orrery")), "there is no Service orrery"),
        (lambda m: service(m, "attention").update(publishNotReadyAddresses=False), "Service attention hides pods"),
        (lambda m: service(m)["ports"][0].update(targetPort="monitoring"), "Service expert: its ports"),
        (lambda m: service(m)["ports"][0].update(port=7421), "Service expert: its ports"),
        (lambda m: service(m)["ports"][0].update(name="rpc"), "Service expert: its ports"),
        (lambda m: m.find("Service", "expert")["metadata"].update(name="experts"), "Service experts is named like no"),
        (lambda m: workload(m).spec.update(serviceName="experts"), "its Service is experts"),
        (lambda m: m.objects.remove(m.find("Service", "expert")), "must be expert, and there"),
    ])


def budgets_of_other_pods(overlays):
    def labels(m, name="router"):
        return spec(m, "PodDisruptionBudget", name)["selector"]["matchLabels"]
    expect_each(references.budgets_select_their_pods, overlays.cpu, [
        (lambda m: labels(m).pop(COMPONENT), "PodDisruptionBudget router does not select"),
        (lambda m: labels(m).update({COMPONENT: "expert"}), "PodDisruptionBudget router does not select"),
        (lambda m: m.objects.remove(m.find("PodDisruptionBudget", "expert")),
         "StatefulSet expert has no PodDisruption"),
        (lambda m: m.find("PodDisruptionBudget", "expert")["metadata"].update(name="second"), "named like no workload"),
    ])


def a_policy_of_nobody(overlays):
    expect_each(references.policies_select_pods, overlays.cpu, [
        (lambda m: spec(m, "NetworkPolicy", "monitoring")["podSelector"].update(matchLabels={"a": "b"}),
         "NetworkPolicy monitoring selects no pod"),
    ])


def sources(m, name="expert"):
    return pod(m, name)["volumes"][0]["projected"]["sources"]


def volumes_of_nothing(overlays):
    expect_each(mounts.volumes_lead_somewhere, overlays.cpu, [
        (lambda m: sources(m)[1]["secret"].update(name="no-secret"), "no secret no-secret"),
        (lambda m: sources(m)[1]["secret"].update(name="orrery-router-tls"), "no secret orrery-router-tls for it"),
        (lambda m: sources(m).append(sources(m, "router")[2]), "no secret orrery-resume-key for it"),
        (lambda m: sources(m)[0]["configMap"].update(name="no-config"), "no configMap no-config"),
        (lambda m: sources(m)[0]["configMap"]["items"][0].update(key="cluster.txt"), "no key cluster.txt"),
        (lambda m: sources(m)[1]["secret"]["items"][0].update(path="tls/tls.key"), "the file the key's name"),
        (lambda m: sources(m)[1]["secret"]["items"][0].update(mode=0o444), "'mode'"),
        (lambda m: sources(m)[1]["secret"].pop("items"), "should have name and items"),
        (lambda m: sources(m)[1]["secret"].update(optional=True), "optional"),
        (lambda m: sources(m).append({"serviceAccountToken": {"path": "token"}}), "has path"),
        (lambda m: pod(m)["volumes"][0]["projected"].update(defaultMode=0), "defaultMode must be 0440"),
        (lambda m: pod(m)["volumes"][0]["projected"].update(defaultMode=0o400), "defaultMode"),
        (lambda m: pod(m)["volumes"][0]["projected"].pop("defaultMode"), "defaultMode"),
        (lambda m: pod(m)["volumes"][1]["persistentVolumeClaim"].update(claimName="no-claim"), "no claim no-claim"),
        (lambda m: pod(m)["volumes"][1]["persistentVolumeClaim"].pop("readOnly"), "orrery-models is not readOnly"),
    ])
    expect_each(mounts.volumes_lead_somewhere, overlays.packed, [
        (lambda m: pod(m, "pack")["volumes"][0]["persistentVolumeClaim"].pop("readOnly"), "checkpoint is not readOnly"),
    ])


def a_claim_that_its_volume_does_not_fit(overlays):
    def volume(m):
        return spec(m, "PersistentVolume", "orrery-models")

    def claim(m):
        return spec(m, "PersistentVolumeClaim", "orrery-models")
    expect_each(mounts.volumes_fit_their_claims, overlays.brought, [
        (lambda m: claim(m).update(volumeName="another"), "no PersistentVolume another"),
        (lambda m: volume(m)["claimRef"].update(namespace="default"), "is for default/orrery-models"),
        (lambda m: claim(m).update(storageClassName="local"), "storageClassName local"),
        (lambda m: volume(m).update(accessModes=["ReadWriteOnce"]), "accessModes"),
        (lambda m: claim(m)["resources"]["requests"].update(storage="800Gi"), "claim orrery-models", "wants 800Gi"),
        (lambda m: claim(m).pop("accessModes"), "has accessModes None"),
        (lambda m: claim(m).pop("resources"), "and size None"),
        (lambda m: claim(m).pop("volumeName"), "PersistentVolume orrery-models: no claim of its name names it"),
        (lambda m: volume(m).pop("local"), "local is None"),
        (lambda m: volume(m)["local"].update(path="/var/lib/orrery"), "local is", "must be"),
        (lambda m: volume(m).update(persistentVolumeReclaimPolicy="Delete"), "persistentVolumeReclaimPolicy is Delete"),
        (lambda m: volume(m).pop("nodeAffinity"), "nodeAffinity is None"),
    ])


def mounts_that_do_not_fit(overlays):
    def mount(m, i=1):
        return container(m)["volumeMounts"][i]
    expect_each(mounts.mounts_fit_their_volumes, overlays.cpu, [
        (lambda m: mount(m).update(name="weights"), "mounts the volume weights"),
        (lambda m: mount(m).update(name="weights"), "nothing mounts the volume models"),
        (lambda m: pod(m)["volumes"].append(dict(pod(m)["volumes"][1])), "two volumes are named models"),
        (lambda m: mount(m).pop("readOnly"), "mount /models: is not readOnly"),
        (lambda m: mount(m, 0).update(readOnly=False), "mount /etc/orrery: is not readOnly"),
        (lambda m: mount(m, 0).update(subPath="tls"), "mount /etc/orrery: subPath is not expected"),
        (lambda m: mount(m, 0).update(subPathExpr="tls"), "subPathExpr"),
    ])
    expect_each(mounts.mounts_fit_their_volumes, overlays.packed, [
        (lambda m: container(m, "pack")["volumeMounts"][0].pop("readOnly"), "mount /checkpoint: is not readOnly"),
    ])


def files_that_are_not_mounted(overlays):
    def at(m, i):
        return container(m)["volumeMounts"][i]
    expect_each(mounts.mounted_files_exist, overlays.cpu, [
        (lambda m: edit_cluster_file(m, "tls/ca.crt", "tls/authority.crt"), "tls.ca /etc/orrery/tls/authority.crt"),
        (lambda m: at(m, 0).update(mountPath="/etc/orery"), "--cluster /etc/orrery/cluster.txtpb is not mounted"),
        (lambda m: at(m, 1).update(mountPath="/weights"), "model.dir /models/abacus is not mounted"),
        (lambda m: sources(m)[1]["secret"]["items"].pop(), "tls.ca /etc/orrery/tls/ca.crt is not mounted"),
        (lambda m: edit_cluster_file(m, 'resume_key_file: "/etc/orrery/keys/resume.key"', ""),
         "has no resume_key_file"),
        (lambda m: edit_cluster_file(m, "tls {", "other {"), "its cluster file has no tls.ca"),
        (lambda m: m.of("ConfigMap")[0].update(data={}), "its cluster file has no model.dir"),
        (lambda m: m.objects.remove(m.of("ConfigMap")[0]), "its cluster file has no model.dir"),
    ])


CASES = [sets_that_select_other_pods, services_that_lead_elsewhere, budgets_of_other_pods, a_policy_of_nobody,
         volumes_of_nothing, a_claim_that_its_volume_does_not_fit, mounts_that_do_not_fit, files_that_are_not_mounted]
