"""What k8s/ ships, as data: from the files alone, and as `kubectl kustomize` renders it."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("cpu", "gpu", "dev")
PODS = ("Deployment", "StatefulSet", "CronJob")

Table = dict[str, Any]


def read(path: Path) -> list[Table]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kustomization(folder: Path) -> Table:
    """The kustomization of a folder."""
    (found,) = read(folder / "kustomization.yml")
    return found


@cache
def resources(folder: Path) -> list[Table]:
    """The resources that a kustomization names, with those of components and bases; no patch is applied."""
    own = kustomization(folder)
    paths = [folder / name for name in (*own.get("resources", []), *own.get("components", []))]
    return [one for path in paths for one in (resources(path.resolve()) if path.is_dir() else read(path))]


def shipped() -> list[Table]:
    """The resources of all overlays, each once."""
    every = [one for name in OVERLAYS for one in resources(K8S / "overlays" / name)]
    return list({(one["kind"], one["metadata"]["name"]): one for one in every}.values())


@cache
def rendered(overlay: str) -> list[Table]:
    """What would be applied; without kubectl the test is skipped. A kustomization that cannot be built fails it."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", str(K8S / "overlays" / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def named(documents: list[Table], kind: str, name: str) -> Table:
    """The one resource of that kind and name."""
    (found,) = [one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@dataclass(frozen=True)
class Pods:
    """A workload's pods: its name, the labels and the spec of its pod template."""

    name: str
    labels: Mapping[str, str]
    spec: Table

    @property
    def containers(self) -> list[Table]:
        """Containers of every sort."""
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]


def pods(documents: list[Table]) -> Iterator[Pods]:
    """The pods of every workload among `documents`."""
    for one in documents:
        if one["kind"] in PODS:
            spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
            template = spec["template"]
            yield Pods(one["metadata"]["name"], template["metadata"]["labels"], template["spec"])


def settings(overlay: str) -> dict[str, str]:
    """The settings of the service in an overlay: those of the base, and what the overlay puts in their place."""
    found: dict[str, str] = {}
    for folder in (K8S / "base", K8S / "overlays" / overlay):
        for made in kustomization(folder).get("configMapGenerator", []):
            found |= dict(pair.split("=", 1) for pair in made["literals"])
    return found
