"""What k8s/ ships fits the service: settings, routes, times, names, restrictions. Needs PyYAML alone."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k8s import rules
from service.app import create_app
from service.config import PREFIX, Settings, read_settings
from service.metrics import Metrics
from tests.deploy.manifests import K8S, OVERLAYS, ROOT, Pods, kustomization, named, pods, read, settings, shipped

ALL = list(pods(shipped()))
DEPLOYED = [ROOT / name for name in ("docker-compose.yml", "Dockerfile", ".env.example", "deploy/healthy.py")]
SCORERS = ("ctr-service", "ctr-consumer")


def one(name: str) -> Pods:
    (found,) = [each for each in ALL if each.name == name]
    return found


def names_in(path: Path) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [*DEPLOYED, *sorted(K8S.rglob("*.yml"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_environment_name_is_a_setting(path: Path):
    """In comments too."""
    real = {PREFIX + name.upper() for name in Settings.model_fields}
    assert names_in(path) - real == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_service_takes_the_settings(overlay: str):
    """Values are of the right kind and fit together; the service listens beyond its own pod."""
    taken = read_settings(settings(overlay))
    assert taken.host == "0.0.0.0"
    assert taken.drain_s * 1000 >= taken.max_deadline_ms


def test_the_gpu_overlay_adds_settings_that_the_service_takes():
    """They come by the container's environment, so that the consumer does not get them."""
    (patch,) = read(K8S / "overlays" / "gpu" / "gpu.yml")
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    taken = read_settings(settings("gpu") | {each["name"]: each["value"] for each in container["env"]})
    assert (taken.device, taken.threads) == ("cuda", 2)


def test_probes_ask_real_routes():
    """Each probe names a GET route and the port that the settings open."""
    routes = {
        path for path, methods in create_app(Settings(store="memory://")).openapi()["paths"].items() if "get" in methods
    }
    expected = {"ctr-service": routes, "ctr-consumer": {"/metrics"}}
    ports = {
        "ctr-service": read_settings(settings("cpu")).port,
        "ctr-consumer": read_settings(settings("cpu")).consumer_port,
    }
    for name in SCORERS:
        (container,) = one(name).containers
        (port,) = container["ports"]
        probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
        assert port["containerPort"] == ports[name]
        assert {probe["port"] for probe in probes} == {port["name"]}
        assert {probe["path"] for probe in probes} <= expected[name]


def test_load_and_a_missing_bundle_restart_nothing():
    """Liveness and start-up ask /livez, which neither fails; readiness asks /readyz."""
    (container,) = one("ctr-service").containers
    paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
    assert paths == ["/livez", "/livez", "/readyz"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_is_not_killed_before_it_has_drained(overlay: str):
    """The grace period holds preStop, both drain settings and the 10 s that docs/operations.md asks for."""
    taken = read_settings(settings(overlay))
    service = one("ctr-service")
    (container,) = service.containers
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"] + taken.drain_delay_s + taken.drain_s + 10
    assert service.spec["terminationGracePeriodSeconds"] >= waits
    assert one("ctr-consumer").spec["terminationGracePeriodSeconds"] * 1000 > 10 * taken.events_pause_ms


def test_patches_leave_restrictions_alone():
    """So that what holds for the base holds for every overlay, where it cannot be rendered too."""
    loosened = (
        "securityContext",
        "enableServiceLinks",
        "hostNetwork",
        "hostPath",
        "terminationGracePeriodSeconds",
        "preStop",
    )
    folders = [path.parent for path in K8S.rglob("kustomization.yml")]
    patches = [
        folder / each["path"]
        for folder in folders
        for each in kustomization(folder).get("patches", [])
        if "path" in each
    ]
    assert len(patches) == 4
    assert [
        (path.name, word) for path in patches for word in loosened if word in path.read_text(encoding="utf-8")
    ] == []


def test_the_user_is_the_image_s():
    """Files of the image and the volume belong to this number."""
    (uid,) = set(re.findall(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert {each.spec["securityContext"]["runAsUser"] for each in ALL if each.name != "redis"} == {int(uid)}


def test_rules_are_those_of_monitoring():
    """`python -m k8s.rules` was run after the last change of monitoring/rules."""
    assert rules.FILE.read_text(encoding="utf-8") == rules.written()


def test_prometheus_finds_the_jobs_that_the_rules_ask_for():
    """A monitor selects the Service by its label, and the Service's name is the job in monitoring/prometheus.yml."""
    (config,) = read(ROOT / "monitoring" / "prometheus.yml")
    found = set()
    for monitor in read(K8S / "components" / "monitoring" / "monitors.yml"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [s for s in shipped() if s["kind"] == "Service" and selector <= s["metadata"]["labels"].items()]
        assert {each["port"] for each in monitor["spec"]["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}
        found.add(service["metadata"]["name"])
    assert found == {job["job_name"] for job in config["scrape_configs"]}


def test_services_reach_pods():
    """Every Service selects the pods of one workload and names one of its ports; that of ctr-admin comes by a patch
    (test_k8s_rendered.py).
    """
    services = [each for each in shipped() if each["kind"] == "Service"]
    for service in (each for each in services if each["metadata"]["name"] != "ctr-admin"):
        (target,) = [each for each in ALL if service["spec"]["selector"].items() <= each.labels.items()]
        ports = {port["name"] for container in target.containers for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_the_autoscaler_asks_for_a_metric_that_is_there():
    """The service's own metric, by the name that the adapter gives it; KEDA's example scales alike."""
    spec = named(shipped(), "HorizontalPodAutoscaler", "ctr-service")["spec"]
    queue, cpu = (metric[metric["type"].lower()] for metric in spec["metrics"])
    (adapter,) = read(K8S / "examples" / "prometheus_adapter.yml")
    (rule,) = adapter["rules"]["custom"]
    (keda,) = read(K8S / "examples" / "keda.yml")
    rows, load = (trigger["metadata"] for trigger in keda["spec"]["triggers"])
    registry = CollectorRegistry()
    Metrics(registry, slo_s=0.03, routes=[])

    assert queue["metric"]["name"] == rule["name"]["as"] == rule["seriesQuery"].partition("{")[0] == "ctr_rows"
    assert registry.get_sample_value("ctr_rows") is not None
    assert (rows["threshold"], int(load["value"])) == (
        queue["target"]["averageValue"],
        cpu["target"]["averageUtilization"],
    )
    assert (keda["spec"]["minReplicaCount"], keda["spec"]["maxReplicaCount"]) == (
        spec["minReplicas"],
        spec["maxReplicas"],
    )
    assert int(rows["threshold"]) < Settings().queue_rows


def test_the_network_opens_what_is_named_and_no_more():
    """Everything is denied for every pod; out of it go questions to DNS and Redis, and every opening names whom."""
    policies = {each["metadata"]["name"]: each["spec"] for each in shipped() if each["kind"] == "NetworkPolicy"}
    assert policies.pop("deny-all") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    out = [rule for spec in policies.values() for rule in spec.get("egress", [])]
    into = [rule for spec in policies.values() for rule in spec.get("ingress", [])]

    assert {port["port"] for rule in out for port in rule["ports"]} == {53, 6379, "redis"}
    assert all(peer for rule in out for peer in rule["to"])
    assert all(peer for rule in into for peer in rule["from"])
    assert all(rule["ports"] for rule in into)
