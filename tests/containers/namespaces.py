"""Processes with a network address of their own each, as pods have them, without containers.

    namespaces.enter(sys.argv)          # starts this program anew in namespaces of its own, where it is root
    network = Network("10.9.0.1")       # a bridge, with this address for us
    pod = network.add_pod("10.9.0.11")
    process = pod.start(["expert", "--name=expert-0"], log)
    pod.remove()                        # with its processes, at once: its peers hear nothing any more

Everything ends with this program, whatever happens to it: the kernel ends the namespaces and all that is in them.
Raises cases.Skip where such namespaces cannot be had.
"""

import os
import shutil
import signal
import subprocess
import sys

from cases import Skip

MARK = "ORRERY_TEST_NAMESPACES"


def enter():
    """Returns in the new namespaces; outside it ends the program with the exit code of what ran inside."""
    if MARK in os.environ:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)  # for `ip netns`
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            raise Skip(f"there is no {program}: apt-get install util-linux iproute2")
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise Skip(f"no namespaces of our own: {tried.stderr.strip()}")
    inside = subprocess.run([*unshare, sys.executable, *sys.argv], env={**os.environ, MARK: "1"}, check=False)
    sys.exit(inside.returncode)


def _ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    def __init__(self, address):
        self.num_pods = 0
        # With an address of its own: else it takes one of its ports, changes with them, and its peers speak to nobody.
        _ip("link", "add", "pods", "address", "02:00:00:00:00:01", "type", "bridge")
        _ip("addr", "add", f"{address}/24", "dev", "pods")
        _ip("link", "set", "pods", "up")

    def add_pod(self, address):
        self.num_pods += 1
        return Pod(f"pod{self.num_pods}", address)


class Pod:
    def __init__(self, name, address):
        self.address = address
        self._name = name
        self._processes = []
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", "pods", "up")
        _ip("-netns", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-netns", name, "link", "set", "eth0", "up")
        _ip("-netns", name, "link", "set", "lo", "up")

    def start(self, command, log):
        process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self._name}", *command], stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def stop(self):
        """Orderly; the exit codes. The address stays."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(timeout=30) for process in self._processes]

    def remove(self):
        _ip("link", "del", self._name)  # first, so that the peers do not hear of the end of the processes
        for process in self._processes:
            process.kill()
            process.wait()
        _ip("netns", "del", self._name)
