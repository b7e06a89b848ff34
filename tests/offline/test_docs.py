"""The documents name what the code has: settings, routes, metrics, keys."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from model.bundle.schema import Feature, Keys, Schema, Sequence, Times
from model.calibration import CalibrationConfig
from model.config import read_config
from model.data.log import DataConfig
from model.data.synthetic import SyntheticConfig
from model.nets import NETS
from model.pretrained import PretrainedConfig
from model.track_config import TrackConfig
from model.train_config import TrainConfig
from model.tune_config import TuneConfig
from service import config_docs, errors
from service.app import create_app
from service.config import PREFIX, Settings
from service.event_metrics import ConsumerMetrics
from service.metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
SECTIONS = {
    "data": DataConfig,
    "data.synthetic": SyntheticConfig,
    "schema": Schema,
    "schema.keys": Keys,
    "schema.times": Times,
    "feature": Feature,
    "sequence": Sequence,
    "pretrained": PretrainedConfig,
    "train": TrainConfig,
    "calibration": CalibrationConfig,
    "track": TrackConfig,
    "tune": TuneConfig,
}
EMPTY = {None: "none", (): "none", Keys(): "see below"}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(text: str) -> dict[str, list[str]]:
    """First cell of every table row, without its backticks -> the cells after it."""
    cells = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in cells}


def written(field: "dataclasses.Field[object]") -> str:
    """A default as the configuration file would spell it."""
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default in EMPTY:
        return EMPTY[field.default]
    return f"`{json.dumps(field.default)}`"


def configuration_keys() -> Iterator[tuple[str, str]]:
    """Every key of the training file and its default. `data.synthetic` is a section of its own."""
    for section, cls in SECTIONS.items():
        for field in dataclasses.fields(cls):
            if (section, field.name) != ("data", "synthetic"):
                yield f"{section}.{field.name}", written(field)


def net_keys() -> dict[str, tuple[set[str], set[str]]]:
    """Every net option -> its defaults, and the nets that have it."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for kind, (config, _) in NETS.items():
        for field in dataclasses.fields(config):
            defaults, kinds = found.setdefault(f"net.{field.name}", (set(), set()))
            defaults.add(written(field))
            kinds.add(kind)
    return found


def cells(cell: str) -> set[str]:
    """The defaults in a cell, `a` or `a`, `b`."""
    return {f"`{one.strip('`')}`" for one in cell.split("`, `")}


def test_the_tables_of_settings_are_those_of_the_code():
    """The page is what the settings say: run `python -m service.config_docs` after a change of them."""
    assert config_docs.written(page("configuration.md")) == page("configuration.md")


def test_every_setting_has_its_row():
    """Default and meaning of each setting are in a table, whichever class it is in, and no row is left over."""
    expected = {PREFIX + name.upper(): field.description for name, field in Settings.model_fields.items()}
    found = {n: row[-1] for n, row in rows(page("configuration.md")).items() if n.startswith(PREFIX)}
    assert found == expected


def test_every_key_of_the_training_file_has_its_row():
    """Each key is in the table with its default, and no row is left over."""
    sections = tuple(f"{section}." for section in SECTIONS)
    found = {n: row[0] for n, row in rows(page("configuration.md")).items() if n.startswith(sections)}
    assert found == dict(configuration_keys())


@pytest.mark.parametrize("key", net_keys())
def test_every_net_option_has_its_rows(key: str):
    """Each option is in both tables with its defaults; the reference names exactly the nets that have it."""
    defaults, kinds = net_keys()[key]
    default, nets, _ = rows(page("configuration.md"))[key]
    assert cells(default) == defaults
    assert set(nets.split(", ")) == kinds
    assert cells(rows(page("training.md"))[key][1]) == defaults


def test_every_other_option_of_training_has_its_source_and_effect():
    """Each option of features and of [train] is in a table with its default, its source and its measured effect."""
    table = rows(page("training.md"))
    sections = ("feature", "schema.times", "train", "pretrained")
    names = {"feature.name", "feature.dtype", "schema.times.column", "pretrained.feature", "pretrained.file"}
    expected = {
        key: default for key, default in configuration_keys() if key.startswith(tuple(f"{s}." for s in sections))
    }

    assert {key: table[key][0] for key in expected.keys() - names} == {k: expected[k] for k in expected.keys() - names}
    assert [key for key in expected.keys() - names if not all(table[key][1:3])] == []


def test_no_net_option_is_left_over():
    """An option that no net has any more is not described."""
    described = {n for n in rows(page("configuration.md")) if n.startswith("net.")}
    assert described == {"net.kind", *net_keys()}


def test_every_net_is_described():
    """Each net has its row, and so has each log format."""
    described = rows(page("training.md"))
    formats = DataConfig.__annotations__["format"].__args__
    assert {*NETS, *formats} <= described.keys()


def test_every_route_is_described():
    """Method and path of each route, FastAPI's own pages included, are in the table, and no other."""
    app = create_app(Settings(store="memory://", admin_key="k" * 16))
    table = {n for n in rows(page("http-api.md")) if re.match("(GET|POST|DELETE) /", n)}
    schema = app.openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in schema.items() for method in methods}
    own = (app.docs_url, app.redoc_url, app.openapi_url, app.swagger_ui_oauth2_redirect_url)
    assert table == routes | {f"GET {path}" for path in own}


def test_every_error_is_described():
    """Status and error type of each refusal are in the table."""
    classes = errors.ServiceError.__subclasses__()
    lines = page("http-api.md").splitlines()
    missing = [c.error_type for c in classes if not any(f"| {c.status} | `{c.error_type}` |" in line for line in lines)]
    assert classes
    assert missing == []


def test_every_metric_has_its_row():
    """Each metric is in the table by the name that Prometheus sees, and no other."""
    registry = CollectorRegistry()
    Metrics(registry, slo_s=0.03, routes=())
    consumer = CollectorRegistry()
    ConsumerMetrics(consumer)
    families = [*registry.collect(), *consumer.collect()]
    names = {f.name + ("_total" if f.type == "counter" else "") for f in families}
    assert {n for n in rows(page("operations.md")) if n.startswith("ctr_")} == names


def test_every_environment_name_is_a_setting():
    """A CTR_ name in a document, the Dockerfile or the compose file is a real setting."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    files = [*PAGES, ROOT / "Dockerfile", ROOT / "docker-compose.yml"]
    wrong = [
        (path.name, name)
        for path in files
        for name in re.findall(r"\bCTR_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
        if name not in known
    ]
    assert wrong == []


def test_the_files_that_the_architecture_names_exist():
    """A path in backticks that looks like a file of the code is one."""
    named = set(re.findall(r"`((?:model|service)/[\w/]+\.py)`", page("architecture.md") + page("operations.md")))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_example_that_the_documents_point_to_is_valid():
    """The training file that every page links to can be read."""
    assert read_config(ROOT / "examples" / "synthetic.toml").net["kind"] in NETS
