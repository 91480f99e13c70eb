"""Manifests as `kubectl kustomize` renders them, and how to find one's way in them.

    manifests = render(K8S / "overlays/cpu")
    for workload in manifests.workloads():
        print(workload.role, workload.pod_names(), workload.pod["containers"])

No cluster is needed: nothing is sent anywhere.
"""

import contextlib
import copy
import pathlib
import re
import shutil
import subprocess
import tempfile

import yaml

from cases import Skip

# Of a kind that holds pods: where their template is.
TEMPLATES = {
    "StatefulSet": ("spec", "template"),
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "Pod": (),
    "LeaderWorkerSet": ("spec", "leaderWorkerTemplate", "workerTemplate"),
}
# Of each role, the port that others call; and the one of probes and metrics, of all.
PORTS = {"router": 7400, "attention": 7410, "expert": 7420}
ROLES = tuple(PORTS)
MONITORING_PORT = 9400
COMPONENT = "app.kubernetes.io/component"
# What tells the pods of one workload from those of another.
IDENTITY = ("app.kubernetes.io/name", "app.kubernetes.io/instance", COMPONENT)
TIMEOUT_S = 60


class Workload:
    """An object that makes pods."""

    def __init__(self, manifest):
        self.manifest = manifest
        self.kind = manifest["kind"]
        self.name = manifest["metadata"]["name"]
        template = manifest
        for key in TEMPLATES[self.kind]:
            template = template[key]
        self.metadata_fields = set(template["metadata"])
        self.labels = template["metadata"].get("labels", {})
        self.pod = template["spec"]
        self.role = self.labels.get(COMPONENT)  # None: no member of the cluster
        self.spec = manifest["spec"]

    def __str__(self):
        return f"{self.kind} {self.name}"

    def identity(self):
        return {label: self.labels[label] for label in IDENTITY if label in self.labels}

    def replicas(self):
        """None: an autoscaler's."""
        return self.spec.get("replicas")

    def pod_names(self, replicas=None):
        count = replicas if replicas is not None else self.replicas() or 0
        if self.kind == "LeaderWorkerSet":
            size = self.spec["leaderWorkerTemplate"]["size"]
            return [f"{self.name}-{group}" + (f"-{worker}" if worker else "")
                    for group in range(count) for worker in range(size)]
        infix = "-pod" if self.kind == "Deployment" else ""  # as podman names them
        return [f"{self.name}{infix}-{i}" for i in range(count)]

    def container(self):
        """The one that its pods have (objects.py)."""
        return self.pod["containers"][0]

    def containers(self):
        return self.pod.get("initContainers", []) + self.pod["containers"]


class Manifests:
    def __init__(self, name, objects):
        self.name = name
        self.objects = objects

    def copy(self):
        return Manifests(self.name, copy.deepcopy(self.objects))

    def of(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def find(self, kind, name):
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def workloads(self):
        return [Workload(each) for each in self.objects if each["kind"] in TEMPLATES]

    def members(self):
        return [each for each in self.workloads() if each.role in ROLES]

    def selected_by(self, labels):
        """Workloads whose pods have all these labels."""
        return [each for each in self.workloads() if labels.items() <= each.labels.items()]


def flags(container):
    """{"cluster": "/etc/orrery/cluster.txtpb", "verify": None, ...}"""
    return {name: value if has_value else None
            for argument in container.get("args", []) if argument.startswith("--")
            for name, has_value, value in [argument[2:].partition("=")]}


def kubectl():
    program = shutil.which("kubectl")
    if not program:
        raise Skip("kubectl is not here: its version 1.30 or later renders overlays (kustomize 5)")
    version = subprocess.run([program, "version", "--client"], capture_output=True, text=True, timeout=TIMEOUT_S,
                             check=False)
    found = re.search(r"Kustomize Version: v(\d+)", version.stdout)
    if not found or int(found[1]) < 5:
        raise Skip(f"{program} has no kustomize 5: {version.stdout.strip() or version.stderr.strip()}")
    return program


def render_text(folder):
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=TIMEOUT_S,
                          check=False)
    if done.returncode != 0:
        raise AssertionError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return done.stdout


def render(folder):
    return Manifests(folder.name, list(yaml.safe_load_all(render_text(folder))))


def read(file):
    """What is applied as it is."""
    return Manifests(file.stem, list(yaml.safe_load_all(file.read_text(encoding="utf-8"))))


def image(k8s):
    """The one that base/image names."""
    said, = yaml.safe_load((k8s / "base/image/kustomization.yaml").read_text(encoding="utf-8"))["images"]
    return f"{said['newName']}:{said['newTag']}"


@contextlib.contextmanager
def copy_of(k8s):
    with tempfile.TemporaryDirectory(prefix="orrery-deploy-") as scratch:
        yield pathlib.Path(shutil.copytree(k8s, pathlib.Path(scratch) / "k8s"))


def render_from_registry(k8s, overlay, registry):
    """An overlay, as it is where base/image names another registry."""
    with copy_of(k8s) as tree:
        image = tree / "base/image/kustomization.yaml"
        image.write_text(image.read_text(encoding="utf-8").replace("localhost/", f"{registry}/"), encoding="utf-8")
        return render(tree / "overlays" / overlay)


def render_component(k8s, component):
    """A component on top of the cpu overlay."""
    with copy_of(k8s) as tree:
        overlay = tree / "overlays" / f"cpu-{component}"
        overlay.mkdir()
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "orrery",
            "resources": ["../cpu"],
            "components": [f"../../components/{component}"],
        }), encoding="utf-8")
        return render(overlay)
