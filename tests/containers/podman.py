"""podman with a storage of its own: what a test makes is neither mixed up with the user's containers nor left behind.

    with Podman() as podman:
        podman("volume", "create", "models")          # its output; PodmanError with what it said
        ...
        podman.leftovers()                            # what is still there: {"container": ["..."], ...}

Raises cases.Skip where podman is not usable.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from cases import Skip

TIMEOUT_S = 300
PACKAGES = "podman buildah runc catatonit netavark aardvark-dns iptables"
KINDS = {"container": ["ps", "--all", "--format={{.Names}}"],
         "pod": ["pod", "ls", "--format={{.Name}}"],
         "network": ["network", "ls", "--filter=name=^orrery", "--format={{.Name}}"],
         "volume": ["volume", "ls", "--format={{.Name}}"],
         "secret": ["secret", "ls", "--format={{.Name}}"]}


class PodmanError(Exception):
    pass


class Podman:
    def __init__(self):
        if shutil.which("podman") is None:
            raise Skip(f"there is no podman: apt-get install {PACKAGES}")
        # In /tmp and short: podman refuses long paths, and Bazel's are.
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="orrery-podman-", dir="/tmp"))
        self.env = {**os.environ,
                    "CONTAINERS_CONF": str(self._write("containers.conf", self._configuration())),
                    "CONTAINERS_STORAGE_CONF": str(self._write("storage.conf", self._storage("overlay"))),
                    "HOME": str(self._folder)}

    def _write(self, name, text):
        path = self._folder / name
        path.write_text(text)
        return path

    # cgroupfs and no systemd: as it works within a container, too. runc knows hybrid control groups, crun does not.
    def _configuration(self):
        return f"""[engine]
runtime = "{'runc' if shutil.which('runc') else 'crun'}"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{self._folder}/tmp"
lock_type = "file"
[network]
network_backend = "netavark"
network_config_dir = "{self._folder}/networks"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""

    def _storage(self, driver):
        return (f'[storage]\ndriver = "{driver}"\ngraphroot = "{self._folder}/storage"\n'
                f'runroot = "{self._folder}/run"\n')

    def __enter__(self):
        try:
            try:
                self("info")
            except PodmanError:  # overlays do not lie on overlays
                shutil.rmtree(self._folder / "storage", ignore_errors=True)
                self._write("storage.conf", self._storage("vfs"))
                self("info")
        except PodmanError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise Skip(f"podman is not usable: {error}") from error
        return self

    def __exit__(self, kind, value, trace):
        for clean in (["pod", "rm", "--all", "--force", "--time=0"], ["rm", "--all", "--force", "--time=0"],
                      ["volume", "rm", "--all", "--force"], ["network", "prune", "--force"],
                      ["rmi", "--all", "--force"]):
            with contextlib.suppress(PodmanError):
                self(*clean)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __call__(self, *arguments, stdin=None, timeout=TIMEOUT_S):
        command = ["podman", *map(str, arguments)]
        # Not where a file has the name of an image, as `orrery` in the checkout: `kube play` wants to build from it.
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, text=not isinstance(stdin, bytes),
                              timeout=timeout, check=False, cwd="/")
        if done.returncode != 0:
            error = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
            raise PodmanError(f"{' '.join(command)}: exit code {done.returncode}: {error.strip()}")
        return done.stdout

    def logs(self, container):
        """The last lines that it wrote, wherever to."""
        return subprocess.run(["podman", "logs", "--tail=10", container], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False).stdout

    def leftovers(self):
        """Of every kind that is made here, the names that are still there."""
        left = {kind: self(*arguments).split() for kind, arguments in KINDS.items()}
        return {kind: names for kind, names in left.items() if names}
