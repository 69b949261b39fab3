"""Unit, manifests, compose file and Dockerfile, each checked by the tool or schema of those who will read it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from harstream import config

from ..servers import program
from .conftest import DEPLOY

UNIT = DEPLOY / "systemd" / "harstream.service"
MANIFESTS = sorted(
    path
    for path in (DEPLOY / "kubernetes").rglob("*.yaml")
    if path.name not in ("kustomization.yaml", "servicemonitor.yaml")
)


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return str(done.stdout + done.stderr)


# --- systemd ------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace("/opt/harstream/bin/harstream", f"{Path(sys.executable).parent}/harstream")
    )
    return copy


def test_systemd_accepts_the_unit(unit):
    assert run(program("systemd-analyze"), "verify", "--man=no", unit).strip() == ""


def test_the_unit_exposes_little(unit):
    """Of 10, the exposure that systemd computes from what the unit allows; below 2 is "OK"."""
    run(program("systemd-analyze"), "security", "--offline=true", "--threshold=15", "--no-pager", unit)


def test_a_refused_start_is_not_tried_again_and_the_watchdog_waits_longer_than_the_loop():
    text = UNIT.read_text()
    assert re.search(r"(?m)^RestartPreventExitStatus=2 3 4$", text)
    assert re.search(r"(?m)^WatchdogSec=30$", text)


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.toml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_file_of_settings_has_only_settings_there_are(path):
    read = config.read_file(path)
    assert read
    assert set(tomllib.loads(path.read_text())) == set(read)


# --- kubernetes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_is_what_kubernetes_says_such_a_thing_is(path):
    import kubernetes_validate

    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_kustomizations_name_files_that_are_there_and_all_of_them():
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        made = yaml.safe_load(path.read_text())
        named = {*made["resources"], *(file for each in made["configMapGenerator"] for file in each["files"])}
        for name in named:
            assert (path.parent / name).exists(), name
        here = {each.name for each in path.parent.iterdir() if each.is_file()} - {"kustomization.yaml"}
        assert here == {name for name in named if not name.startswith("..")}


def test_names_and_ports_agree_across_the_manifests():
    base = DEPLOY / "kubernetes" / "base"
    one = {path.stem: yaml.safe_load(path.read_text()) for path in base.glob("*.yaml")}
    labels = one["statefulset"]["spec"]["template"]["metadata"]["labels"]
    assert one["statefulset"]["spec"]["selector"]["matchLabels"] == labels
    assert one["service"]["spec"]["selector"] == labels
    assert one["poddisruptionbudget"]["spec"]["selector"]["matchLabels"] == labels
    assert one["networkpolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    monitor = one["servicemonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= one["service"]["metadata"]["labels"].items()
    # The job that rules and dashboards ask for.
    assert one["service"]["metadata"]["labels"][monitor["jobLabel"]] == "harstream"
    assert one["statefulset"]["spec"]["serviceName"] == one["service"]["metadata"]["name"]
    container = one["statefulset"]["spec"]["template"]["spec"]["containers"][0]
    port = container["ports"][0]["containerPort"]
    assert tomllib.loads((base / "harstream.toml").read_text())["http"].endswith(f":{port}")
    assert one["networkpolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port


def test_the_overlays_workers_are_its_replicas():
    overlay = DEPLOY / "kubernetes" / "overlays" / "cluster"
    replicas = yaml.safe_load((overlay / "kustomization.yaml").read_text())["replicas"][0]["count"]
    settings = tomllib.loads((overlay / "harstream.toml").read_text())
    assert settings["worker"] == f"auto/{replicas}"
    assert f"partition({settings['partition_count']}," in (DEPLOY / "cluster" / "partitions.conf").read_text()


# --- containers ---------------------------------------------------------------------------------------


def test_docker_compose_accepts_the_file(tmp_path):
    # What it refers to must be there; secrets are made by the user.
    run(program("docker-compose"), "-f", DEPLOY / "compose.yaml", "--profile", "demo", "config", "-q", cwd=tmp_path)


def test_compose_exposes_nothing_but_the_brokers_tls_and_grafana_on_loopback():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"mosquitto": ["8883:8883", "8884:8884"], "grafana": ["127.0.0.1:3000:3000"]}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert ":" in service.get("image", ""), name


def test_compose_mounts_what_is_there():
    data = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    made = {"mosquitto/secrets", "mosquitto/data"}  # by prepare
    for service in data["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert source[2:] in made or (DEPLOY / source).exists(), source
    settings = list(data["services"]["harstream"]["environment"])
    config.check_environment(dict.fromkeys(settings, "x"))


def test_the_dockerfile_is_linted():
    hadolint = Path(sys.executable).parent / "hadolint"
    run(hadolint if hadolint.exists() else program("hadolint"), DEPLOY / "Dockerfile")


def test_what_the_image_installs_serves_without_tensorflow():
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"pip install .*--constraint constraints.txt \.", text)
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert not any(name.startswith(("tensorflow", "keras")) for name in project["dependencies"])
