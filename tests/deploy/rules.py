"""Alerts and recorded series: what they ask for, and `promtool`'s opinion of them and of autoscalers' queries."""

import pathlib
import re
import shutil
import subprocess

import yaml

import promql
import scraping
from cases import Skip
from scalers import queries

TIMEOUT_S = 60


def groups(manifests):
    return [group for each in manifests.of("PrometheusRule") for group in each["spec"]["groups"]]


def rules(manifests):
    return [rule for group in groups(manifests) for rule in group["rules"]]


def recorded(manifests, known):
    """{name of a recorded series: its labels}: those that it is grouped by, or all."""
    found = {}
    for rule in rules(manifests):
        if "record" in rule:
            try:
                asked = promql.read(rule["expr"])
            except ValueError:  # that is said of the rule itself
                continue
            labels = [set(each.labels) for each in asked.groupings] or [known.get(each.name, set())
                                                                       for each in asked.selectors]
            found[rule["record"]] = set().union(*labels)
    return found


def rules_ask_for_what_there_is(manifests, series):
    """`series`: of each role, as scraping.series_of() has them."""
    known = scraping.all_of(series)
    known |= recorded(manifests, known)
    return [f"rule {rule.get('alert', rule.get('record'))}: {problem}" for rule in rules(manifests)
            for problem in promql.problems(rule["expr"], known, scraping.VALUES)]


def the_runbook_names_what_there_is(manifests, series, runbook):
    known = scraping.all_of(series)
    known |= recorded(manifests, known)
    return [f"the runbook names {name}, which is no series"
            for name in sorted(set(re.findall(r"`(orrery[_:]\w[\w:]*)`", runbook)) - set(known))]


def alerts_are_explained(manifests, runbook):
    """Each has a heading of its name in the runbook, and no other name has."""
    alerts = {rule["alert"] for rule in rules(manifests) if "alert" in rule}
    explained = set(re.findall(r"^#+ (Orrery\w+)$", runbook, re.MULTILINE))
    return ([f"the runbook does not say what to do about {name}" for name in sorted(alerts - explained)]
            + [f"the runbook explains {name}, which is no alert" for name in sorted(explained - alerts)]
            + [f"{rule['alert']} has no severity, or no summary" for rule in rules(manifests) if "alert" in rule
               and not (rule.get("labels", {}).get("severity") and rule.get("annotations", {}).get("summary"))])


def promtool(*arguments, folder):
    program = shutil.which("promtool")
    if not program:
        raise Skip("promtool is not installed: Debian's package prometheus has it")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S,
                          check=False)
    if done.returncode != 0:
        raise AssertionError(f"promtool {' '.join(arguments)}: {done.stdout}{done.stderr}")


def check_queries_with_promtool(manifests, folder):
    """As if they were recorded."""
    written = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries(manifests))]
    (pathlib.Path(folder) / "queries.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": written}]}), encoding="utf-8")
    promtool("check", "rules", "queries.yaml", folder=folder)


def check_with_promtool(manifests, tests, folder):
    """Rules are well formed, and fire when `tests` says so, and only then."""
    folder = pathlib.Path(folder)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(manifests)}), encoding="utf-8")
    shutil.copy(tests, folder / "rules_test.yaml")
    promtool("check", "rules", "rules.yaml", folder=folder)
    promtool("test", "rules", "rules_test.yaml", folder=folder)
