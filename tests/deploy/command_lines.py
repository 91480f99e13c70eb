"""What containers start, and with which flags. Each check returns what is wrong, one sentence each."""

import pathlib
import re
import subprocess
import tempfile

from manifests import MONITORING_PORT, PORTS, flags
from mounts import cluster_text_of

PATIENCE_S = 60
FLAG = re.compile(r"--[a-z]\w*(=.*)?")
# Flags of members that are for pods; others are for tests, or for one machine. --name is none: a member is named like
# its host, and all pods of a set have the same arguments.
MEMBERS_FLAGS = {"cluster", "listen_address", "monitoring_address", "cpu_variant"}
# All interfaces: others reach a pod by its address.
HOSTS = ("0.0.0.0", "[::]")


def commands_are_those_of_their_roles(manifests):
    wrong = []
    for workload in manifests.workloads():
        container = workload.container()
        command, args = container.get("command", []), container.get("args", [])
        if workload.kind == "Job":
            if len(command) != 2 or command[0] != "/usr/bin/orrery":
                wrong.append(f"{workload}: starts {command}, should be /usr/bin/orrery and a command of it")
        elif command != [f"/usr/bin/{workload.role}"]:
            wrong.append(f"{workload}: starts {command}, should be /usr/bin/{workload.role}")
        wrong += [f"{workload}: {argument} is no flag" for argument in args if not FLAG.fullmatch(argument)]
        names = [argument.partition("=")[0] for argument in args]
        wrong += [f"{workload}: {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
        if workload.role:
            wrong += members_flags(workload, flags(container))
    return wrong


def members_flags(workload, given):
    for name in sorted(set(given) - MEMBERS_FLAGS):
        yield f"{workload}: --{name} is not for pods"
    if not given.get("cluster"):
        yield f"{workload}: --cluster names no file"
    for name, port in (("listen_address", PORTS.get(workload.role)), ("monitoring_address", MONITORING_PORT)):
        if given.get(name) not in [f"{host}:{port}" for host in HOSTS]:
            yield f"{workload}: --{name} is {given.get(name)}, should be {HOSTS[0]}:{port}"


def arguments_are_taken(manifests, programs):
    """By the programs: members as far as they look for their name in their cluster file, `orrery pack` as far as it
    opens the model."""
    wrong = []
    for workload in manifests.workloads():
        program, *subcommand = workload.container()["command"]
        known = programs.help(pathlib.Path(program).name, *subcommand)
        wrong += [f"{workload}: {program} has no flag --{flag}" for flag in flags(workload.container())
                  if not re.search(rf"^\s+--{re.escape(flag)}\b", known, re.MULTILINE)]
        with tempfile.NamedTemporaryFile("w", suffix=".txtpb") as file:
            if workload.role:
                file.write(cluster_text_of(manifests, workload))
                file.flush()
                changed, expected = {"cluster": file.name, "name": "nobody"}, f'has no {workload.role} named "nobody"'
            else:
                changed, expected = {"model": f"{file.name}.none"}, f"cannot open {file.name}.none"
            said = run(programs, workload.container(), changed)
        if expected not in said:
            wrong.append(f"{workload}: {program} says {said}")
    return wrong


def run(programs, container, changed):
    program, *subcommand = container["command"]
    arguments = [argument for argument in container.get("args", [])
                 if argument[2:].partition("=")[0] not in changed]
    done = subprocess.run([programs.path(pathlib.Path(program).name), *subcommand, *arguments,
                           *(f"--{name}={value}" for name, value in changed.items())],
                          capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.stderr.strip() or f"nothing, and ends with {done.returncode}"
