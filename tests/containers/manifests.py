"""The objects of deploy/k8s/overlays/podman, and what podman needs beside them.

    manifests = render(checkout)          # Skip without a kubectl that has kustomize 5
    for workload in workloads(manifests): # the Deployments, in their order
        pods(workload)                    # ["expert-pod-0", ...]
        pod(workload, "expert-pod-0")     # that pod alone, as an object of its own
"""

import copy
import re
import shutil
import subprocess

from cases import Skip

OVERLAY = "deploy/k8s/overlays/podman"
RULES = "deploy/k8s/components/monitoring/rules.yaml"


def render(checkout):
    if shutil.which("kubectl") is None:
        raise Skip("there is no kubectl: install one of 1.30 or later, which has kustomize 5")
    version = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    kustomize = re.search(r"Kustomize Version: v(\d+)", version)
    if kustomize is None or int(kustomize[1]) < 5:
        raise Skip(f"kubectl has no kustomize 5: {version.strip()}")
    try:
        import yaml
    except ImportError as error:
        raise Skip("there is no PyYAML: apt-get install python3-yaml") from error
    text = subprocess.check_output(["kubectl", "kustomize", checkout / OVERLAY], text=True)
    return [document for document in yaml.safe_load_all(text) if document]


def rule_groups(checkout):
    """The alerts and recorded series, as Prometheus reads them."""
    import yaml
    return yaml.safe_load((checkout / RULES).read_text())["spec"]["groups"]


def workloads(manifests):
    return [document for document in manifests if document["kind"] == "Deployment"]


def role(workload):
    return workload["metadata"]["name"]


def pods(workload):
    """As `podman kube play` names them."""
    return [f"{role(workload)}-pod-{i}" for i in range(workload["spec"]["replicas"])]


def image(workload):
    return workload["spec"]["template"]["spec"]["containers"][0]["image"]


def grace_s(workload):
    return workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def pod(workload, name):
    template = copy.deepcopy(workload["spec"]["template"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}


def cluster_file(manifests):
    config, = (document for document in manifests if document["kind"] == "ConfigMap")
    return config["data"]["cluster.txtpb"]


def address_of(cluster_text, member):
    """Without the port."""
    return re.search(rf'name: "{member}" address: "([^":]+):', cluster_text)[1]
