#!/usr/bin/python3
"""The checks find what is wrong, and nothing in what is not: mutants/ breaks overlays, and expects the sentences."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "containers")]

import cases  # noqa: E402
from manifests import render, render_component  # noqa: E402
from mutants import (  # noqa: E402
    of_agreement, of_lifecycle, of_metrics, of_network, of_objects, of_programs, of_references)

K8S = HERE.parent.parent / "deploy" / "k8s"


class Overlays:
    def __enter__(self):
        self.cpu = render(K8S / "overlays/cpu")
        self.podman = render(K8S / "overlays/podman")
        self.blue_green = render(K8S / "overlays/blue-green")
        self.h200 = render(K8S / "overlays/gpu-h200")
        self.lws = render(K8S / "overlays/gpu-h200-lws")
        self.scaled = render_component(K8S, "autoscaling")
        self.keda = render_component(K8S, "keda")
        self.monitored = render_component(K8S, "monitoring")
        self.certified = render_component(K8S, "cert-manager")
        self.packed = render_component(K8S, "pack")
        self.brought = render_component(K8S, "bring")
        return self

    def __exit__(self, *_):
        pass


MODULES = (of_objects, of_references, of_agreement, of_lifecycle, of_network, of_programs, of_metrics)
CASES = [case for module in MODULES for case in module.CASES]


if __name__ == "__main__":
    sys.exit(cases.run("DeployChecks", Overlays, CASES))
