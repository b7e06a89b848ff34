"""The rules that hold for every pod, on the files and on each overlay as kubectl renders it.

That Kubernetes knows every field is .ci/checks's to ask.
"""

from typing import Any

import pytest

from service.config import read_settings
from tests.deploy.manifests import OVERLAYS, Pods, Table, named, pods, rendered, settings, shipped

SOURCES = ("files", *OVERLAYS)


def documents(source: str) -> list[dict[str, Any]]:
    return shipped() if source == "files" else rendered(source)


def workloads(source: str) -> list[Pods]:
    return list(pods(documents(source)))


@pytest.mark.parametrize("source", SOURCES)
def test_every_container_is_restricted(source: str):
    """As the Pod Security Standard `restricted` has it, and the root file system is read-only."""
    found = workloads(source)
    assert len(found) >= 3
    for each in found:
        assert each.spec["securityContext"]["runAsNonRoot"] is True
        assert each.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & each.spec.keys()
        for container in each.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("source", SOURCES)
def test_every_container_is_bounded(source: str):
    """CPU, memory and disk are asked for and limited, and what a pod writes to has a size."""
    for each in workloads(source):
        for container in each.containers:
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
        assert all(volume["emptyDir"]["sizeLimit"] for volume in each.spec["volumes"] if "emptyDir" in volume)


@pytest.mark.parametrize("source", SOURCES)
def test_pods_get_nothing_unasked(source: str):
    """No token of the API, and no variables for Services: those of `ctr-service` would stop the service."""
    for each in workloads(source):
        assert each.spec["automountServiceAccountToken"] is False
        assert each.spec["enableServiceLinks"] is False
        assert each.spec["serviceAccountName"] == "ctr-scorer"


@pytest.mark.parametrize("source", SOURCES)
def test_secrets_are_named_and_not_shipped(source: str):
    """No Secret is among the resources, and no URL or key is a value."""
    found = documents(source)
    assert [each for each in found if each["kind"] == "Secret"] == []
    for each in workloads(source):
        for container in each.containers:
            secret = [
                entry
                for entry in container.get("env", [])
                if entry["name"] in ("CTR_STORE", "CTR_ADMIN_KEY", "CTR_API_KEYS")
            ]
            assert all("secretKeyRef" in entry["valueFrom"] for entry in secret)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_have_a_tag(overlay: str):
    """Overlays replace every image of the base by one with a tag."""
    images = {container["image"] for each in workloads(overlay) for container in each.containers}
    assert [image for image in images if ":" not in image or image.endswith(":latest")] == []


def service_of(overlay: str) -> tuple[Pods, Table, dict[str, str]]:
    """The service's pods, its container and the values in its environment."""
    (service,) = [each for each in workloads(overlay) if each.name == "ctr-service"]
    (container,) = service.containers
    return service, container, {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@pytest.mark.parametrize("setting", ["CTR_ADMIN_KEY_FILE", "CTR_API_KEYS_FILE"])
@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_keys_come_by_file(overlay: str, setting: str):
    """The setting names a file in a Secret that is mounted whole, so that a new one arrives; `promote` can write."""
    service, container, values = service_of(overlay)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    folder, _, name = values[setting].rpartition("/")
    (volume,) = [each for each in service.spec["volumes"] if each["name"] == mounts[folder]["name"]]

    assert [item["path"] for item in volume["secret"]["items"]] == [name]
    assert "subPath" not in mounts[folder]
    assert not mounts["/bundles"].get("readOnly")


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_admin_is_reached_by_named_namespaces(overlay: str):
    """Its Service leads to the port that the settings open, and one policy opens that port, to one label."""
    _, container, values = service_of(overlay)
    found = rendered(overlay)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (target,) = [port["targetPort"] for port in named(found, "Service", "ctr-admin")["spec"]["ports"]]
    rules = [
        (rule["from"], [port["port"] for port in rule["ports"]])
        for each in found
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"].get("ingress", [])
    ]
    taken = read_settings(settings(overlay) | values)

    assert (taken.admin_apart, taken.admin_host, taken.admin_port) == (True, "0.0.0.0", ports[target])
    assert [(whom, opened) for whom, opened in rules if "admin" in opened or ports[target] in opened] == [
        ([{"namespaceSelector": {"matchLabels": {"ctr-scorer/admin": "true"}}}], ["admin"])
    ]
