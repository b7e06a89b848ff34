"""The one TOML file: what is wrong with it is said with file, key, what was found and what is allowed."""

from pathlib import Path

import pytest

from model.bundle.errors import ConfigError
from model.config import RunConfig, read_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "synthetic.toml"

GOOD = """
name = "t"
[data]
format = "task"
path = "log"
[schema]
max_history = 20
[schema.keys]
category = "cate_id"
[[schema.user]]
name = "segment"
dtype = "str"
[[schema.item]]
name = "item_id"
dim = 8
[[schema.item]]
name = "cate_id"
[[schema.item]]
name = "brand"
dtype = "str"
[[schema.behavior]]
shares = "item_id"
column = "hist_item_ids"
[net]
kind = "din"
dropout = 0.1
[train]
epochs = 2
learning_rate = 0.01
"""

# What replaces what in GOOD; the dotted key; what was found, as the message prints it; what is allowed.
MISTAKES = {
    "unknown key": ("epochs = 2", "epoch = 2", "train.epoch", "'epoch'", "one of seed, epochs, batch_size"),
    "unknown section": ("[train]", "[training]", "training", "'training'", "one of name, data, schema, net, train"),
    "unknown feature key": ("dim = 8", "size = 8", "schema.item[0].size", "'size'", "one of name, kind, dtype, dim"),
    "unknown net setting": ("dropout = 0.1", "drop = 0.1", "net.drop", "'drop'", "one of "),
    "missing key": ('name = "t"', "", "name", "None", "a string (required)"),
    "missing section": ('[data]\nformat = "task"\npath = "log"', "", "data", "None", "DataConfig (required)"),
    "feature without a name": ('name = "segment"', "", "schema.user[0].name", "None", "a string (required)"),
    "text for an integer": ("epochs = 2", 'epochs = "2"', "train.epochs", "'2'", "an integer"),
    "number for an integer": ("epochs = 2", "epochs = 2.0", "train.epochs", "2.0", "an integer"),
    "true for an integer": ("epochs = 2", "epochs = true", "train.epochs", "True", "an integer"),
    "true for a number": ("rate = 0.01", "rate = true", "train.learning_rate", "True", "a number"),
    "number for text": ('name = "t"', "name = 3", "name", "3", "a string"),
    "number for a path": ('path = "log"', "path = 3", "data.path", "3", "Path"),
    "a table for a list": ("[[schema.user]]", "[schema.user]", "schema.user", "{", "a list"),
    "a list for a table": ("[train]", "[[train]]", "train", "[{", "a table"),
    "below the bounds": ("epochs = 2", "epochs = 0", "train.epochs", "0", ">= 1"),
    "above the bounds": ("max_history = 20", "max_history = 10001", "schema.max_history", "10001", ">= 1 and <= 10000"),
    "negative": ("rate = 0.01", "rate = -0.01", "train.learning_rate", "-0.01", ">= 0.0"),
    "no number": ("rate = 0.01", "rate = nan", "train.learning_rate", "nan", ">= 0.0"),
    "no number in a net": ("dropout = 0.1", "dropout = nan", "net.dropout", "nan", ">= 0.0 and <= 0.9"),
    "no number, no bounds": ("[schema]", "positive_rating = nan\n[schema]", "data.positive_rating", "nan", "a finite"),
    "infinite": ("rate = 0.01", "rate = inf", "train.learning_rate", "inf", ">= 0.0 and a finite number"),
    "more than a float holds": ("rate = 0.01", f"rate = {10**400}", "train.learning_rate", "1000", "a number"),
    "a seed torch cannot take": ("epochs = 2", f"seed = {2**63}", "train.seed", f"{2**63}", "<= 9223372036854775807"),
    "another log format": ('"task"', '"csv"', "data.format", "'csv'", "one of 'task', 'movielens', 'atomic'"),
    "another feature kind": ("dim = 8", 'kind = "bag"', "schema.item[0].kind", "'bag'", "one of 'sparse', 'dense'"),
    "another net": ('kind = "din"', 'kind = "mlp"', "net.kind", "'mlp'", "one of base, wide_deep, pnn, din"),
    "no net": ('kind = "din"', "", "net.kind", "None", "one of base, wide_deep, pnn, din"),
    "category that is no feature": (
        'category = "cate_id"',
        'category = "genre"',
        "schema.keys.category",
        "'genre'",
        "a sparse item feature: item_id, cate_id, brand",
    ),
    "item key that is no feature": (
        'category = "cate_id"',
        'item = "movie"',
        "schema.keys.item",
        "'movie'",
        "a sparse item feature: item_id, cate_id, brand",
    ),
    "behavior of no feature": (
        'shares = "item_id"',
        'shares = "shop"',
        "schema.behavior[0].shares",
        "'shop'",
        "an item feature with an embedding: item_id, cate_id, brand",
    ),
    "no behavior": (
        '[[schema.behavior]]\nshares = "item_id"\ncolumn = "hist_item_ids"\n',
        "",
        "schema.behavior",
        "'no sequence'",
        "at least one",
    ),
    "feature named twice": (
        'name = "segment"',
        'name = "brand"',
        "schema.item[2].name",
        "'brand'",
        "a name not used before",
    ),
    "feature name with a space": (
        'name = "segment"',
        'name = "a b"',
        "schema.user[0].name",
        "'a b'",
        "letters, digits and _",
    ),
    "text ids for the item": ("dim = 8", 'dtype = "str"', "schema.keys.item", "'str ids'", "a feature with dtype int"),
    "broken TOML": ("[net]", "[net", "(syntax)", '"', "TOML"),
    "key set twice": ("epochs = 2", "epochs = 2\nepochs = 3", "(syntax)", "", "TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(tmp_path: Path, mistake: str) -> None:
    """Each kind of mistake: the message has the file, the dotted key, what was found and what is allowed."""
    right, wrong, key, found, allowed = MISTAKES[mistake]
    assert GOOD.count(right) == 1
    path = tmp_path / "run.toml"
    path.write_text(GOOD.replace(right, wrong))

    with pytest.raises(ConfigError) as caught:
        read_config(path)

    said = str(caught.value)
    assert said.startswith(f"{path}: {key}: found {found}")
    assert allowed in said.rpartition("allowed: ")[2]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or no text at all."""
    with pytest.raises(ConfigError, match=r"no\.toml: \(file\): found 'No such file.*allowed: a readable file"):
        read_config(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match=r"\(file\): found 'Is a directory'"):
        read_config(tmp_path)
    (tmp_path / "run.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match=r"run\.toml: \(syntax\): found .*utf-8.*allowed: TOML"):
        read_config(tmp_path / "run.toml")


def test_a_good_file_is_read_as_written(tmp_path: Path) -> None:
    """The table of mistakes starts from a file without any; relative paths start at the file's folder."""
    path = tmp_path / "run.toml"
    path.write_text(GOOD)

    config = read_config(path)

    assert (config.name, config.base, config.data.path) == ("t", tmp_path, Path("log"))
    assert [feature.name for feature in config.schema.item] == ["item_id", "cate_id", "brand"]
    assert (config.net["kind"], config.net["dropout"]) == ("din", 0.1)
    assert (config.train.epochs, config.train.learning_rate) == (2, 0.01)


OWN = "\n[net.dien]\nresidual = true\ndropout = 0.3\n"


def test_a_kind_may_have_settings_of_its_own(tmp_path: Path) -> None:
    """`[net.dien]` is for `dien` alone: it goes before what is shared, and no other net inherits it."""
    path = tmp_path / "run.toml"
    path.write_text(GOOD + OWN)

    config = read_config(path)

    assert config.net == read_config_of(tmp_path, GOOD).net
    dien = config.with_net("dien")
    assert (dien.net["residual"], dien.net["dropout"]) == (True, 0.3)
    assert config.with_net("gru_gru").net == {"kind": "gru_gru", "dropout": 0.1}


def test_settings_of_a_kind_that_the_file_names_are_its_own(tmp_path: Path) -> None:
    """With kind = "dien" its table counts, and another net does not get what stands there."""
    config = read_config_of(tmp_path, GOOD.replace('kind = "din"', 'kind = "dien"') + OWN)

    assert config.net["residual"] is True
    assert "residual" not in config.with_net("gru_gru").net


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[net.dien]\nsoftmax = true", r"net\.dien\.softmax"),
        ("[net.dien]\nkind = 'din'", r"net\.dien\.kind"),
        ("[net.dien]\nhead = [0]", r"net\.dien\.head: found \[0\]"),
        ("[net.dein]\nresidual = true", r"net\.dein"),
    ],
)
def test_a_wrong_table_of_a_kind_is_named(tmp_path: Path, lines: str, said: str) -> None:
    """Also where the run is of another kind."""
    with pytest.raises(ConfigError, match=said):
        read_config_of(tmp_path, f"{GOOD}\n{lines}\n")


def read_config_of(folder: Path, text: str) -> RunConfig:
    """The configuration of a file with this text."""
    path = folder / "of.toml"
    path.write_text(text)
    return read_config(path)


def test_the_example_reads_and_takes_every_net() -> None:
    """`--net` keeps the settings that the other net has too, and refuses an unknown one."""
    config = read_config(EXAMPLE)

    assert config.with_net("din") is config
    assert config.with_net("dien").net == {"kind": "dien", "dropout": 0.2}
    with pytest.raises(ConfigError, match=r"--net: net\.kind: found 'mlp', allowed: one of base, wide_deep, pnn, din"):
        config.with_net("mlp")
