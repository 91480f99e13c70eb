"""A real Prometheus that scrapes some addresses, with the rules of deploy/.

    with Prometheus({"router-0": "10.0.0.1:9400"}, rule_groups) as prometheus:
        prometheus.wait_until_up(["router-0"])
        prometheus.broken_rules()                                       # {} once all were evaluated
        prometheus.query("sum(orrery_router_generated_tokens_total)")   # [{"metric": {...}, "value": [time, "12"]}]

Raises cases.Skip without prometheus.
"""

import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from cases import Skip

PATIENCE_S = 30


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    def __init__(self, targets, rule_groups):
        if shutil.which("prometheus") is None:
            raise Skip("there is no prometheus: apt-get install prometheus")
        self._temporary = tempfile.TemporaryDirectory(prefix="orrery-prometheus-")
        self._folder = pathlib.Path(self._temporary.name)
        self._address = f"127.0.0.1:{_free_port()}"
        self._log = self._folder / "log"
        # JSON is YAML.
        (self._folder / "rules.yml").write_text(json.dumps({"groups": rule_groups}))
        (self._folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "orrery", "static_configs": [
                {"targets": [address], "labels": {"pod": name}} for name, address in targets.items()]}],
        }))

    def __enter__(self):
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={self._folder}/prometheus.yml",
                 f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address={self._address}"],
                stdout=log, stderr=log)
        return self

    def __exit__(self, kind, value, trace):
        self._process.terminate()
        self._process.wait()
        if kind is not None:
            print(self._log.read_text()[-2000:])
        self._temporary.cleanup()

    def query(self, expression):
        return self._get("query?" + urllib.parse.urlencode({"query": expression}))["result"]

    def broken_rules(self):
        """name: what is wrong, of those that do not work or were not evaluated yet."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return {rule["name"]: rule.get("lastError", rule["health"]) for rule in rules if rule["health"] != "ok"}

    def _get(self, path):
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}", timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def wait_until_up(self, names):
        deadline = time.monotonic() + PATIENCE_S
        missing = set(names)
        while missing:
            assert self._process.poll() is None, "prometheus ended"
            assert time.monotonic() < deadline, f"not scraped within {PATIENCE_S} s: {sorted(missing)}"
            try:
                up = self.query("up == 1")
                missing = set(names) - {series["metric"]["pod"] for series in up}
            except urllib.error.URLError:  # it has only started
                pass
            time.sleep(0.2)
