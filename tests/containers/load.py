"""Clients that ask all the time, and notice if one answer is lost or other than it should be.

    expected = ask_all(command)               # what the undisturbed cluster answers
    with Load(command, expected):             # runs it again and again in the background
        ...                                   # harm the cluster
    # leaving waits for the last run, and raises AssertionError if one of them failed or differed

`command` is an `orrery eval`: it asks some problems at a time, fails if a single one fails, and prints a digest over
all ids and log-probabilities.
"""

import re
import subprocess
import threading

RUN_TIMEOUT_S = 240


def ask_all(command):
    """The digest of one run."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    digest = re.search(r"^digest of all ids and log-probabilities: (\w+)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or digest is None:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n"
                             f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return digest[1]


class Load:
    def __init__(self, command, expected):
        self._command = command
        self._expected = expected
        self._stop = threading.Event()
        self._problems = []
        self.num_runs = 0
        self._thread = threading.Thread(target=self._loop)

    def _loop(self):
        while not self._stop.is_set():
            try:
                digest = ask_all(self._command)
                if digest != self._expected:
                    self._problems.append(f"the digest is {digest}, not {self._expected}")
            except (AssertionError, subprocess.TimeoutExpired) as problem:
                self._problems.append(str(problem))
            self.num_runs += 1
            if self._problems:
                return

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self._stop.set()
        self._thread.join()
        if self._problems:
            raise AssertionError("under load: " + "\n".join(self._problems)) from value
