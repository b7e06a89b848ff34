"""Every public log, tiny and in its exact form, becomes exactly these impressions."""

import dataclasses
import hashlib
import re
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature
from model.cli import app
from model.config import read_config
from model.data.batches import encode_split
from model.data.data_config import DataConfig
from model.data.log import Log, read_log
from model.data.next_item import Draw
from model.data.reading import Reading
from model.data.table import scan_table
from model.data.taobao_ads import pair_id
from model.data.text_ids import numbered, text_id
from model.data.vocab import fit_encoder
from tests.public_logs import BOUGHT, PUBLIC, SCHEMA

NEXT_ITEM = ("amazon_reviews", "amazon_electronics", "taobao_user_behavior", "table jsonl")


def read(name: str, folder: Path, *, schema=None, reading: Reading | None = None, **settings) -> Log:
    """The tiny log of that name, with other settings."""
    public = PUBLIC[name]
    public.write(folder)
    config = dataclasses.replace(public.config, **{"path": folder, **settings})
    return read_log(config, schema or public.schema, base=Path(), reading=reading)


def whole(log: Log) -> pl.DataFrame:
    """All rows, by time."""
    return pl.concat(log.splits().values()).sort("timestamp", maintain_order=True)


def test_the_public_dien_files(tmp_path: Path) -> None:
    """Pairs keep their order and get the time of the click in reviews-info, 0 where it has none; ids are those of the
    pickles, and I9 and C9, which are not in them, come behind. Users of the test file test.
    """
    log = read("dien_files", tmp_path)
    names = ["item_id", "cate_id", "timestamp", "hist_item_ids", "hist_cate_ids"]
    rows = {(u, label): rest for u, label, *rest in whole(log).select("user_id", "label", *names).iter_rows()}
    assert rows["A", 0] == [1, 1, 300, [3, 4], [1, 2]]
    assert rows["A", 1] == [2, 1, 300, [3, 4], [1, 2]]
    assert rows["B", 1] == [2, 1, 400, [4], [2]]
    assert rows["C", 1] == [2, 1, 0, [], []]
    assert rows["D", 0] == [1, 1, 0, [1, 5], [1, 3]]
    assert len(rows) == 8
    assert set(log.test["user_id"]) == {"D"}
    assert set(log.train["user_id"]) | set(log.valid["user_id"]) == {"A", "B", "C"}
    assert not set(log.train["user_id"]) & set(log.valid["user_id"])
    assert log.items.rows() == [(1, 1), (2, 1), (3, 1), (4, 2)]
    expected = [("A", 3, 100, 1), ("A", 4, 200, 2), ("A", 2, 300, 1), ("B", 2, 400, 1), ("E", 3, 50, 1)]
    assert log.behaviors.rows() == expected


def test_users_of_the_dien_files_are_integers_where_they_are_a_feature_of_such(tmp_path: Path) -> None:
    """Those of uid_voc.pkl, and numbers of their own for users of the test file, which is not in it."""
    log = read("dien_files", tmp_path, schema=dataclasses.replace(SCHEMA, user=(Feature(name="user_id"),)))
    assert set(whole(log)["user_id"]) == {0, 1, 2, 3}
    assert set(log.test["user_id"]) == {3}


def test_the_real_sample_of_the_dien_files(shared_data: Path) -> None:
    """Sports: as many rows as the files have lines, nothing malformed or left out, a time for every impression."""
    reading = Reading(max_malformed=0.0)
    config = DataConfig(format="dien_files", path=Path("tasks/sports_mouna99"))
    log = read_log(config, SCHEMA, base=shared_data, reading=reading)
    assert len(log.train) + len(log.valid) == 64_034
    assert (len(log.test), len(log.items), len(log.behaviors)) == (7_162, 18_357, 296_337)
    assert reading.left_out == {}
    assert log.train["timestamp"].min() > 1_300_000_000


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
@pytest.mark.parametrize("name", NEXT_ITEM)
def test_next_item_logs(name: str, negatives: str, tmp_path: Path) -> None:
    """Each behavior after a user's first is a click whose history is what came before; beside it stands a non-click
    with the same user, time and history, an item that the user never met, and that item's category.
    """
    reading = Reading()
    log = read(name, tmp_path, reading=reading, negatives=negatives)
    rows = whole(log)
    clicks, others = rows.filter(pl.col("label") == 1), rows.filter(pl.col("label") == 0)
    assert len(clicks) == len(BOUGHT) - 8
    assert reading.left_out["next item without a history"] == 8
    same = ["user_id", "timestamp", "hist_item_ids", "hist_cate_ids"]
    assert rows["label"].to_list() == [1, 0] * len(clicks)
    assert others.select(same).equals(clicks.select(same))
    met = {(row["user_id"], row["item_id"]) for row in log.behaviors.iter_rows(named=True)}
    assert len(met) == len(log.behaviors) == len(BOUGHT)
    category = dict(log.items.select("item_id", "cate_id").iter_rows())
    for row in clicks.iter_rows(named=True):
        past = log.behaviors.filter((pl.col("user_id") == row["user_id"]) & (pl.col("timestamp") < row["timestamp"]))
        assert row["hist_item_ids"] == past["item_id"].to_list()
        assert (row["user_id"], row["item_id"]) in met
    for row in rows.iter_rows(named=True):
        assert row["cate_id"] == category[row["item_id"]]
        assert row["hist_cate_ids"] == [category[item] for item in row["hist_item_ids"]]
    assert not {(row["user_id"], row["item_id"]) for row in others.iter_rows(named=True)} & met


@pytest.mark.parametrize("name", PUBLIC)
def test_every_log_can_be_encoded(name: str, tmp_path: Path) -> None:
    """Vocabularies, scalings and the catalogue come from each log, and its validation rows have an index each."""
    log = read(name, tmp_path)
    encoder = fit_encoder(log, PUBLIC[name].schema)
    batch = encode_split(log.valid, encoder).take(np.arange(len(log.valid)))
    assert batch["history"].shape[::2] == (len(log.valid), len(PUBLIC[name].schema.behavior))
    assert batch["item_sparse"].min() >= 1


def test_items_are_drawn_all_alike_or_as_often_as_they_were_met() -> None:
    """Items 1 to 4 were met 40, 30, 20 and 10 times; a user who met item 4 draws the others, uniformly or like that."""
    counted = pl.DataFrame({"id": [4, 1, 2, 3], "len": [10, 40, 30, 20]})
    met = pl.DataFrame({"user": [7, 8, 8], "item": [4, 1, 2]})
    behaviors = pl.DataFrame({"user": [7] * 30_000, "item": [4] * 30_000, "time": range(30_000)})
    for negatives, shares in (("uniform", (1 / 3, 1 / 3, 1 / 3)), ("popularity", (4 / 9, 3 / 9, 2 / 9))):
        draw = Draw(counted, negatives=negatives, seed=1)
        drawn = draw.unseen(behaviors, met)
        found = drawn.value_counts(normalize=True).sort("drawn")
        assert found["drawn"].to_list() == [1, 2, 3]
        assert found["proportion"].to_list() == pytest.approx(shares, abs=0.01)
        assert draw.unseen(behaviors[::-7], met).equals(drawn[::-7])  # whatever else is drawn for


def test_a_user_who_met_every_item_has_no_non_click(tmp_path: Path) -> None:
    """Nothing is drawn, and that is told; a log of one item is refused."""
    counted = pl.DataFrame({"id": [5, 6], "len": [2, 1]})
    met = pl.DataFrame({"user": [1, 1, 2], "item": [5, 6, 5]})
    behaviors = pl.DataFrame({"user": [1, 2], "item": [6, 5], "time": [3, 4]})
    assert Draw(counted, negatives="uniform", seed=1).unseen(behaviors, met).to_list() == [None, 6]
    with pytest.raises(ConfigError, match="found 1, allowed: two or more"):
        Draw(counted[:1], negatives="uniform", seed=1)
    lines = ["user_id,item_id,time,cate_id", *(f"{u},{1 + t % 3},{t},1" for u in (1, 2) for t in range(9))]
    (tmp_path / "log.csv").write_text("\n".join([*lines, "3,9,1,1", ""]))
    reading, config = Reading(), DataConfig(format="amazon_electronics", path=tmp_path)
    log = read_log(config, SCHEMA, base=Path(), reading=reading)
    assert set(whole(log).filter(pl.col("label") == 0)["item_id"]) == {9}
    (tmp_path / "log.csv").write_text("\n".join([*lines, ""]))
    log = read_log(config, SCHEMA, base=Path(), reading=reading)
    assert set(whole(log)["label"]) == {1}
    assert reading.left_out["non-click that no item was found for: the user met nearly all"] == 16


def test_the_last_items_of_each_user_test_and_validate(tmp_path: Path) -> None:
    """`data.split = "last"`: a click and its non-click of each user in test and in valid, everything earlier trains."""
    log = read("amazon_electronics", tmp_path, split="last")
    last = {user: max(t for u, _, t in BOUGHT if u == user) for user in range(1, 9)}
    assert dict(log.test.select("user_id", "timestamp").iter_rows()) == last
    assert dict(log.valid.select("user_id", "timestamp").iter_rows()) == {u: t - 10 for u, t in last.items()}
    assert (len(log.test), len(log.valid), len(log.train)) == (16, 16, 2 * (len(BOUGHT) - 24))
    assert log.test["label"].sum() == 8
    with pytest.raises(ConfigError, match=r"data\.split: found 'last', allowed: 'time'"):
        read("movielens 20m", tmp_path / "..", split="last")


def test_the_same_seed_draws_the_same_items(tmp_path: Path) -> None:
    """And another seed others."""
    first, second = (whole(read("amazon_electronics", tmp_path, seed=5)) for _ in range(2))
    assert first.equals(second)
    assert not first.equals(whole(read("amazon_electronics", tmp_path, seed=6)))


def test_amazon_reviews_of_later_years(tmp_path: Path) -> None:
    """2018 has one path per item in `category`; 2023 has other names and milliseconds. Ids are hashes of the texts,
    a review that is there twice counts once, and an item without metadata has category 0.
    """
    review = '{"rating": 4.0, "title": "t", "asin": "X", "parent_asin": "%s", "user_id": "%s", "timestamp": %d}'
    lines = [review % (item, user, 1000 * t) for user in "ab" for t, item in enumerate("PQRS", start=10)]
    (tmp_path / "Toys.jsonl").write_text("\n".join([*lines, lines[0]]))
    (tmp_path / "meta_Toys.jsonl").write_text(
        '{"parent_asin": "P", "categories": ["Toys", "Dolls"]}\n{"parent_asin": "Q", "categories": []}\n'
        '{"asin": "R", "category": ["Toys", "Cars"]}\n'
    )
    reading = Reading()
    config = DataConfig(format="amazon_reviews", path=tmp_path, valid_fraction=0.34, test_fraction=0.34)
    with pytest.raises(ConfigError, match="no rows for"):  # both users met all items, and clicks alone are three times
        read_log(dataclasses.replace(config, valid_fraction=0.4, test_fraction=0.4), SCHEMA, base=Path())
    log = read_log(config, SCHEMA, base=Path(), reading=reading)
    assert reading.left_out["the same review once more"] == 1
    assert dict(log.items.iter_rows()) == {
        text_id("P"): text_id("Dolls"), text_id("Q"): 0, text_id("R"): text_id("Cars"), text_id("S"): 0,
    }  # fmt: skip
    assert log.behaviors["timestamp"].to_list() == [10, 11, 12, 13] * 2
    assert reading.names["item_id"].total().sort("text")["text"].to_list() == list("PQRS")


def test_text_ids_are_the_first_53_bits_of_sha_256() -> None:
    """So that any client can compute them; nothing is 0; two texts of one integer are refused."""
    assert text_id("B00004TUBL") == int(hashlib.sha256(b"B00004TUBL").hexdigest()[:16], 16) >> 11
    assert text_id("") == 0
    reading = Reading()
    for at in range(20):  # in blocks that are merged now and then
        numbered(pl.DataFrame({"item": [f"{at}", f"{at - 1}", f"b{at}"]}), ["item"], reading)
    texts = ["-1", *(f"{b}{at}" for at in range(20) for b in ("", "b"))]
    assert reading.names["item"].total().rows() == sorted((text_id(text), text) for text in texts)
    reading.names["item"].add(pl.DataFrame({"id": [text_id("a")], "text": ["another"]}))
    numbered(pl.DataFrame({"item": ["c", "1"]}), ["item"], reading)
    with pytest.raises(ConfigError, match=r"column item: found .*'a', 'another'.*texts of different hashes"):
        numbered(pl.DataFrame({"item": ["a"]}), ["item"], reading)


def test_actions_choose_the_behaviors_of_taobao(tmp_path: Path) -> None:
    """`schema.actions` keeps what the file calls pv and buy; the others are counted."""
    schema, reading = dataclasses.replace(SCHEMA, actions=("click", "buy")), Reading()
    log = read("taobao_user_behavior", tmp_path, schema=schema, reading=reading)
    kept = [(u, i, t) for u, i, t in BOUGHT if i % 4 in (0, 3)]
    assert log.behaviors.select("user_id", "item_id", "timestamp").rows() == sorted(
        kept, key=lambda row: (row[0], row[2])
    )
    assert reading.left_out["action that schema.actions does not name"] == len(BOUGHT) - len(kept)


def test_taobao_ads(tmp_path: Path) -> None:
    """An impression per line of raw_sample with its ad's and its user's features; the history holds pairs of category
    and brand of strictly earlier time, which the catalogue knows; missing ids are 0.
    """
    reading = Reading()
    log = read("taobao_ads", tmp_path, reading=reading)
    rows = whole(log)
    assert len(rows) == len(BOUGHT)
    second = rows.filter((pl.col("user_id") == 1) & (pl.col("item_id") == 2)).row(0, named=True)
    pairs = [pair_id(1, 91), pair_id(2, 92)]
    assert second == {
        "user_id": 1, "age_level": 1, "pvalue_level": 0, "item_id": 2, "cate_id": 2, "brand": 0, "price": 2.5,
        "pid": "430548_1007", "label": 1, "timestamp": 1110, "hist_item_ids": pairs, "hist_cate_ids": [1, 2],
    }  # fmt: skip
    brands = dict(log.items.select("item_id", "brand").iter_rows())
    assert [brands[pair] for pair in pairs] == [91, 92]
    assert len(log.items) == 12 + rows["hist_item_ids"].explode().drop_nulls().n_unique()
    assert len(log.behaviors) == len(BOUGHT)
    assert reading.left_out == {}


def test_what_taobao_ads_leave_out_is_told(tmp_path: Path) -> None:
    """An ad and a user that nothing is told of, a second line of an ad, behaviors of strangers and unasked actions."""
    public = PUBLIC["taobao_ads"]
    raw = {name: [line.encode() for line in lines] for name, lines in public.lines.items()}
    raw["raw_sample.csv"] += [b"1,5000,999,p,1,0", b"77,5000,1,p,1,0"]
    raw["ad_feature.csv"] += [b"1,1,1,1,1,1.0"]
    raw["behavior_log.csv"] += [b"99,1,pv,1,1"]
    public.write(tmp_path, raw)
    reading, schema = Reading(), dataclasses.replace(public.schema, actions=("click",))
    read_log(dataclasses.replace(public.config, path=tmp_path), schema, base=Path(), reading=reading)
    assert reading.left_out == {
        "second line of the same adgroup_id": 1,
        "impression whose adgroup_id nothing is told of": 1,
        "impression whose user nothing is told of": 1,
        "behavior of a user without an impression": 1,
        "action that schema.actions does not name": sum(i % 4 != 0 for _, i, _ in BOUGHT),
    }


def test_movielens_20m(tmp_path: Path) -> None:
    """Half stars, quoted titles, and the genre that later editions call Children instead of Children's."""
    genres = Feature(name="genres", kind="multi", dtype="str")
    log = read("movielens 20m", tmp_path, schema=dataclasses.replace(SCHEMA, item=(*SCHEMA.item, genres)))
    assert log.items.row(0) == (1, 4, ["Children", "IMAX"])
    assert log.items.row(11) == (12, 0, ["(no genres listed)"])
    assert whole(log)["label"].sum() == sum(i % 5 + 0.5 >= 4 for _, i, _ in BOUGHT)


def table(folder: Path, rows: pl.DataFrame, suffix: str) -> None:
    """The rows as a file of that kind; lists as text where the kind has none."""
    flat = rows.with_columns(pl.col(pl.List(pl.Int64)).list.eval(pl.element().cast(pl.String)).list.join("|"))
    match suffix:
        case "parquet":
            rows.with_columns(pl.from_epoch("timestamp")).write_parquet(folder / "log.parquet")
        case "csv":
            flat.write_csv(folder / "log.csv")
        case "tsv":
            flat.write_csv(folder / "log.tsv", separator="\t")
        case _:
            rows.write_ndjson(folder / f"log.{suffix}")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "jsonl"])
def test_a_table_with_histories_is_read_as_it_stands(suffix: str, tmp_path: Path) -> None:
    """Label, lists and text ids, from every kind of file; a history may be empty; columns nobody asks for are not."""
    rows = pl.DataFrame(
        {
            "user_id": [f"u{i % 4}" for i in range(20)],
            "item_id": range(20),
            "cate_id": [1, 2] * 10,
            "label": [0, 1] * 10,
            "timestamp": range(1_000, 1_020),
            "hist_item_ids": [[*range(i % 3)] for i in range(20)],
            "hist_cate_ids": [[1] * (i % 3) for i in range(20)],
            "colour": ["blue"] * 20,
        }
    )
    table(tmp_path, rows, suffix)
    log = read_log(DataConfig(format="table", path=tmp_path), SCHEMA, base=Path())
    names = ["user_id", "item_id", "cate_id", "label", "timestamp", "hist_item_ids", "hist_cate_ids"]
    assert whole(log).select(names).rows() == rows.select(names).rows()
    assert whole(log).columns == log.train.columns
    assert "colour" not in log.train.columns


def test_a_table_with_labels_gets_its_histories(tmp_path: Path) -> None:
    """A row is an impression, and its history the user's clicks before it; `hour` may be missing."""
    rows = whole(read("table csv", tmp_path))
    assert len(rows) == len(BOUGHT)
    for row in rows.iter_rows(named=True):
        past = [i for u, i, t in BOUGHT if f"u{u}" == row["user_id"] and t < row["timestamp"] and i % 2]
        assert (row["label"], row["hist_item_ids"]) == (row["item_id"] % 2, past)
        assert row["hour"] == (None if row["item_id"] == 2 else row["item_id"] / 2)


def test_a_table_may_be_behind_a_url(tmp_path: Path) -> None:
    """`data.url` reads the same through fsspec, a folder or a file, in Parquet or text; nothing there is an error."""
    public = PUBLIC["amazon_electronics"]
    expected = whole(read("amazon_electronics", tmp_path))
    fs = fsspec.filesystem("memory")
    fs.pipe("/shop/electronics.csv", (tmp_path / "electronics.csv").read_bytes())
    for url in ("memory://shop", "memory://shop/electronics.csv", f"file://{tmp_path}"):
        config = dataclasses.replace(public.config, url=url)
        assert whole(read_log(config, SCHEMA, base=Path())).equals(expected)
    with pytest.raises(ConfigError, match=r"memory://nowhere: file: found 'nothing there'"):
        read_log(dataclasses.replace(public.config, url="memory://nowhere"), SCHEMA, base=Path())
    with pytest.raises(ConfigError, match=r"nosuch://x: data\.url: found .*a URL that fsspec can read"):
        read_log(dataclasses.replace(public.config, url="nosuch://x"), SCHEMA, base=Path())
    with pytest.raises(ConfigError, match=r"data\.url: found 'memory://shop', allowed: only for a table"):
        read_log(DataConfig(format="movielens", url="memory://shop"), SCHEMA, base=Path())


def test_a_table_is_read_in_blocks(tmp_path: Path) -> None:
    """`scan_table` yields frames of a block each, so that a table larger than memory can be gone through."""
    public, reading = PUBLIC["amazon_electronics"], Reading(block_bytes=100)
    public.write(tmp_path)
    frames = list(scan_table(tmp_path, public.config, SCHEMA, reading))
    assert max(map(len, frames)) < 10
    assert pl.concat(frames)["item_id"].to_list() == [i for _, i, _ in BOUGHT]


def test_the_configuration_that_the_documents_show_is_valid(tmp_path: Path) -> None:
    """The TOML of docs/data.md is one, and names a format that there is."""
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (tmp_path / "run.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    assert read_config(tmp_path / "run.toml").data.format == "amazon_reviews"


def test_a_table_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    """A key or a feature: the column and what the file has are named, and where its name could be told."""
    for header, missing in (("user,item_id,cate_id", "user_id"), ("user_id,item_id,category", "cate_id")):
        (tmp_path / "log.csv").write_text(f"{header},timestamp\n1,2,3,4\n")
        with pytest.raises(ConfigError, match=rf"log\.csv: column {missing}: found \['user.*\[data\.columns\]"):
            read_log(DataConfig(format="table", path=tmp_path), SCHEMA, base=Path())


def test_a_column_that_the_configuration_names_has_to_be_there(tmp_path: Path) -> None:
    """A label under a misspelt name would make a next-item log of impressions; files agree, in whatever order."""
    (tmp_path / "a.csv").write_text("user_id,item_id,cate_id,click,timestamp\n1,2,3,0,4\n")
    table = DataConfig(format="table", path=tmp_path)
    for columns, said in (
        ({"label": "is_click"}, r"a\.csv: column label: found .*'click'.*a column is_click"),
        ({"labl": "click"}, r"data\.columns: found 'labl', allowed: .*label"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_log(dataclasses.replace(table, columns=columns), SCHEMA, base=Path())
    (tmp_path / "b.csv").write_text("item_id,timestamp,user_id,cate_id,label\n1,2,3,4,5\n")
    with pytest.raises(ConfigError, match=r"b\.csv: columns: found .*label.*, allowed: in every file"):
        read_log(table, SCHEMA, base=Path())
    (tmp_path / "b.csv").write_text("item_id,timestamp,user_id,cate_id\n1,2,3,4\n")
    found = {tuple(frame.columns) for frame in scan_table(tmp_path, table, SCHEMA, Reading())}
    assert found == {("user_id", "item_id", "cate_id", "timestamp")}


def test_prepare_ends_with_what_the_log_is_and_what_was_left_out(tmp_path: Path) -> None:
    """Rows, items, lengths, times; lines and their pace; malformed lines with number; reasons; the names of ids."""
    public = PUBLIC["table jsonl"]
    (tmp_path / "data").mkdir()
    lines = [line.encode() for line in public.lines["log.jsonl"]]
    public.write(tmp_path / "data", {"log.jsonl": [*lines[:3], b"torn {", *lines[3:]]})
    (tmp_path / "run.toml").write_text(
        """
        name = "tiny"
        data = { format = "table", path = "data", text_ids = ["item_id", "cate_id"], max_malformed = 0.1 }
        net = { kind = "din" }
        [schema]
        keys = { category = "cate_id" }
        item = [{ name = "item_id" }, { name = "cate_id" }]
        behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
        """
    )
    command = ["prepare", str(tmp_path / "run.toml"), "--out", str(tmp_path / "task")]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert "12 items, 33 behaviors" in said
    assert re.search(r"train +│ 1970-01-01 00:18 │ 1970-01-01 00:\d\d │ 1, \d, \d, \d, \d, \d +│ 0\.0%", said)
    assert re.search(r"read 34 lines of 1 file, [\d,]+ lines/s", said)
    assert f"{tmp_path}/data/log.jsonl: 1 of 34 lines are malformed and left out" in said
    assert "  line 4: 'torn {'" in said
    assert "left out: 8 x next item without a history" in said
    assert pl.read_parquet(tmp_path / "task" / "names_item_id.parquet").filter(text="i3").rows() == [
        (text_id("i3"), "i3")
    ]
    assert "rows" in said
    assert len(pl.read_parquet(tmp_path / "task" / "train.parquet")) > 30

    out_of_core = ["prepare", str(tmp_path / "run.toml"), "--shards", "--out", str(tmp_path / "shards")]
    again = CliRunner().invoke(app, out_of_core, env={"COLUMNS": "200"}).stdout
    told = "12 items, 33 behaviors"
    assert again[again.index(told) :].splitlines()[:7] == said[said.index(told) :].splitlines()[:7]
    assert "left out: 8 x next item without a history" in again

    for other in ("task", "data"):
        mixed = CliRunner().invoke(app, [*out_of_core[:-1], str(tmp_path / other)], env={"COLUMNS": "200"})
        assert mixed.exit_code == 2
        assert f"prepare: out: found '{tmp_path}/{other}" in mixed.stderr.replace("\n", "")
    assert CliRunner().invoke(app, [*command[:-1], str(tmp_path / "shards")]).exit_code == 2
