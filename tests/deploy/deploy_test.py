#!/usr/bin/python3
"""Every overlay and every component of deploy/k8s: rendered, and compared with schemas, with our own rules, with the
real programs and with a running cluster. What `orrery check deploy` runs.

    deploy_test.py [--bin=bazel-bin] [--model=models/abacus]
"""

import argparse
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "containers")]

import agreement  # noqa: E402
import cases  # noqa: E402
import certificates  # noqa: E402
import command_lines  # noqa: E402
import lifecycle  # noqa: E402
import mounts  # noqa: E402
import network  # noqa: E402
import objects  # noqa: E402
import podman_overlay  # noqa: E402
import programs  # noqa: E402
import references  # noqa: E402
import rules  # noqa: E402
import scalers  # noqa: E402
import schemas  # noqa: E402
import scraping  # noqa: E402
import security  # noqa: E402
from manifests import image, read, render, render_component, render_from_registry  # noqa: E402

K8S = CHECKOUT / "deploy" / "k8s"
RUNBOOK = CHECKOUT / "deploy" / "README.md"
# Where `orrery check deploy` puts what it installs with pip.
PACKAGES = CHECKOUT / ".orrery" / "python"

# What holds for any pod.
CHECKS_OF_PODS = [
    objects.kinds_are_known,
    objects.objects_are_in_the_namespace,
    objects.words_are_known,
    objects.objects_have_known_fields,
    objects.pods_have_known_fields,
    mounts.mounts_fit_their_volumes,
    security.pods_are_restricted,
    security.images_are_pinned,
    security.requests_equal_limits,
]
CHECKS = CHECKS_OF_PODS + [
    objects.steps_are_told_by_labels,
    objects.accounts_and_priorities_are_their_own,
    security.the_namespace_is_restricted,
    mounts.volumes_lead_somewhere,
    mounts.volumes_fit_their_claims,
    mounts.mounted_files_exist,
    command_lines.commands_are_those_of_their_roles,
    agreement.ports_agree,
    agreement.names_agree,
    agreement.routers_know_everybody,
    agreement.threads_are_processors,
    agreement.gpus_agree,
    agreement.pods_may_run_where_they_must,
    agreement.gpu_members_have_the_gpu_image,
    agreement.everything_is_encrypted,
    agreement.jobs_pack_what_members_read,
    lifecycle.grace_fits_the_drain,
    lifecycle.sets_roll_one_by_one,
    lifecycle.jobs_run_once_on_each_node,
    lifecycle.last_words_are_kept,
    lifecycle.pods_are_spread_over_nodes,
    lifecycle.budgets_let_some_go,
    network.edges_are_those_of_the_design,
    certificates.certificates_are_those_of_their_roles,
    certificates.issuers_exist,
]
# Podman takes no ports, asks no probes, and makes no sets.
CHECKS_OF_KUBERNETES = [
    references.sets_select_their_own_pods,
    references.services_select_their_pods,
    references.budgets_select_their_pods,
    references.policies_select_pods,
    scraping.members_are_scraped,
    scalers.scaled_targets_exist,
    lifecycle.probes_ask_three_questions,
]


def overlays():
    return sorted(each.parent.name for each in K8S.glob("overlays/*/kustomization.yaml"))


def components():
    return sorted(each.parent.name for each in K8S.glob("components/*/kustomization.yaml"))


class Rendered:
    """All of them, by name; made once."""

    def __init__(self, arguments):
        self.programs = programs.Programs(arguments.bin)
        self.model = arguments.model
        self.manifests = {name: render(K8S / "overlays" / name) for name in overlays()}
        self.manifests |= {f"cpu-{name}": render_component(K8S, name) for name in components()}
        self.fill = read(K8S / "fill.yaml")
        self.running = None
        self.schemas = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.running is not None:
            self.running.__exit__()

    def cluster(self):
        if self.running is None:
            self.running = programs.RunningCluster(self.programs, self.model).__enter__()
        return self.running

    def validator(self):
        if self.schemas is None:
            self.schemas = schemas.Validator(PACKAGES)
        return self.schemas


def expect_none(wrong):
    if wrong:
        raise cases.Wrong("\n".join(wrong))


def case(name, body):
    def run(rendered):
        expect_none(body(rendered) or [])
    run.__name__ = name
    return run


def all_cases():
    found = []
    names = overlays() + [f"cpu-{name}" for name in components()]
    for name in names:
        title = name.replace("-", "_")
        for check in CHECKS + ([] if name == "podman" else CHECKS_OF_KUBERNETES):
            found.append(case(f"{title}_{check.__name__}",
                              lambda rendered, name=name, check=check: check(rendered.manifests[name])))
        for check in (command_lines.arguments_are_taken, programs.cluster_files_are_read):
            found.append(case(f"{title}_{check.__name__}", lambda rendered, name=name, check=check: check(
                rendered.manifests[name], rendered.programs)))
        found.append(case(f"{title}_objects_follow_the_schemas",
                          lambda rendered, name=name: schemas.objects_follow_the_schemas(
                              rendered.manifests[name], rendered.validator())))
        for check in (rules.rules_ask_for_what_there_is, scalers.scaled_by_metrics_of_their_role):
            found.append(case(f"{title}_{check.__name__}", lambda rendered, name=name, check=check: check(
                rendered.manifests[name], rendered.cluster().series)))
        found.append(case(f"{title}_images_are_ours", lambda rendered, name=name: security.images_are_ours(
            rendered.manifests[name], image(K8S))))
    for check in CHECKS_OF_PODS:
        found.append(case(f"fill_{check.__name__}", lambda rendered, check=check: check(rendered.fill)))
    found.append(case("fill_objects_follow_the_schemas", lambda rendered: schemas.objects_follow_the_schemas(
        rendered.fill, rendered.validator())))
    found.append(case("gpu_members_have_the_gpu_image_wherever_the_other_one_is", lambda _: [
        problem for name in overlays()
        for problem in agreement.gpu_members_have_the_gpu_image(render_from_registry(K8S, name, "registry.example"))]))
    found.append(case("podman_differs_from_cpu_in_kind_and_addresses_only",
                      lambda rendered: podman_overlay.podman_differs_in_kind_and_addresses_only(
                          rendered.manifests["cpu"], rendered.manifests["podman"])))
    found.append(case("version_is_that_of_the_programs",
                      lambda rendered: version_is_that_of_the_programs(rendered.manifests["cpu"])))
    found.append(case("probes_are_answered", lambda rendered: programs.probes_are_answered(
        rendered.manifests["cpu"], rendered.cluster())))
    found.append(case("alerts_are_explained", lambda rendered: rules.alerts_are_explained(
        rendered.manifests["cpu-monitoring"], RUNBOOK.read_text(encoding="utf-8"))))
    found.append(case("the_runbook_names_what_there_is", lambda rendered: rules.the_runbook_names_what_there_is(
        rendered.manifests["cpu-monitoring"], rendered.cluster().series, RUNBOOK.read_text(encoding="utf-8"))))
    found.append(case("alerts_fire_when_they_should", alerts_fire))
    found.append(case("the_adapter_knows_the_metrics", lambda rendered: scalers.the_adapter_knows_the_metrics(
        rendered.manifests["cpu-autoscaling"], RUNBOOK.read_text(encoding="utf-8"))))
    found.append(case("autoscalers_queries_are_well_formed", queries_are_well_formed))
    return found


def version_is_that_of_the_programs(manifests):
    version = re.search(r'kVersion\[\] = "(.*)"', (CHECKOUT / "base" / "version.h").read_text(encoding="utf-8"))[1]
    return [f"{image} is not of version {version}, which base/version.h says"
            for image in sorted(security.images(manifests)) if not image.endswith(f":{version}")]


def alerts_fire(rendered):
    with tempfile.TemporaryDirectory(prefix="orrery-rules-") as folder:
        rules.check_with_promtool(rendered.manifests["cpu-monitoring"], HERE / "rules_test.yaml", folder)


def queries_are_well_formed(rendered):
    with tempfile.TemporaryDirectory(prefix="orrery-queries-") as folder:
        rules.check_queries_with_promtool(rendered.manifests["cpu-keda"], folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=".", help="folder of the built programs; default: where Bazel runs tests")
    parser.add_argument("--model", default=str(CHECKOUT / "models" / "abacus"), help="what the running cluster serves")
    arguments = parser.parse_args()
    return cases.run("Deploy", lambda: Rendered(arguments), all_cases())


if __name__ == "__main__":
    sys.exit(main())
