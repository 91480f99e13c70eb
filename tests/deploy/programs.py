"""What the real programs say of manifests: flags, cluster files, probes and metrics."""

import contextlib
import functools
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import cluster_text
import scraping
from cases import Skip
from manifests import ROLES
from mounts import cluster_text_of

PATIENCE_S = 60


class Programs:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._help = {}

    def path(self, name):
        if name not in (*ROLES, "orrery"):
            raise ValueError(f"{name} is none of our programs")
        path = self.folder / ("tools/orrery" if name == "orrery" else f"services/{name}/{name}")
        if not path.is_file():
            raise Skip(f"{path} is not built")
        return str(path)

    def help(self, name, *subcommand):
        key = (name, *subcommand)
        if key not in self._help:
            done = subprocess.run([self.path(name), *subcommand, "--help"], capture_output=True, text=True,
                                  timeout=PATIENCE_S, check=False)
            self._help[key] = done.stdout + done.stderr
        return self._help[key]


def cluster_files_are_read(manifests, programs):
    """A member that the file does not name is told those that it does, unless there is anything wrong with the file."""
    wrong = []
    texts = {cluster_text_of(manifests, workload) for workload in manifests.members()}
    for text in sorted(texts):
        cluster = cluster_text.parse(text)
        for role in ROLES:
            # Those that retire are for routers: ranks and shards do not see them, and take no such name.
            listed = [member["name"][0] for member in cluster_text.members(cluster, role)
                      if not cluster_text.is_retiring(member)]
            with tempfile.NamedTemporaryFile("w", suffix=".txtpb") as file:
                file.write(text)
                file.flush()
                done = subprocess.run([programs.path(role), f"--cluster={file.name}", "--name=nobody"],
                                      capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            expected = f'the cluster file has no {role} named "nobody"; it has {", ".join(listed) or "none"}'
            if done.returncode != 1 or expected not in done.stderr:
                wrong.append(f"{role} says of the cluster file: {done.stderr.strip() or done.returncode}")
    return wrong


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class RunningCluster:
    """A router, two ranks and two shards of this machine, which have answered one question."""

    MEMBERS = (("router", "router-0"), ("attention", "attention-0"), ("attention", "attention-1"),
               ("expert", "expert-0"), ("expert", "expert-1"))

    def __init__(self, programs, model):
        for role in ROLES:
            if "--monitoring_address" not in programs.help(role):
                raise Skip(f"{programs.path(role)} has no --monitoring_address")
        self._programs = programs
        self._folder = tempfile.TemporaryDirectory(prefix="orrery-deploy-")
        ports = free_ports(2 * len(self.MEMBERS))
        self._addresses = [f"127.0.0.1:{port}" for port in ports[:len(self.MEMBERS)]]
        self.monitoring = {name: f"127.0.0.1:{port}"
                           for (_, name), port in zip(self.MEMBERS, ports[len(self.MEMBERS):])}
        file = pathlib.Path(self._folder.name) / "cluster.txtpb"
        file.write_text("\n".join(
            [f'model {{ name: "abacus" dir: "{pathlib.Path(model).resolve()}" }}', "limits { balance_ms: 100 }"]
            + [f'{role} {{ name: "{name}" address: "{address}" }}'
               for (role, name), address in zip(self.MEMBERS, self._addresses)]), encoding="utf-8")
        self._processes = []
        self._file = file

    def __enter__(self):
        try:
            for role, name in self.MEMBERS:
                with open(f"{self._folder.name}/{name}.log", "wb") as log:
                    self._processes.append(subprocess.Popen(
                        [self._programs.path(role), f"--cluster={self._file}", f"--name={name}",
                         f"--monitoring_address={self.monitoring[name]}"], stdout=log, stderr=log))
            deadline = time.monotonic() + PATIENCE_S
            while not all(self.get(name, "/readyz")[0] == 200 for name in self.monitoring):
                if time.monotonic() > deadline:
                    raise AssertionError(f"not ready within {PATIENCE_S} s: {self._logs()}")
                time.sleep(0.1)
            subprocess.run([self._programs.path("orrery"), "generate", f"--router={self._addresses[0]}",
                            "--prompt=What is 57 + 68?"], stdout=subprocess.DEVNULL, timeout=PATIENCE_S, check=True)
            # Known after the balancer's first round.
            while "orrery_router_imbalance_ratio" not in self.get("router-0", "/metrics")[1]:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not balanced within {PATIENCE_S} s: {self._logs()}")
                time.sleep(0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def _logs(self):
        return "\n".join(pathlib.Path(f"{self._folder.name}/{name}.log").read_text(encoding="utf-8", errors="replace")
                         for _, name in self.MEMBERS)

    def get(self, name, path):
        """(status, text); status 0 if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.monitoring[name]}{path}", timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return 0, ""

    @functools.cached_property
    def series(self):
        """{role: {name of a series: its labels}}"""
        return {role: scraping.series_of("".join(self.get(name, "/metrics")[1] for each, name in self.MEMBERS
                                                 if each == role)) for role in ROLES}


def probes_are_answered(manifests, running):
    wrong = []
    for workload in manifests.members():
        for container in workload.pod["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                path = container.get(probe, {}).get("httpGet", {}).get("path")
                status, text = running.get(f"{workload.role}-0", path or "/")
                if path and status != 200:
                    wrong.append(f"{workload}: {probe} {path} is answered with {status} {text.strip()}")
    return wrong
