"""deploy/prometheus and deploy/grafana with the real Prometheus, which scrapes a daemon under load."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harstream.bench import load as loads
from harstream.bench.counters import READY, STOP, SharedCounters
from harstream.bench.processes import process
from harstream.source_config import DEFAULT_TOPIC

from ..faults.proxy import FaultyNetwork
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
    """Prometheus with the shipped configuration for ``target``, but with intervals of seconds instead of minutes."""

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
        wait_until(lambda: http_get(f"{self.url}/-/ready")[0] == 200, "Prometheus to be ready")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the present series of an expression."""
        status, body = http_get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert status == 200, body
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules with their state."""
        groups = json.loads(http_get(f"{self.url}/api/v1/rules")[1])["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {rule["name"] for rule in self.rules() if rule.get("state") == "firing"}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Prometheus, Mosquitto, FaultyNetwork, Path]]:
    """Start a daemon with the shipped model under simulated load, and a Prometheus that has data of it."""
    folder = tmp_path_factory.mktemp("watched")
    with (
        Mosquitto(folder) as broker,
        FaultyNetwork(broker.port) as network,
        Process("run", "--broker", network.address, "--http", "127.0.0.1:0", folder=folder) as daemon,
    ):
        daemon.wait_for(" ready: ")
        address = re.search(r"http http://(\S+)", daemon.err)
        assert address
        prometheus = Prometheus(folder, address[1])
        try:
            with Process("simulate", "--broker", broker.address, "--devices", "20", "--pace", "20", folder=folder):
                wait_until(
                    lambda: prometheus.query("sum(increase(harstream_windows_classified_total[10s])) > 50"), "labels"
                )
                yield prometheus, broker, network, folder
        finally:
            prometheus.close()


# --- files --------------------------------------------------------------------------------------------


def test_promtool_accepts_the_rules_and_configurations_and_the_tests_of_rules_pass():
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


def test_groups_set_no_interval_and_rules_select_the_job():
    for group in RULES["groups"]:
        assert "interval" not in group
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        raw = re.findall(r"(?<![:\w])((?:harstream|process)_\w+)(\{[^}]*\})?", rule["expr"])
        assert all('job="harstream"' in matchers for _, matchers in raw), rule


@pytest.mark.parametrize("expression", QUERIES)
def test_panels_show_only_metrics_of_the_job_and_use_no_variable(expression):
    series = re.findall(r"(?<![:\w\"$])((?!by\b|le\b|sum\b)[a-z_:]+_[a-z_:]+)(\{[^}]*\})", expression)
    assert series
    for name, matchers in series:
        assert name.startswith(("harstream_", "process_")), name
        assert 'job="harstream"' in matchers
    assert set(re.findall(r"\$\w+", expression)) <= {"$__rate_interval"}


def test_dashboards_have_different_ids_and_use_the_provisioned_source():
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    dashboards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({dashboard["uid"] for dashboard in dashboards}) == len(dashboards) == 2
    for dashboard in dashboards:
        assert dashboard["templating"]["list"] == []
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
                assert panel["description"]


# --- with a running daemon ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("expression", QUERIES)
def test_every_panel_has_data_under_load(watched, expression):
    prometheus, *_ = watched
    query = expression.replace("$__rate_interval", "10s")

    def has_numbers() -> bool:
        values = [float(series["value"][1]) for series in prometheus.query(query)]
        return bool(values) and not any(map(math.isnan, values))

    wait_until(has_numbers, f"data of {query}")


@pytest.mark.slow
def test_every_rule_is_evaluated_and_no_alert_fires_without_a_cause(watched):
    prometheus, *_ = watched
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), "every rule to be evaluated")
    assert {rule["name"] for rule in prometheus.rules() if rule["type"] == "alerting"} == {
        alert["alert"] for alert in ALERTS
    }
    records = [rule["record"] for rule in RULES["groups"][0]["rules"]]
    wait_until(lambda: all(map(prometheus.query, records)), "every recorded series")
    # A loaded machine may miss scrapes or be late for a while, which also are causes.
    wait_until(lambda: prometheus.firing() <= {"HarstreamLatencyHigh"}, "no other alert to fire")


@pytest.mark.slow
def test_the_most_important_alerts_fire_while_their_cause_lasts(watched):
    prometheus, broker, network, folder = watched
    # Many times the load that the daemon can process, also where the load has little of the processor: messages of this
    # payload are read one by one. The inbox fills up, labels are late, messages are dropped.
    counters = SharedCounters(folder / "counters")
    settings = {"counters": str(folder / "counters"), "host": "127.0.0.1", "port": broker.port, "n_devices": 30_000}
    settings |= {"payload": "sensor-logger", "qos": 0, "n_samples": 25, "lead": 0, "rounds": 0, "log": None}
    settings["topics"] = [DEFAULT_TOPIC]
    with process("-m", loads.__name__, settings) as load:
        wait_until(lambda: "ready" in load.output, "the load")
        counters[READY] = 1
        wait_until(
            lambda: prometheus.firing() >= {"HarstreamInboxDropping", "HarstreamLatencyHigh"},
            "the alerts of overload",
        )
        counters[STOP] = 1
        load.wait()
    broker.stop()
    wait_until(lambda: "HarstreamBrokerLost" in prometheus.firing(), "the alert of the lost broker")
    broker.start()
    wait_until(lambda: "HarstreamBrokerLost" not in prometheus.firing(), "its end")
    network.half_open(new=True)  # nobody closes the connection, and nothing comes over it any more
    wait_until(lambda: "HarstreamBrokerLost" in prometheus.firing(), "the alert of a dead link")
    network.heal()
    wait_until(lambda: "HarstreamBrokerLost" not in prometheus.firing(), "its end")
    overload = {"HarstreamInboxDropping", "HarstreamLatencyHigh"}
    wait_until(lambda: not overload & prometheus.firing(), "the end of the overload")
