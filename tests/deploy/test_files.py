"""Unit, manifests, compose file and Dockerfile, each checked by the tool or schema of the program that reads it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from harstream import settings_file

from ..servers import program
from .conftest import DEPLOY

UNIT = DEPLOY / "systemd" / "harstream.service"
MANIFESTS = sorted(
    path
    for path in (DEPLOY / "kubernetes").rglob("*.yaml")
    if path.name not in ("kustomization.yaml", "servicemonitor.yaml")
)


def run(*command: object, **options: Any) -> str:
    """Run a program that must succeed, and return its output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return f"{done.stdout}{done.stderr}"


# --- systemd ------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a copy of the unit that starts the installed program."""
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace("/opt/harstream/bin/harstream", f"{Path(sys.executable).parent}/harstream")
    )
    return copy


def test_systemd_accepts_the_unit(unit):
    assert run(program("systemd-analyze"), "verify", "--man=no", unit).strip() == ""


def test_the_exposure_of_the_unit_is_low(unit):
    """systemd computes the exposure, from 0 to 10, from what the unit is allowed to do; below 2 is "OK"."""
    run(program("systemd-analyze"), "security", "--offline=true", "--threshold=15", "--no-pager", unit)


def test_a_refused_start_is_not_repeated_and_the_watchdog_waits_longer_than_the_loop():
    text = UNIT.read_text()
    assert re.search(r"(?m)^RestartPreventExitStatus=2 3 4$", text)
    assert re.search(r"(?m)^WatchdogSec=30$", text)


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.toml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_toml_file_has_only_known_settings(path):
    read = settings_file.read_file(path)
    assert read
    assert set(tomllib.loads(path.read_text())) == set(read)


# --- kubernetes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_follows_the_schema_of_kubernetes(path):
    import kubernetes_validate

    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_kustomizations_name_exactly_the_files_of_their_folder():
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(path.read_text())
        generated = [file for each in kustomization["configMapGenerator"] for file in each["files"]]
        named = {*kustomization["resources"], *generated}
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
    # Rules and dashboards select this job.
    assert one["service"]["metadata"]["labels"][monitor["jobLabel"]] == "harstream"
    assert one["statefulset"]["spec"]["serviceName"] == one["service"]["metadata"]["name"]
    container = one["statefulset"]["spec"]["template"]["spec"]["containers"][0]
    port = container["ports"][0]["containerPort"]
    assert tomllib.loads((base / "harstream.toml").read_text())["http"].endswith(f":{port}")
    assert one["networkpolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port


def test_the_overlay_has_as_many_replicas_as_workers():
    overlay = DEPLOY / "kubernetes" / "overlays" / "cluster"
    replicas = yaml.safe_load((overlay / "kustomization.yaml").read_text())["replicas"][0]["count"]
    settings = tomllib.loads((overlay / "harstream.toml").read_text())
    assert settings["worker"] == f"auto/{replicas}"
    assert f"partition({settings['partition_count']}," in (DEPLOY / "cluster" / "partitions.conf").read_text()


# --- brokers ---


def test_the_daemon_connects_to_the_services_listener_and_the_network_policy_lets_it():
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    listeners = {part.split()[0]: part for part in text.split("\nlistener ")[1:]}
    services = [port for port, part in listeners.items() if "acl_file services.acl\n" in part]
    wearables = [port for port, part in listeners.items() if "acl_file wearables.acl\n" in part]
    assert len(services) == len(wearables) == 2
    for port in wearables:
        assert "use_username_as_clientid true\n" in listeners[port]
    base = DEPLOY / "kubernetes" / "base"
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    addresses = [
        settings_file.read_file(path)["broker"]
        for path in (DEPLOY / "systemd" / "harstream.toml", base / "harstream.toml")
    ]
    for address in (*addresses, compose["harstream"]["environment"]["HARSTREAM_RUN_BROKER"]):
        assert address.rpartition(":")[2] in services
    overlay = settings_file.read_file(DEPLOY / "kubernetes" / "overlays" / "cluster" / "harstream.toml")["broker"]
    used = {int(address.rpartition(":")[2]) for address in f"{addresses[1]} {overlay}".split()}
    policy = yaml.safe_load((base / "networkpolicy.yaml").read_text())["spec"]["egress"]
    assert used == {each["port"] for rule in policy for each in rule["ports"]} - {53}


# --- containers ---------------------------------------------------------------------------------------


def test_docker_compose_accepts_the_file(tmp_path):
    # Compose checks that the files it refers to exist, except the secrets, which the user makes.
    run(program("docker-compose"), "-f", DEPLOY / "compose.yaml", "--profile", "demo", "config", "-q", cwd=tmp_path)


def test_compose_publishes_only_the_tls_ports_of_the_broker_and_those_for_services_and_grafana_on_loopback():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    services_ports = ["127.0.0.1:8885:8885", "127.0.0.1:8886:8886"]
    assert published.pop("mosquitto") == ["8883:8883", "8884:8884", *services_ports]
    assert published == {"grafana": ["127.0.0.1:3000:3000"]}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert ":" in service.get("image", ""), name


def test_compose_mounts_existing_files():
    data = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    prepared = {"mosquitto/secrets", "mosquitto/data"}  # the script prepare makes them
    for service in data["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert source[2:] in prepared or (DEPLOY / source).exists(), source
    settings = list(data["services"]["harstream"]["environment"])
    settings_file.check_environment(dict.fromkeys(settings, "x"))


def test_hadolint_accepts_the_dockerfile():
    hadolint = Path(sys.executable).parent / "hadolint"
    run(hadolint if hadolint.exists() else program("hadolint"), DEPLOY / "Dockerfile")


def test_the_image_installs_no_tensorflow():
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"pip install .*--constraint constraints.txt \.", text)
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert not any(name.startswith(("tensorflow", "keras")) for name in project["dependencies"])
