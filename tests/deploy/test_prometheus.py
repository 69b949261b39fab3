"""deploy/prometheus and deploy/grafana against the real Prometheus, scraping a daemon under load."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harstream.bench import load as loads
from harstream.bench.counters import READY, STOP, SharedCounters
from harstream.bench.processes import process

from ..servers import Mosquitto, Process, free_port, http_get, program, wait_until
from .conftest import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


def panels(dashboard: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(dashboard.read_text())["panels"] if panel["type"] != "row"]


QUERIES = [
    pytest.param(target["expr"], id=f"{dashboard.stem}: {panel['title']} {target['refId']}")
    for dashboard in DASHBOARDS
    for panel in panels(dashboard)
    for target in panel["targets"]
]


class Prometheus:
    """The real one with the shipped configuration, scraping ``target``: faster, that a test need not wait minutes."""

    def __init__(self, folder: Path, target: str) -> None:
        config = (PROMETHEUS / "prometheus.yml").read_text().replace("15s", "1s")
        (folder / "prometheus.yml").write_text(config.replace("127.0.0.1:9464", target))
        rules = (PROMETHEUS / "rules.yml").read_text()
        rules = re.sub(r"\[\d+[mh]\]", "[10s]", rules)
        (folder / "rules.yml").write_text(re.sub(r"for: \w+", "for: 2s", rules))
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("ab")
        command = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self.url[7:]}"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        wait_until(lambda: http_get(f"{self.url}/-/ready")[0] == 200, "prometheus")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series there are now."""
        status, body = http_get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert status == 200, body
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        groups = json.loads(http_get(f"{self.url}/api/v1/rules")[1])["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> set[str]:
        return {rule["name"] for rule in self.rules() if rule.get("state") == "firing"}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Mosquitto, Path]]:
    """A daemon with the shipped model under simulated load, and Prometheus that has watched it for a while."""
    folder = tmp_path_factory.mktemp("watched")
    port = free_port()
    with (
        Mosquitto(folder) as broker,
        Process("run", "--broker", broker.address, "--http", f"127.0.0.1:{port}", folder=folder) as daemon,
    ):
        daemon.wait_for(" ready: ")
        prometheus = Prometheus(folder, f"127.0.0.1:{port}")
        try:
            with Process("simulate", "--broker", broker.address, "--devices", "20", "--pace", "20", folder=folder):
                wait_until(
                    lambda: prometheus.query("sum(increase(harstream_windows_classified_total[10s])) > 50"), "traffic"
                )
                yield prometheus, broker, folder
        finally:
            prometheus.close()


# --- as files -----------------------------------------------------------------------------------------


def test_promtool_accepts_rules_and_configurations_and_their_tests_pass():
    tool = program("promtool")
    for command in (
        ["check", "rules", "rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["check", "config", "compose.yml"],
        ["test", "rules", "rules_test.yml"],
    ):
        done = subprocess.run([tool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_severity_a_summary_a_test_and_a_section_in_the_runbook():
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    for alert in ALERTS:
        name = alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"
        assert f"\n## {name}\n" in runbook
        assert name in fired
    assert re.findall(r"(?m)^## (\w+)$", runbook) == [alert["alert"] for alert in ALERTS]


def test_groups_set_no_interval_and_rules_ask_for_the_job():
    for group in RULES["groups"]:
        assert "interval" not in group
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        raw = re.findall(r"(?<![:\w])((?:harstream|process)_\w+)(\{[^}]*\})?", rule["expr"])
        assert all('job="harstream"' in matchers for _, matchers in raw), rule


@pytest.mark.parametrize("expression", QUERIES)
def test_panels_ask_for_our_metrics_of_our_job_with_no_variable_of_their_own(expression):
    series = re.findall(r"(?<![:\w\"$])((?!by\b|le\b|sum\b)[a-z_:]+_[a-z_:]+)(\{[^}]*\})", expression)
    assert series
    for name, matchers in series:
        assert name.startswith(("harstream_", "process_")), name
        assert 'job="harstream"' in matchers
    assert set(re.findall(r"\$\w+", expression)) <= {"$__rate_interval"}


def test_dashboards_are_told_apart_and_ask_the_provisioned_source():
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    found = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({dashboard["uid"] for dashboard in found}) == len(found) == 2
    for dashboard in found:
        assert dashboard["templating"]["list"] == []
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
                assert panel["description"]


# --- alive --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("expression", QUERIES)
def test_every_panel_has_data_under_load(watched, expression):
    prometheus, _, _ = watched
    asked = expression.replace("$__rate_interval", "10s")
    wait_until(lambda: prometheus.query(asked), f"data of {asked}", 30)
    values = [float(series["value"][1]) for series in prometheus.query(asked)]
    assert all(value == value for value in values), values  # no NaN


@pytest.mark.slow
def test_every_rule_evaluates_and_nothing_fires_while_all_is_well(watched):
    prometheus, _, _ = watched
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), "every rule to be evaluated")
    assert {rule["name"] for rule in prometheus.rules() if rule["type"] == "alerting"} == {
        alert["alert"] for alert in ALERTS
    }
    for rule in RULES["groups"][0]["rules"]:
        assert prometheus.query(rule["record"]), rule["record"]
    assert prometheus.firing() <= {"HarstreamLatencyHigh"}  # tests beside us may slow us down


@pytest.mark.slow
def test_the_alerts_that_matter_most_fire_when_their_cause_is_there(watched):
    prometheus, broker, folder = watched
    # Several times what two cores can take: the inbox fills up, labels come late, then messages are shed.
    counters = SharedCounters(folder / "counters")
    settings = {"counters": str(folder / "counters"), "host": "127.0.0.1", "port": broker.port, "n_devices": 30_000}
    settings |= {"payload": "json", "qos": 0, "lead": 0, "rounds": 0, "log": None}
    with process("-m", loads.__name__, settings) as load:
        wait_until(lambda: "ready" in load.output, "the load")
        counters[READY] = 1
        wait_until(
            lambda: prometheus.firing() >= {"HarstreamInboxDropping", "HarstreamLatencyHigh"},
            "the alerts of more than it can take",
        )
        counters[STOP] = 1
        load.wait()
    broker.stop()
    wait_until(lambda: "HarstreamBrokerLost" in prometheus.firing(), "the alert of the lost broker")
    broker.start()
    wait_until(lambda: "HarstreamBrokerLost" not in prometheus.firing(), "its end")
    deadline = time.monotonic() + 120
    while {"HarstreamInboxDropping", "HarstreamLatencyHigh"} & prometheus.firing():
        assert time.monotonic() < deadline
        time.sleep(0.5)
