"""Writes the rules of monitoring/rules as Kubernetes has them: `python -m k8s.rules` after any change of those."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "monitoring" / "rules"
FILE = ROOT / "k8s" / "components" / "monitoring" / "rules.yml"
_HEAD = "# Generated from monitoring/rules by k8s/rules.py; change it there.\n"


class _Plain(yaml.SafeDumper):
    """Repeats what occurs twice, because the operator's users read and copy single rules."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002, RUF100  # the name is PyYAML's
        return True


def written() -> str:
    """The PrometheusRule as YAML, the same for the same rules."""
    files = sorted(SOURCE.glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "ctr-scorer"},
        "spec": {"groups": groups},
    }
    return _HEAD + yaml.dump(rule, Dumper=_Plain, sort_keys=False, width=120)


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
