#!/usr/bin/env python3
"""Members that are found by DNS names whose answers change while the cluster runs.

Router, 2 ranks, 4 shards and a spare one have a network address of their own each (namespaces.py), as pods have, and the
cluster file names them as Kubernetes names the pods of a StatefulSet. dnsmasq says where they are now.

    dns_test.py [--bin=bazel-bin] [--model=models/abacus]
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import cases
import namespaces
from load import Load, ask_all
from name_server import NameServer
from status import is_complete, members_in_state

NUM_RANKS = 2
NUM_SHARDS = 4
SPARE = f"expert-{NUM_SHARDS}"
PORTS = {"router": 7400, "attention": 7410, "expert": 7420}
OUR_ADDRESS = "10.9.0.1"
SEARCH = "orrery.svc.cluster.local"
# Beyond what any of this takes on a busy machine; nothing waits for it when all is well. A peer that falls silent
# is noticed after 15 s (rpc/keepalive.h).
PATIENCE_S = 90
NUM_PROBLEMS = 60


def role_of(name):
    return name.rpartition("-")[0]


def dns_name(name):
    return f"{name}.{role_of(name)}"


class Cluster:
    def __init__(self, programs, model):
        self._temporary = tempfile.TemporaryDirectory(prefix="orrery-dns-")
        self._folder = folder = pathlib.Path(self._temporary.name)
        self._programs = programs
        self._model = model
        self._pods = {}
        self._next_host = 10
        self.members = (["router-0"] + [f"attention-{i}" for i in range(NUM_RANKS)]
                        + [f"expert-{i}" for i in range(NUM_SHARDS)])
        self._file = folder / "cluster.txtpb"
        self._file.write_text(self._text())
        self._network = namespaces.Network(OUR_ADDRESS)
        self.names = NameServer(OUR_ADDRESS, folder, SEARCH)
        self.ask = self.ask_router(dns_name("router-0"))
        self.expected = ""

    def _text(self):
        lines = [f'model {{ name: "abacus" dir: "{self._model}" }}', "allow_plain_text: true"]
        for name in [*self.members, SPARE]:
            more = "" if role_of(name) == "router" else " num_threads: 1"
            more += " spare: true" if name == SPARE else ""
            lines.append(f'{role_of(name)} {{ name: "{name}" address: "{dns_name(name)}:{PORTS[role_of(name)]}"{more} }}')
        return "\n".join(lines) + "\n"

    def __enter__(self):
        for name in self.members:
            self.start(name)
        self.wait_until_complete()
        self.expected = ask_all(self.ask)
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            for log in sorted(self._folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}")
        self._temporary.cleanup()

    def ask_router(self, host):
        return [self._programs / "tools/orrery", "eval", self._model / "eval.jsonl", f"--limit={NUM_PROBLEMS}",
                f"--router={host}:{PORTS['router']}", "--require_agreement", "--allow_plain_text"]

    def free_address(self):
        """One that nobody had before."""
        self._next_host += 1
        return f"10.9.0.{self._next_host}"

    def address(self, name):
        return self._pods[name].address

    def start(self, name, address=None):
        """The name leads to the address, and the member runs there."""
        address = address or self.free_address()
        self.names.set(dns_name(name), address)
        role = role_of(name)
        pod = self._pods[name] = self._network.add_pod(address)
        with open(self._folder / f"{name}.log", "ab") as log:
            pod.start([self._programs / "services" / role / role, f"--cluster={self._file}", f"--name={name}",
                       f"--listen_address=0.0.0.0:{PORTS[role]}"], log)

    def restart(self, name):
        """At its address."""
        address = self.address(name)
        self._pods.pop(name).remove()
        self.start(name, address)

    def stop(self, name):
        """Orderly, and away with its address."""
        pod = self._pods.pop(name)
        codes = pod.stop()
        pod.remove()
        self.names.drop(dns_name(name))
        assert codes == [0], f"{name} ended with {codes}"

    def lose(self, name):
        """Its machine is gone without a word; its name still leads there."""
        self._pods.pop(name).remove()

    def status(self):
        done = subprocess.run([self._programs / "tools/orrery", "status", f"--cluster={self._file}"],
                              capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        return done.stdout + done.stderr

    def wait_until(self, holds, what):
        deadline = time.monotonic() + PATIENCE_S
        while not holds(status := self.status()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}\n{status}"
            time.sleep(0.2)

    def wait_until_complete(self, num_shards=NUM_SHARDS):
        """Every member is ready, and every rank connected with every shard."""
        self.wait_until(lambda text: is_complete(text, self.members, NUM_RANKS, num_shards),
                        f"all are ready, and each rank is connected with {num_shards} shards")


def finds_members_by_name(cluster):
    assert ask_all(cluster.ask) == cluster.expected


def follows_a_shard_whose_machine_is_lost(cluster):
    with Load(cluster.ask, cluster.expected):
        cluster.lose("expert-1")
        cluster.start("expert-1")
        cluster.wait_until_complete()


def follows_a_shard_that_moves(cluster):
    with Load(cluster.ask, cluster.expected):
        cluster.stop("expert-2")
        cluster.wait_until(lambda text: "expert-2" in members_in_state(text, "unreachable"), "it is missed")
        cluster.start("expert-2")
        cluster.wait_until_complete()


def follows_a_rank_that_moves(cluster):
    with Load(cluster.ask, cluster.expected):
        cluster.stop("attention-1")
        cluster.start("attention-1")
        cluster.wait_until_complete()


def follows_a_rank_whose_machine_is_lost(cluster):
    with Load(cluster.ask, cluster.expected):
        cluster.lose("attention-0")
        cluster.start("attention-0")
        cluster.wait_until_complete()


def follows_a_router_that_moves(cluster):
    cluster.stop("router-0")
    cluster.start("router-0")
    cluster.wait_until_complete()
    assert ask_all(cluster.ask) == cluster.expected


def finds_a_spare_that_is_added_and_lets_it_go(cluster):
    with Load(cluster.ask, cluster.expected):
        cluster.start(SPARE)  # until now nobody knew its name
        cluster.wait_until_complete(NUM_SHARDS + 1)
        cluster.stop(SPARE)
        cluster.wait_until(lambda text: SPARE in members_in_state(text, "absent"), "it is absent")
        cluster.wait_until_complete()


def goes_on_while_names_lead_nowhere(cluster):
    by_address = cluster.ask_router(cluster.address("router-0"))
    cluster.names.stop()
    with Load(by_address, cluster.expected):
        cluster.restart("expert-3")
        cluster.names.start()
        cluster.wait_until_complete()


CASES = [finds_members_by_name, follows_a_shard_that_moves, follows_a_shard_whose_machine_is_lost,
         follows_a_rank_that_moves, follows_a_rank_whose_machine_is_lost, follows_a_router_that_moves,
         finds_a_spare_that_is_added_and_lets_it_go, goes_on_while_names_lead_nowhere]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=".", help="where the programs are, as in bazel-bin")
    parser.add_argument("--model", type=pathlib.Path, default="models/abacus")
    arguments = parser.parse_args()

    def make_cluster():
        namespaces.enter()
        return Cluster(arguments.bin.resolve(), arguments.model.resolve())

    return cases.run("Dns", make_cluster, CASES)


if __name__ == "__main__":
    sys.exit(main())
