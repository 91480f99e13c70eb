"""Alerts, recorded series and autoscalers: what they ask for, and `promtool`'s opinion of them."""

import pathlib
import re
import shutil
import subprocess

import yaml

from cases import Skip

TIMEOUT_S = 60
NAME = re.compile(r"(?<![\w:\"])((?:orrery|process|vllm)[_:][\w:]*|up(?=\{))")


def groups(manifests):
    return [group for each in manifests.of("PrometheusRule") for group in each["spec"]["groups"]]


def rules(manifests):
    return [rule for group in groups(manifests) for rule in group["rules"]]


def asked_names(manifests):
    """{name of a series: who asks for it}"""
    asked = {}
    for rule in rules(manifests):
        for name in NAME.findall(rule["expr"]):
            asked[name] = f"rule {rule.get('alert', rule.get('record'))}"
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            asked[metric["pods"]["metric"]["name"]] = f"HorizontalPodAutoscaler {scaler['metadata']['name']}"
    for scaler in manifests.of("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            for name in NAME.findall(trigger["metadata"]["query"]):
                asked[name] = f"ScaledObject {scaler['metadata']['name']}"
    return asked


def asked_metrics_exist(manifests, existing):
    recorded = {rule["record"] for rule in rules(manifests) if "record" in rule}
    return [f"{who} asks for {name}, which no member has" for name, who in sorted(asked_names(manifests).items())
            if name not in existing | recorded]


def alerts_are_explained(manifests, runbook):
    """Each has a heading of its name in the runbook, and no other name has."""
    alerts = {rule["alert"] for rule in rules(manifests) if "alert" in rule}
    explained = set(re.findall(r"^#+ (Orrery\w+)$", runbook, re.MULTILINE))
    return ([f"the runbook does not say what to do about {name}" for name in sorted(alerts - explained)]
            + [f"the runbook explains {name}, which is no alert" for name in sorted(explained - alerts)])


def promtool(*arguments, folder):
    program = shutil.which("promtool")
    if not program:
        raise Skip("promtool is not installed: Debian's package prometheus has it")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S,
                          check=False)
    if done.returncode != 0:
        raise AssertionError(f"promtool {' '.join(arguments)}: {done.stdout}{done.stderr}")


def check_with_promtool(manifests, tests, folder):
    """Rules are well formed, and fire when `tests` says so, and only then."""
    folder = pathlib.Path(folder)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(manifests)}), encoding="utf-8")
    shutil.copy(tests, folder / "rules_test.yaml")
    promtool("check", "rules", "rules.yaml", folder=folder)
    promtool("test", "rules", "rules_test.yaml", folder=folder)
