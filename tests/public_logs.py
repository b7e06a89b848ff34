"""Tiny logs in the exact form of each public data set, as lists of lines, so that tests can break one anywhere."""

import dataclasses
import gzip
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.data.data_config import DataConfig

ITEM, CATEGORY = Feature(name="item_id"), Feature(name="cate_id")
SCHEMA = Schema(
    item=(ITEM, CATEGORY),
    behavior=(Sequence(shares="item_id", column="hist_item_ids"), Sequence(shares="cate_id", column="hist_cate_ids")),
    keys=Keys(category="cate_id"),
    max_history=50,
)
BRANDED = dataclasses.replace(
    SCHEMA,
    item=(ITEM, CATEGORY, Feature(name="brand"), Feature(name="price", kind="dense")),
    user=(Feature(name="age_level"), Feature(name="pvalue_level")),
    context=(Feature(name="pid", dtype="str"),),
    behavior=(*SCHEMA.behavior, Sequence(shares="brand", column="hist_brands")),
)
LABELLED = dataclasses.replace(SCHEMA, context=(Feature(name="hour", kind="dense"),))


@dataclass(frozen=True, kw_only=True)
class PublicLog:
    """A data set: how to read it, its text files as lines, those before the first row of a file, and other files."""

    config: DataConfig
    lines: Mapping[str, list[str]]
    schema: Schema = SCHEMA
    headers: Mapping[str, int] = field(default_factory=dict)
    binary: Mapping[str, bytes] = field(default_factory=dict)
    separator: str = ","
    separators: Mapping[str, str] = field(default_factory=dict)  # of files with another one
    encoding: str = "utf-8"

    def write(self, folder: Path, other: Mapping[str, list[bytes]] | None = None) -> None:
        """All files; those of `other` with its lines."""
        for file, own in self.lines.items():
            raw = (other or {}).get(file) or [line.encode(self.encoding) for line in own]
            text = b"".join(line + b"\n" for line in raw)
            (folder / file).write_bytes(gzip.compress(text) if file.endswith(".gz") else text)
        for file, content in self.binary.items():
            (folder / file).write_bytes(content)


def _ids(*names: str) -> bytes:
    return pickle.dumps({name: i for i, name in enumerate(names)}, protocol=0)


def _pairs(*users: str) -> list[str]:
    histories = {"A": ("I1\x02I2", "C1\x02C2"), "B": ("I2", "C2"), "C": ("", ""), "D": ("I3\x02I9", "C1\x02C9")}
    return [f"{label}\t{u}\tI{3 + label}\tC1\t" + "\t".join(histories[u]) for u in users for label in (0, 1)]


def _reviews(user: str, item: str, time: int) -> str:
    return json.dumps(
        {"reviewerID": user, "asin": item, "reviewerName": 'M. "A"', "helpful": [0, 1], "reviewText": "So\\so\n",
         "overall": 5.0, "summary": "s", "unixReviewTime": time, "reviewTime": "07 1, 2014"}
    )  # fmt: skip


# User, item, time: users of three to five items, so that each has a last one, one before it, and more.
BOUGHT = [(u, i, 1_000 + 100 * u + 10 * n) for u in range(1, 9) for n, i in enumerate(range(u, u + 3 + u % 3))]
ACTIONS = ("pv", "cart", "fav", "buy")

PUBLIC: Mapping[str, PublicLog] = {
    "dien_files": PublicLog(
        config=DataConfig(format="dien_files", valid_fraction=0.4),
        lines={
            "local_train_splitByUser": _pairs("A", "B", "C"),
            "local_test_splitByUser": _pairs("D"),
            "item-info": ["I1\tC1", "I2\tC2", "I3\tC1", "I4\tC1"],
            "reviews-info": [
                "A\tI1\t5.0\t100",
                "A\tI2\t4.0\t200",
                "A\tI4\t5.0\t300",
                "B\tI4\t1.0\t400",
                "E\tI1\t2.0\t50",
            ],
        },
        binary={
            "uid_voc.pkl": _ids("A", "B", "C"),
            "mid_voc.pkl": _ids("default_mid", "I3", "I4", "I1", "I2"),
            "cat_voc.pkl": _ids("default_cat", "C1", "C2"),
        },
        separator="\t",
    ),
    "amazon_reviews": PublicLog(
        config=DataConfig(format="amazon_reviews"),
        lines={
            "reviews_Tiny_5.json.gz": [_reviews(f"U{u}", f"B{i:03}", t) for u, i, t in BOUGHT],
            "meta_Tiny.json": [
                f"{{'asin': 'B{i:03}', 'title': \"Tim's \\d 'x'\", 'price': 9.5, 'related': {{'bought': ['B001']}}, "
                f"'categories': [['Electronics', 'C{i % 3}'], ['Other', 'Z']]}}"
                for i in range(1, 13)
            ],
        },
    ),
    "amazon_electronics": PublicLog(
        config=DataConfig(format="amazon_electronics"),
        lines={"electronics.csv": ["user_id,item_id,time,cate_id", *(f"{u},{i},{t},{i % 3}" for u, i, t in BOUGHT)]},
        headers={"electronics.csv": 1},
    ),
    "taobao_user_behavior": PublicLog(
        config=DataConfig(format="taobao_user_behavior"),
        lines={"UserBehavior.csv": [f"{u},{i},{i % 3},{ACTIONS[i % 4]},{t}" for u, i, t in BOUGHT]},
    ),
    "taobao_ads": PublicLog(
        config=DataConfig(format="taobao_ads"),
        schema=BRANDED,
        lines={
            "raw_sample.csv": [
                "user,time_stamp,adgroup_id,pid,nonclk,clk",
                *(f"{u},{t},{i},430548_1007,{i % 2},{1 - i % 2}" for u, i, t in BOUGHT),
            ],
            "ad_feature.csv": [
                "adgroup_id,cate_id,campaign_id,customer,brand,price",
                *(f"{i},{i % 3},{i + 50},{i + 70},{'NULL' if i == 2 else i + 90},{i}.5" for i in range(1, 13)),
            ],
            "user_profile.csv": [
                "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
                "new_user_class_level ",
                *(f"{u},0,5,2,{u % 5},{'' if u == 1 else 2},3,0,{'' if u == 2 else 3}" for u in range(1, 9)),
            ],
            "behavior_log.csv": [
                "user,time_stamp,btag,cate,brand",
                *(f"{u},{t - 5},{ACTIONS[i % 4]},{i % 3},{i + 90}" for u, i, t in BOUGHT),
            ],
        },
        headers=dict.fromkeys(("raw_sample.csv", "ad_feature.csv", "user_profile.csv", "behavior_log.csv"), 1),
    ),
    "movielens 1m": PublicLog(
        config=DataConfig(format="movielens"),
        lines={
            "ratings.dat": [f"{u}::{i}::{i % 5 + 1}::{t}" for u, i, t in BOUGHT],
            "movies.dat": [f"{i}::Misérables, Les ({1990 + i})::Comedy|Drama" for i in range(1, 13)],
        },
        separator="::",
        encoding="latin-1",
    ),
    "movielens 20m": PublicLog(
        config=DataConfig(format="movielens"),
        lines={
            "ratings.csv": ["userId,movieId,rating,timestamp", *(f"{u},{i},{i % 5}.5,{t}" for u, i, t in BOUGHT)],
            "movies.csv": [
                "movieId,title,genres",
                *(f'{i},"Say ""Hi"", {i} (1995)",Children|IMAX' for i in range(1, 12)),
                "12,Plain (1995),(no genres listed)",
            ],
        },
        headers={"ratings.csv": 1, "movies.csv": 1},
    ),
    "movielens 100k": PublicLog(
        config=DataConfig(format="movielens"),
        lines={
            "u.data": [f"{u}\t{i}\t{i % 5 + 1}\t{t}" for u, i, t in BOUGHT],
            "u.item": [
                f"{i}|Heat ({1990 + i})|01-Jan-1995||http://a|" + "|".join("01" + "0" * 17) for i in range(1, 13)
            ],
        },
        separator="\t",
        separators={"u.item": "|"},
        encoding="latin-1",
    ),
    "atomic": PublicLog(
        config=DataConfig(format="atomic"),
        lines={
            "tiny.inter": [
                "user_id:token\titem_id:token\trating:float\ttimestamp:float",
                *(f"{u}\t{i}\t{i % 5 + 1}\t{t}" for u, i, t in BOUGHT),
            ],
            "tiny.item": ["item_id:token\tclass:token_seq", *(f"{i}\tComedy Drama" for i in range(1, 13))],
        },
        headers={"tiny.inter": 1, "tiny.item": 1},
        separator="\t",
    ),
    "table csv": PublicLog(
        config=DataConfig(format="table", columns={"user_id": "who", "timestamp": "when"}),
        schema=LABELLED,
        lines={
            "log.csv": [
                "when,who,item_id,cate_id,label,note,hour",
                *(f'{t},u{u},{i},{i % 3},{i % 2},"a, ""b""",{"" if i == 2 else i / 2}' for u, i, t in BOUGHT),
            ]
        },
        headers={"log.csv": 1},
    ),
    "table jsonl": PublicLog(
        config=DataConfig(format="table", text_ids=("item_id", "cate_id")),
        lines={
            "log.jsonl": [
                json.dumps({"user_id": u, "item_id": f"i{i}", "cate_id": f"c{i % 3}", "timestamp": t})
                for u, i, t in BOUGHT
            ]
        },
    ),
}
