#!/usr/bin/env python3
"""The container image, and a cluster that comes up from deploy/k8s/overlays/podman: 2 routers, 2 ranks and 4 shards, each a
pod, with mutual TLS.

    podman_test.py [--bin=bazel-bin]         # or: ./orrery check podman

It builds the image, makes certificates, plays the manifests, asks, kills, rolls, scrapes, and takes all down again.
What it cannot do without is a reason to be skipped: podman, kubectl with kustomize 5.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import cases
import manifests
from load import Load, ask_all
from podman import Podman, PodmanError
from prometheus import Prometheus
from status import is_complete

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
NETWORK = "orrery"
SUBNET = "10.89.74.0/24"
MODELS = "orrery-models"
CLIENT = "orrery-client"
USER_ID = 65532
PATIENCE_S = 120
NUM_PROBLEMS = 40
KILLED = "expert-pod-1"


def make_certificates(programs, folder):
    """A development CA, and one folder per role."""
    subprocess.run([programs / "tools/orrery", "certs", f"--out={folder}"], check=True, stdout=subprocess.DEVNULL)


def tar_of(files):
    """`files`: path to bytes, as the pods' user may read them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o440, USER_ID, USER_ID
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Cluster:
    def __init__(self, podman, programs, checkout):
        self.podman = podman
        self.checkout = checkout
        self._programs = programs
        self._objects = manifests.render(checkout)
        self.workloads = manifests.workloads(self._objects)
        self.cluster_text = manifests.cluster_file(self._objects)
        self.members = [pod for workload in self.workloads for pod in manifests.pods(workload)]
        self.image = manifests.image(self.workloads[0])
        self.ask = self.client("eval", "/models/abacus/eval.jsonl", f"--limit={NUM_PROBLEMS}", "--require_agreement",
                               "--cluster=/etc/orrery/cluster.txtpb")
        self.expected = ""
        self.contents = set()

    def build_image(self, umask=0o022):
        """What the image is now: its id, its labels, its user. `contents`: names of what is in it, as it says."""
        with tempfile.NamedTemporaryFile(suffix=".spdx.json") as sbom:
            subprocess.run([self.checkout / "deploy/images/build", f"--bin={self._programs}", f"--tag={self.image}",
                            f"--sbom={sbom.name}"], env=self.podman.env, umask=umask, check=True)
            self.contents = {package["name"] for package in json.load(sbom)["packages"]}
        return json.loads(self.podman("image", "inspect", self.image))[0]

    def up(self):
        self.podman("network", "create", f"--subnet={SUBNET}", NETWORK)
        self._make_volumes()
        self._play(self._objects, self.members)
        self.wait_until_complete()
        self.expected = ask_all(self.ask)

    def _play(self, documents, members):
        addresses = [f"--ip={self.address(member)}" for member in members]
        self.podman("kube", "play", "--build=false", f"--network={NETWORK}", *addresses, "-",
                    stdin=self._yaml(documents))

    def down(self):
        self.podman("kube", "down", "-", stdin=self._yaml(self._objects))
        for role in [*map(manifests.role, self.workloads), "client"]:
            self.podman("volume", "rm", f"orrery-{role}")
        self.podman("volume", "rm", MODELS)
        self.podman("network", "rm", NETWORK)

    def _make_volumes(self):
        """One for each role with what its pods see at /etc/orrery, and one with the model."""
        with tempfile.TemporaryDirectory(prefix="orrery-certs-") as folder:
            certificates = pathlib.Path(folder) / "tls"
            make_certificates(self._programs, certificates)
            resume_key = os.urandom(32)
            for role in [*map(manifests.role, self.workloads), "client"]:
                files = {f"tls/{name}": (certificates / role / name).read_bytes()
                         for name in ("tls.crt", "tls.key", "ca.crt")}
                files["cluster.txtpb"] = self.cluster_text.encode()
                if role == "router":
                    files["keys/resume.key"] = resume_key
                self._make_volume(f"orrery-{role}", files)
        model = self.checkout / "models/abacus"
        self._make_volume(MODELS, {f"abacus/{path.name}": path.read_bytes() for path in sorted(model.iterdir())})

    def _make_volume(self, name, files):
        self.podman("volume", "create", name)
        self.podman("volume", "import", name, "-", stdin=tar_of(files))

    @staticmethod
    def _yaml(documents):
        return "---\n".join(json.dumps(document) + "\n" for document in documents)  # JSON is YAML

    def address(self, member):
        return manifests.address_of(self.cluster_text, member)

    def client(self, *command):
        """The command line that runs an `orrery` command in a container of its own."""
        return ["podman", "run", "--rm", "--read-only", f"--network={NETWORK}", f"--volume={CLIENT}:/etc/orrery:ro",
                f"--volume={MODELS}:/models:ro", self.image, *command]

    def run_client(self, *command):
        done = subprocess.run(self.client(*command), env=self.podman.env, capture_output=True, text=True, check=False,
                              timeout=PATIENCE_S)
        return done.returncode, done.stdout + done.stderr

    def load(self):
        return Load(self.ask, self.expected)

    @staticmethod
    def wait_until(holds, describe):
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {describe()}"
            time.sleep(0.2)

    def wait_until_complete(self):
        num = {manifests.role(workload): len(manifests.pods(workload)) for workload in self.workloads}

        def status():
            return self.run_client("status", "--cluster=/etc/orrery/cluster.txtpb")[1]
        self.wait_until(lambda: is_complete(status(), self.members, num["attention"], num["expert"]),
                        lambda: f"{status()}\n{self.logs()}")

    def _stop(self, workload, pod):
        self.podman("pod", "stop", f"--time={manifests.grace_s(workload)}", pod)
        self.podman("pod", "rm", pod)

    def crash(self, container):
        """Not by `podman kill`, which podman takes for a wish that it be gone."""
        os.kill(int(self.podman("inspect", "--format={{.State.Pid}}", container)), signal.SIGKILL)

    def roll(self, role):
        """As a StatefulSet does: the last pod first, and the next one when it has been back for minReadySeconds."""
        workload, = (workload for workload in self.workloads if manifests.role(workload) == role)
        for pod in reversed(manifests.pods(workload)):
            self._stop(workload, pod)
            self._play([manifests.pod(workload, pod)], [pod])
            self.wait_until_complete()
            time.sleep(workload["spec"].get("minReadySeconds", 0))  # as a StatefulSet's controller does

    def logs(self):
        return self.podman("ps", "--all") + "".join(
            f"--- {name}\n" + self.podman.logs(name)
            for name in self.podman("ps", "--all", "--format={{.Names}}").split() if "-pod-" in name)


def builds_the_same_image_twice(cluster):
    image = json.loads(cluster.podman("image", "inspect", cluster.image))[0]
    again = cluster.build_image(umask=0o077)  # whatever files of the one who builds are for
    assert (image["Id"], image["Digest"]) == (again["Id"], again["Digest"]), (image, again)
    assert image["Config"]["User"] == f"{USER_ID}:{USER_ID}", image["Config"]
    labels = image["Config"]["Labels"]
    for label in ("title", "version", "revision", "created", "licenses"):
        assert labels.get(f"org.opencontainers.image.{label}"), labels


def says_what_is_in_it(cluster):
    """A library, and headers that were compiled in."""
    assert {"orrery", "libc6", "libboost1.81-dev", "nlohmann-json3-dev"} <= cluster.contents, cluster.contents


def has_no_shell(cluster):
    try:
        cluster.podman("run", "--rm", "--entrypoint=/bin/sh", cluster.image, "-c", "true")
    except PodmanError:
        return
    raise AssertionError("the image has a shell")


def answers_over_grpc(cluster):
    code, text = cluster.run_client("generate", "--cluster=/etc/orrery/cluster.txtpb", "--prompt=What is 57 + 68?")
    assert code == 0 and "125" in text, text
    assert ask_all(cluster.ask) == cluster.expected


def loses_nothing_when_a_shard_is_killed(cluster):
    with cluster.load():
        cluster.crash(f"{KILLED}-expert")
        cluster.wait_until_complete()  # podman starts it again: restartPolicy is Always


def loses_nothing_when_shards_are_rolled(cluster):
    with cluster.load():
        cluster.roll("expert")


def loses_nothing_when_ranks_are_rolled(cluster):
    with cluster.load():
        cluster.roll("attention")


def loses_nothing_when_routers_are_rolled(cluster):
    with cluster.load():
        cluster.roll("router")


def prometheus_scrapes_all_members(cluster):
    targets = {member: f"{cluster.address(member)}:9400" for member in cluster.members}
    with Prometheus(targets, manifests.rule_groups(cluster.checkout)) as prometheus:
        prometheus.wait_until_up(targets)
        cluster.wait_until(lambda: not prometheus.broken_rules(), prometheus.broken_rules)
        tokens = prometheus.query("sum(orrery_router_generated_tokens_total)")
        assert float(tokens[0]["value"][1]) > 0, tokens


def leaves_nothing_behind(cluster):
    cluster.down()
    left = cluster.podman.leftovers()
    assert not left, left
    addresses = subprocess.check_output(["ip", "-brief", "address"], text=True)
    assert SUBNET.rpartition(".")[0] not in addresses, addresses


CASES = [builds_the_same_image_twice, says_what_is_in_it, has_no_shell, answers_over_grpc,
         loses_nothing_when_a_shard_is_killed, loses_nothing_when_shards_are_rolled,
         loses_nothing_when_ranks_are_rolled, loses_nothing_when_routers_are_rolled, prometheus_scrapes_all_members,
         leaves_nothing_behind]


@contextlib.contextmanager
def running_cluster(programs, checkout):
    with Podman() as podman:
        os.environ.update(podman.env)  # for what is started beside `podman`
        cluster = Cluster(podman, programs, checkout)
        cluster.build_image()
        cluster.up()
        yield cluster


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=".", help="where the programs are, as in bazel-bin")
    arguments = parser.parse_args()
    return cases.run("Podman", lambda: running_cluster(arguments.bin.resolve(), CHECKOUT), CASES)


if __name__ == "__main__":
    sys.exit(main())
