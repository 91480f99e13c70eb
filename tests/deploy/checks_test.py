#!/usr/bin/python3
"""The checks find what is wrong: each breaks the cpu overlay, or another one, and expects the sentence."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "containers")]

import agreement  # noqa: E402
import cases  # noqa: E402
import cluster_text  # noqa: E402
import podman_overlay  # noqa: E402
import references  # noqa: E402
import rules  # noqa: E402
import schemas  # noqa: E402
import security  # noqa: E402
from manifests import render, render_component  # noqa: E402

K8S = HERE.parent.parent / "deploy" / "k8s"


class Overlays:
    def __enter__(self):
        self.cpu = render(K8S / "overlays/cpu")
        self.podman = render(K8S / "overlays/podman")
        self.lws = render(K8S / "overlays/gpu-h200-lws")
        self.scaled = render_component(K8S, "autoscaling")
        self.monitored = render_component(K8S, "monitoring")
        self.brought = render_component(K8S, "bring")
        return self

    def __exit__(self, *_):
        pass


def expect(check, manifests, *parts):
    found = check(manifests)
    if not any(all(part in problem for part in parts) for problem in found):
        raise AssertionError(f"{check.__name__} should find {parts}, found {found}")


def broken(manifests):
    """A copy, and its expert shards."""
    manifests = manifests.copy()
    return manifests, next(each for each in manifests.members() if each.role == "expert")


def edit_cluster_file(manifests, old, new):
    data = manifests.of("ConfigMap")[0]["data"]
    assert old in data["cluster.txtpb"], old
    data["cluster.txtpb"] = data["cluster.txtpb"].replace(old, new)


def a_service_that_selects_nothing(overlays):
    manifests, _ = broken(overlays.cpu)
    manifests.find("Service", "expert")["spec"]["selector"]["app.kubernetes.io/component"] = "experts"
    expect(references.selectors_match, manifests, "Service expert selects no pod")
    expect(references.objects_exist, manifests, "its Service does not select it")


def a_set_that_does_not_match_its_pods(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.spec["selector"]["matchLabels"]["app.kubernetes.io/instance"] = "another"
    expect(references.selectors_match, manifests, "StatefulSet expert", "does not match its own pods")


def two_sets_with_one_selector(overlays):
    manifests, expert = broken(overlays.cpu)
    del expert.spec["selector"]["matchLabels"]["app.kubernetes.io/component"]
    expect(references.selectors_match, manifests, "StatefulSet expert", "matches pods of StatefulSet")


def a_port_without_a_name(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.pod["containers"][0]["ports"][0]["name"] = "rpc"
    expect(references.selectors_match, manifests, "has no port grpc")


def a_budget_of_two_sets(overlays):
    manifests, _ = broken(overlays.cpu)
    selector = manifests.find("PodDisruptionBudget", "router")["spec"]["selector"]
    del selector["matchLabels"]["app.kubernetes.io/component"]
    expect(references.selectors_match, manifests, "PodDisruptionBudget router selects 3")
    expect(references.selectors_match, manifests, "StatefulSet expert has 2 PodDisruptionBudgets")


def a_service_that_hides_pods(overlays):
    manifests, _ = broken(overlays.cpu)
    manifests.find("Service", "attention")["spec"]["publishNotReadyAddresses"] = False
    expect(references.objects_exist, manifests, "StatefulSet attention", "hides pods")


def names_that_lead_nowhere(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.pod["serviceAccountName"] = "nobody"
    expert.pod["volumes"][0]["projected"]["sources"][1]["secret"]["name"] = "no-secret"
    expert.pod["volumes"][1]["persistentVolumeClaim"]["claimName"] = "no-claim"
    for part in ("no ServiceAccount nobody", "no secret no-secret", "no claim no-claim"):
        expect(references.objects_exist, manifests, part)


def a_file_that_is_not_mounted(overlays):
    manifests, _ = broken(overlays.cpu)
    edit_cluster_file(manifests, "/etc/orrery/tls/ca.crt", "/etc/orrery/tls/authority.crt")
    expect(references.mounted_files_exist, manifests, "StatefulSet expert", "tls.ca /etc/orrery/tls/authority.crt")


def a_claim_that_its_volume_does_not_fit(overlays):
    for change, part in [
            (lambda volume, claim: claim.update(volumeName="another"), "no PersistentVolume another"),
            (lambda volume, claim: volume["claimRef"].update(namespace="default"), "is for default/orrery-models"),
            (lambda volume, claim: claim.update(storageClassName="local"), "storageClassName local"),
            (lambda volume, claim: volume.update(accessModes=["ReadWriteOnce"]), "accessModes"),
            (lambda volume, claim: claim["resources"]["requests"].update(storage="800Gi"), "wants 800Gi"),
    ]:
        manifests = overlays.brought.copy()
        change(manifests.find("PersistentVolume", "orrery-models")["spec"],
               manifests.find("PersistentVolumeClaim", "orrery-models")["spec"])
        expect(references.volumes_fit_their_claims, manifests, "claim orrery-models", part)


def a_mount_without_a_volume(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.pod["containers"][0]["volumeMounts"][1]["name"] = "weights"
    expect(references.mounted_files_exist, manifests, "mounts the volume weights")
    expect(references.mounted_files_exist, manifests, "nothing mounts the volume models")


def another_port(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.pod["containers"][0]["args"][1] = "--listen_address=0.0.0.0:7421"
    expect(agreement.ports_agree, manifests, "--listen_address is 0.0.0.0:7421")
    manifests, _ = broken(overlays.cpu)
    edit_cluster_file(manifests, "expert-2.expert:7420", "expert-2.expert:7421")
    expect(agreement.ports_agree, manifests, "expert-2 at expert-2.expert:7421")


def a_shard_that_the_cluster_file_does_not_name(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.spec["replicas"] = 6
    expect(agreement.names_agree, manifests, "has no expert named expert-5")
    expect(agreement.names_agree, manifests, "expert-4 is always there, and spare")


def a_member_without_a_pod(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.spec["replicas"] = 3
    expect(agreement.names_agree, manifests, "needs expert-3")


def an_address_of_another_service(overlays):
    manifests, _ = broken(overlays.cpu)
    edit_cluster_file(manifests, "attention-1.attention:7410", "attention-1.ranks:7410")
    expect(agreement.names_agree, manifests, "attention-1 at attention-1.ranks:7410")


def members_of_groups_by_their_names(overlays):
    manifests, _ = broken(overlays.lws)
    edit_cluster_file(manifests, '"expert-2-3"', '"expert-11"')
    expect(agreement.names_agree, manifests, "has no expert named expert-2-3")


def an_autoscaler_beyond_the_cluster_file(overlays):
    manifests = overlays.scaled.copy()
    manifests.find("HorizontalPodAutoscaler", "attention")["spec"]["maxReplicas"] = 5
    expect(agreement.names_agree, manifests, "has no attention named attention-4")


def an_autoscaler_of_nothing(overlays):
    manifests = overlays.scaled.copy()
    manifests.find("HorizontalPodAutoscaler", "attention")["spec"]["scaleTargetRef"]["kind"] = "Deployment"
    expect(references.scaled_targets_exist, manifests, "no Deployment attention")


def a_grace_shorter_than_the_drain(overlays):
    manifests, _ = broken(overlays.cpu)
    edit_cluster_file(manifests, "drain_ms: 30000", "drain_ms: 90000")
    expect(agreement.grace_fits_the_drain, manifests, "StatefulSet attention", "45, must be 100")


def one_question_asked_twice(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.pod["containers"][0]["livenessProbe"]["httpGet"]["path"] = "/readyz"
    expect(agreement.probes_ask_three_questions, manifests, "livenessProbe", "should be /livez")


def more_evictions_than_room(overlays):
    manifests, _ = broken(overlays.cpu)
    manifests.find("PodDisruptionBudget", "expert")["spec"]["maxUnavailable"] = 2
    expect(agreement.rooms_and_budgets_agree, manifests, "lets 2 go")
    manifests, _ = broken(overlays.lws)
    edit_cluster_file(manifests, "max_failed_shards: 4", "max_failed_shards: 1")
    expect(agreement.rooms_and_budgets_agree, manifests, "rolls 4 shards at a time")


def a_gpu_member_with_the_image_for_processors(overlays):
    manifests, expert = broken(overlays.lws)
    expert.pod["containers"][0]["image"] = "registry.example:5000/orrery:0.1.0"
    expect(agreement.gpu_members_have_the_gpu_image, manifests, "LeaderWorkerSet expert", "orrery:0.1.0")
    manifests, _ = broken(overlays.brought)
    bring = next(each for each in manifests.workloads() if each.name == "bring")
    bring.pod["containers"][0]["args"].append("--backend=cuda")
    expect(agreement.gpu_members_have_the_gpu_image, manifests, "Job bring", "orrery:0.1.0")


def pods_that_may_too_much(overlays):
    for change, part in [
            (lambda pod: pod.update(hostNetwork=True), "hostNetwork"),
            (lambda pod: pod["securityContext"].update(runAsUser=0), "runAsUser is 0"),
            (lambda pod: pod["securityContext"].update(runAsNonRoot=False), "runAsNonRoot"),
            (lambda pod: pod["securityContext"].pop("seccompProfile"), "seccompProfile"),
            (lambda pod: pod.pop("automountServiceAccountToken"), "token"),
            (lambda pod: pod["volumes"].append({"name": "disk", "hostPath": {"path": "/"}}), "hostPath"),
            (lambda pod: pod["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False), "written"),
            (lambda pod: pod["containers"][0]["securityContext"].update(capabilities={"drop": []}), "drop all"),
            (lambda pod: pod["containers"][0]["securityContext"]["capabilities"].update(add=["IPC_LOCK"]), "IPC_LOCK"),
            (lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"), "Escalation"),
    ]:
        manifests, expert = broken(overlays.cpu)
        change(expert.pod)
        expect(security.pods_are_restricted, manifests, "StatefulSet expert", part)


def images_without_a_version(overlays):
    for image in ("localhost/orrery", "localhost/orrery:latest", "registry.example:5000/orrery"):
        manifests, expert = broken(overlays.cpu)
        expert.pod["containers"][0]["image"] = image
        expect(security.images_are_pinned, manifests, image, "not pinned")


def limits_above_requests(overlays):
    manifests, expert = broken(overlays.cpu)
    expert.pod["containers"][0]["resources"]["limits"]["memory"] = "8Gi"
    expect(security.requests_equal_limits, manifests, "StatefulSet expert", "8Gi")


def an_edge_too_many_and_one_too_few(overlays):
    manifests, _ = broken(overlays.cpu)
    manifests.find("NetworkPolicy", "attention")["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})
    expect(security.edges_are_those_of_the_design, manifests, "attention may call", "0.0.0.0/0")
    manifests, _ = broken(overlays.cpu)
    manifests.find("NetworkPolicy", "expert")["spec"]["ingress"][0]["from"].pop(0)
    expect(security.edges_are_those_of_the_design, manifests, "router may not call expert at 7420: no ingress")
    manifests, _ = broken(overlays.cpu)
    manifests.objects.remove(manifests.find("NetworkPolicy", "default-deny"))
    expect(security.edges_are_those_of_the_design, manifests, "denies what the others do not allow")


def podman_with_other_arguments(overlays):
    def differences(podman):
        return podman_overlay.podman_differs_in_kind_and_addresses_only(overlays.cpu, podman)
    podman, expert = broken(overlays.podman)
    expert.pod["containers"][0]["args"].append("--cpu_variant=scalar")
    expect(differences, podman, "args", "--cpu_variant=scalar")
    podman, expert = broken(overlays.podman)
    expert.pod["containers"][0]["volumeMounts"].pop()
    expect(differences, podman, "volumeMounts")
    podman, _ = broken(overlays.podman)
    edit_cluster_file(podman, "drain_ms: 30000", "drain_ms: 1000")
    expect(differences, podman, "cluster file: limits")


def a_rule_about_nothing(overlays):
    manifests = overlays.monitored.copy()
    rules.rules(manifests)[-1]["expr"] = 'rate(orrery_expert_rowz_total{peer="up"}[5m]) > 0'
    existing = set(rules.asked_names(overlays.monitored))
    expect(lambda broken_one: rules.asked_metrics_exist(broken_one, existing), manifests, "orrery_expert_rowz_total")


def an_alert_without_an_explanation(overlays):
    expect(lambda manifests: rules.alerts_are_explained(manifests, "### OrreryNoRank\n### OrreryNoSuchThing\n"),
           overlays.monitored, "about OrreryWedged")


def fields_that_no_schema_has(overlays):
    validator = schemas.Validator(HERE.parent.parent / ".orrery" / "python")

    def follow(manifests):
        return schemas.objects_follow_the_schemas(manifests, validator)
    manifests, expert = broken(overlays.cpu)
    expert.pod["terminationGracePeriod"] = 45
    expect(follow, manifests, "StatefulSet expert", "terminationGracePeriod")
    manifests, expert = broken(overlays.cpu)
    expert.spec["replicas"] = "four"
    expect(follow, manifests, "StatefulSet expert", "four")
    manifests = overlays.monitored.copy()
    manifests.of("PodMonitor")[0]["spec"]["selectors"] = {}
    expect(follow, manifests, "PodMonitor orrery: spec.selectors")


def text_that_is_no_cluster_file(_):
    for text in ("router { name: ", "router { }}", "router { name: 'single' }"):
        try:
            cluster_text.parse(text)
        except ValueError:
            continue
        raise AssertionError(f"{text} was taken")


def main():
    mine = [each for name, each in globals().items()
            if callable(each) and getattr(each, "__module__", "") == __name__
            and name not in ("main", "expect", "broken", "edit_cluster_file", "Overlays")]
    return cases.run("DeployChecks", Overlays, mine)


if __name__ == "__main__":
    sys.exit(main())
