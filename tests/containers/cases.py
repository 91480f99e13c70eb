"""Runs the cases of a test in their order, and reports them as GoogleTest does, so that `orrery test` counts them.

    def answers(cluster): ...                    # raises to fail, Wrong if it knows why, Skip to be skipped
    sys.exit(cases.run("Podman", make_cluster, [answers, loses_nothing_when_a_shard_is_killed]))

`make_fixture` returns a context manager; what it gives is handed to each case. If it fails, all cases do; if it raises
Skip, all are skipped. A case reads `suite.its_name`. The report goes to $XML_OUTPUT_FILE, where Bazel says one.
"""

import dataclasses
import os
import time
import traceback
from xml.sax.saxutils import quoteattr

# Where dnsmasq, and the iptables of container networks, are; Bazel's path has none of it.
os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Skip(Exception):
    """Why this cannot run here, and what it would need."""


class Wrong(Exception):
    """What is wrong, in sentences for who can mend it: reported as they are, without a traceback."""


@dataclasses.dataclass
class _Outcome:
    name: str
    seconds: float = 0
    skipped: str = ""
    failed: str = ""


def run(suite, make_fixture, cases):
    """The exit code."""
    outcomes = []
    try:
        with make_fixture() as fixture:
            for case in cases:
                outcomes.append(_run_case(suite, case, fixture))
    except Skip as skip:
        print(f"SKIPPED  {suite}: {skip}", flush=True)
        outcomes = [_Outcome(case.__name__, skipped=str(skip)) for case in cases]
    except Exception:  # whatever the world may do to a fixture: its traceback is the report
        traceback.print_exc()
        done = {outcome.name for outcome in outcomes}
        rest = [case.__name__ for case in cases if case.__name__ not in done] or ["takes_everything_down"]
        outcomes += [_Outcome(name, failed=traceback.format_exc()) for name in rest]
    if path := os.environ.get("XML_OUTPUT_FILE"):
        _write_report(path, suite, outcomes)
    num_failed = sum(bool(outcome.failed) for outcome in outcomes)
    num_skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    print(f"{suite}: {len(outcomes) - num_failed - num_skipped} passed, {num_failed} failed, {num_skipped} skipped")
    return 1 if num_failed else 0


def _run_case(suite, case, fixture):
    outcome = _Outcome(case.__name__)
    print(f"[ RUN      ] {suite}.{outcome.name}", flush=True)
    begin = time.monotonic()
    try:
        case(fixture)
    except Skip as skip:
        outcome.skipped = str(skip)
    except Wrong as wrong:
        outcome.failed = str(wrong)
        print(outcome.failed)
    except Exception:
        outcome.failed = traceback.format_exc()
        print(outcome.failed)
    outcome.seconds = time.monotonic() - begin
    mark = "  FAILED  " if outcome.failed else " SKIPPED  " if outcome.skipped else "      OK  "
    print(f"[{mark}] {suite}.{outcome.name} ({outcome.seconds:.1f} s) {outcome.skipped}", flush=True)
    return outcome


def _write_report(path, suite, outcomes):
    with open(path, "w", encoding="utf-8") as report:
        report.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n')
        report.write(f'<testsuite name={quoteattr(suite)} tests="{len(outcomes)}">\n')
        for outcome in outcomes:
            report.write(f'<testcase name={quoteattr(outcome.name)} classname={quoteattr(suite)} status="run" '
                         f'time="{outcome.seconds:.3f}">\n')
            if outcome.skipped:
                report.write(f'<skipped message={quoteattr(outcome.skipped)}/>\n')
            if outcome.failed:
                report.write(f'<failure message={quoteattr(outcome.failed)}/>\n')
            report.write('</testcase>\n')
        report.write('</testsuite>\n</testsuites>\n')
