"""docker-compose.yml fits the service, the images and monitoring/, and gives each container no more than it needs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import init
from service.config import read_settings
from tests.deploy.manifests import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"init", "trainer", "retrain", "loader"}
PROFILES = {"grafana": ["monitoring"], "retrain": ["train"], "service-gpu": ["gpu"]}
each_container = pytest.mark.parametrize("name", CONTAINERS)


def settings_of(name: str) -> dict[str, str]:
    """The settings of a container, without the file of the store's URL, which is not here."""
    environ = {key: str(value) for key, value in CONTAINERS[name].get("environment", {}).items()}
    return {key: value for key, value in environ.items() if key.startswith("CTR_") and key != "CTR_STORE_FILE"}


@each_container
def test_a_container_may_do_little(name: str):
    """A root that cannot be written, no capabilities, no new privileges, limits; `init` alone may change owners."""
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container.get("cap_add", []) == (["CHOWN", "DAC_OVERRIDE", "FOWNER"] if name == "init" else [])
    assert {"cpus", "mem_limit", "pids_limit", "tmpfs", "logging"} <= container.keys()
    assert container.get("user") != "0:0" or name == "init"


@each_container
def test_what_lasts_is_restarted_and_watched(name: str):
    """What runs once is neither; the service's own check is in its image."""
    container = CONTAINERS[name]
    assert container["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in container) == (name not in ONCE and not name.startswith("service"))


def test_profiles():
    """Without any profile there is a stack that scores and is watched."""
    assert {name: each["profiles"] for name, each in CONTAINERS.items() if "profiles" in each} == PROFILES


@each_container
def test_ports_are_of_this_machine_alone(name: str):
    """What is to be reached from elsewhere gets a proxy in front of it."""
    assert all(port.startswith("127.0.0.1:") for port in CONTAINERS[name].get("ports", []))


def test_redis_is_reached_from_its_network_alone():
    """That network leads nowhere; `init` and the trainers have none at all."""
    assert COMPOSE["networks"]["store"] == {"internal": True}
    assert CONTAINERS["redis"]["networks"] == ["store"]
    assert "ports" not in CONTAINERS["redis"]
    assert {name for name, each in CONTAINERS.items() if each.get("network_mode") == "none"} == {
        "init",
        "trainer",
        "retrain",
    }


@each_container
def test_secrets_are_files(name: str):
    """No variable holds one: it names a file in /secrets, which is mounted there, and which `init` makes."""
    made = {*init.MADE, "redis_password.conf", "store_url"}
    environ = CONTAINERS[name].get("environment", {})
    secret = {key: value for key, value in environ.items() if re.search("PASSWORD|KEY|SECRET|STORE", key)}
    assert all(key.endswith("_FILE") for key in secret)
    assert {Path(value).name for value in secret.values()} <= made
    assert not secret or any(volume.startswith("secrets:/secrets") for volume in CONTAINERS[name]["volumes"])


@pytest.mark.parametrize("name", ["service", "service-gpu", "consumer", "loader"])
def test_the_service_takes_the_settings(name: str):
    """Names and values; and what is published is what it listens on."""
    taken = read_settings({"CTR_HOST": "0.0.0.0", "CTR_STORE": "redis://redis:6379/0", **settings_of(name)})
    published = {port.rpartition(":")[2] for port in CONTAINERS[name].get("ports", [])}
    assert published == ({str(taken.port), str(taken.admin_port)} if name.startswith("service") else set())
    if taken.admin_apart:
        assert taken.admin_host == "0.0.0.0"


def test_a_container_is_not_killed_before_it_has_drained():
    """Drain, deadline and 10 s, as docs/operations.md asks for."""
    taken = read_settings({"CTR_STORE": "memory://", **settings_of("service")})
    seconds = int(CONTAINERS["service"]["stop_grace_period"].removesuffix("s"))
    assert seconds >= taken.drain_delay_s + taken.drain_s + 10


def test_volumes_belong_to_their_users():
    """`init` gives each to the user who writes it; the service's image has user 10001."""
    users = {name: int(each["user"].partition(":")[0]) for name, each in CONTAINERS.items() if "user" in each}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    mounted = {volume.partition(":")[0] for volume in CONTAINERS["init"]["volumes"] if not volume.startswith(".")}
    assert users == {"init": 0, "redis": init.REDIS, "prometheus": init.PROMETHEUS, "grafana": init.GRAFANA}
    assert f"USER {init.APP}:{init.APP}" in dockerfile
    assert {*init.VOLUMES, "secrets"} == mounted == COMPOSE["volumes"].keys()


def test_prometheus_and_grafana_find_what_they_ask():
    """Targets and the data source name containers and ports of this file; folders are mounted where the files say."""
    targets = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "monitoring" / "targets").glob("*.yml")}
    consumer = settings_of("consumer")["CTR_CONSUMER_PORT"]
    (source,) = (ROOT / "monitoring" / "grafana" / "provisioning" / "datasources").glob("*.yml")
    (provider,) = (ROOT / "monitoring" / "grafana" / "provisioning" / "dashboards").glob("*.yml")
    folder = yaml.safe_load(provider.read_text())["providers"][0]["options"]["path"]

    assert targets["ctr-service"] == [{"targets": ["service:8080"]}]
    assert targets["ctr-consumer"] == [{"targets": [f"consumer:{consumer}"]}]
    assert yaml.safe_load(source.read_text())["datasources"][0]["url"] == "http://prometheus:9090"
    assert f"./monitoring/grafana/dashboards:{folder}:ro" in CONTAINERS["grafana"]["volumes"]
    assert CONTAINERS["service-gpu"]["networks"]["watch"] == {"aliases": ["service"]}


def test_mounted_files_are_there():
    """Docker would make a folder in the place of a file that is missing."""
    mounts = [volume for each in CONTAINERS.values() for volume in each.get("volumes", [])]
    missing = [mount for mount in mounts if mount.startswith("./") and not (ROOT / mount.partition(":")[0]).exists()]
    assert missing == []


def test_the_example_names_every_choice():
    """.env.example has the variables of docker-compose.yml with their defaults, and none that does nothing."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert named.pop("COMPOSE_PROFILES") == "monitoring"
    assert named.keys() == used.keys()
    assert {name for name, value in named.items() if value != used[name]} <= {"SERVICE_MEMORY"}  # 6g on a GPU
