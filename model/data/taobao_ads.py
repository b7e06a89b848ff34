"""Alibaba's "Ad Display/Click Data on Taobao.com": impressions of ads, and behaviors in a log apart.

raw_sample.csv    user,time_stamp,adgroup_id,pid,nonclk,clk
ad_feature.csv    adgroup_id,cate_id,campaign_id,customer,brand,price       brand may be NULL
user_profile.csv  userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,
                  new_user_class_level                                      some may be missing
behavior_log.csv  user,time_stamp,btag,cate,brand                           btag pv, cart, fav or buy

A behavior is known by its category and brand, not by an ad. So that histories have an item, every pair of them is
one: `pair_id`. Pairs are in the catalogue with their category and brand and are never candidates. Missing ids are 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.assemble import Impressions
from model.data.history import impressions_beside
from model.data.lines import Form, first_line, read_rows, scan_rows
from model.data.piece_rows import CLICKED
from model.data.pile import Pile
from model.data.reading import Reading

_SHOWN, _PAIR = "raw_sample.csv", ("adgroup_id", "cate_id", "brand")
_I = pl.Int64
_MISSING = frozenset({"brand", "pvalue_level", "new_user_class_level"})
_ACTIONS = {"pv": "click", "cart": "cart", "fav": "favorite", "buy": "buy"}
_SAMPLE = Form(
    fields={"user": _I, "time_stamp": _I, "adgroup_id": _I, "pid": pl.String, "nonclk": _I, "clk": _I},
    skip=1,
    valid=(pl.col("nonclk") + pl.col("clk") == 1) & pl.col("clk").is_between(0, 1),
)
_ADS = Form(
    fields={"adgroup_id": _I, "cate_id": _I, "campaign_id": _I, "customer": _I, "brand": _I, "price": pl.Float64},
    skip=1,
    optional=_MISSING & {"brand"},
)
_PROFILE = (
    *("userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level"),
    *("occupation", "new_user_class_level"),
)
_USERS = Form(fields=dict.fromkeys(_PROFILE, _I), skip=1, optional=_MISSING & set(_PROFILE))
_BEHAVIORS = Form(
    fields={"user": _I, "time_stamp": _I, "btag": pl.String, "cate": _I, "brand": _I},
    skip=1,
    optional=_MISSING & {"brand"},
    valid=pl.col("btag").is_in(list(_ACTIONS)),
)
_BRANDS = 2**20  # above every brand of the set (461,497)
_FIRST_PAIR = 2**40  # above every ad (846,811)


def pair_id(category: int, brand: int) -> int:
    """The item id of a behavior: 2^40 + category * 2^20 + brand; a missing brand is 0."""
    return _FIRST_PAIR + category * _BRANDS + brand


def read_taobao_ads(folder: Path, schema: Schema, reading: Reading) -> Impressions:
    """The four files under the schema's names: `pid` and what `user_profile` tells are features by their own names, and
    so are `campaign_id`, `customer`, `brand` and `price` of an ad.

    Left out and told are impressions of ads or users that nothing is told of, and behaviors of users without an
    impression or of another action than `schema.actions`. Raises ConfigError naming file and line.
    """
    keys, told, named = schema.keys, _told(folder, schema, reading), _named(schema)
    _check_header(folder / _SHOWN, _SAMPLE)
    shown = _joined(read_rows(folder / _SHOWN, _SAMPLE, reading), told.ads, "adgroup_id", reading)
    if told.users is not None:
        shown = _joined(shown, told.users, "user", reading)
    done = pl.concat(_behaviors(folder, shown["user"].unique(), schema, reading))
    behaviors = done.drop("brand").rename({n: ours for n, ours in named.items() if n in done.columns})
    return Impressions(
        rows=impressions_beside(shown.rename(named), behaviors, schema),
        items=_catalogue(told.ads, done.select(_PAIR), schema),
        behaviors=behaviors.sort(keys.user, keys.timestamp, maintain_order=True),
    )


@dataclass(frozen=True)
class AdStream:
    """Impressions and then behaviors block by block: user, time, item and `rating` as `piece_rows.Beside` wants them,
    and with an impression its label and context. `items` is asked for when they are read.
    """

    pieces: Iterator[pl.DataFrame]
    items: Callable[[], pl.DataFrame]
    users: pl.DataFrame | None


def stream_taobao_ads(folder: Path, schema: Schema, reading: Reading) -> AdStream:
    """`read_taobao_ads`, of which ads, pairs and users are held in memory. Raises as that, also while it is read."""
    told, named = _told(folder, schema, reading), _named(schema)
    _check_header(folder / _SHOWN, _SAMPLE)
    pairs, users = Pile(pl.DataFrame.unique), Pile(pl.DataFrame.unique)
    context = [f.name for f in schema.context if f.name in _SAMPLE.fields]
    clicked = pl.col("clk").cast(pl.Int8).alias(CLICKED)

    def pieces() -> Iterator[pl.DataFrame]:
        for block in scan_rows(folder / _SHOWN, _SAMPLE, reading):
            shown = _joined(block, told.ads.select("adgroup_id"), "adgroup_id", reading)
            if told.users is not None:
                shown = _joined(shown, told.users.select("user"), "user", reading)
            users.add(shown.select("user").unique())
            asked = shown.select("user", "time_stamp", "adgroup_id", *context, clicked, pl.lit(0.0).alias("rating"))
            yield asked.rename(named, strict=False)
        for done in _behaviors(folder, users.total()["user"], schema, reading):
            pairs.add(done.select(_PAIR).unique())
            behaviors = done.select("user", "time_stamp", "adgroup_id", pl.lit(1.0).alias("rating"))
            yield pl.concat([asked.clear(), behaviors], how="diagonal").rename(named, strict=False)

    def items() -> pl.DataFrame:
        return _catalogue(told.ads, pairs.total(), schema)

    return AdStream(pieces(), items, None if told.users is None else told.users.rename({"user": schema.keys.user}))


@dataclass(frozen=True)
class _Told:
    """What the files tell of ads, and of users where the schema asks for that."""

    ads: pl.DataFrame
    users: pl.DataFrame | None


def _told(folder: Path, schema: Schema, reading: Reading) -> _Told:
    if schema.keys.category is None:
        allowed = "a category: pairs have one"
        raise ConfigError(file=str(folder), key="schema.keys.category", found=None, allowed=allowed)
    ads = _once(_read(folder, "ad_feature.csv", _ADS, reading), reading).with_columns(pl.col("brand").fill_null(0))
    if not any(f.name in _PROFILE for f in schema.user):
        return _Told(ads, None)
    users = _once(_read(folder, "user_profile.csv", _USERS, reading), reading)
    return _Told(ads, users.with_columns(pl.col(_PROFILE).fill_null(0)).rename({"userid": "user"}))


def _named(schema: Schema) -> dict[str, str]:
    """The files' names -> the schema's."""
    keys = schema.keys
    roles = {"user": keys.user, "time_stamp": keys.timestamp, "clk": keys.label, "adgroup_id": keys.item}
    return {**roles, "cate_id": keys.category or ""}


def _catalogue(ads: pl.DataFrame, pairs: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Ads, and every pair once."""
    none = (pl.lit(0, _I).alias("campaign_id"), pl.lit(0, _I).alias("customer"))
    items = pl.concat([ads, pairs.unique("adgroup_id").with_columns(*none)], how="diagonal")
    return items.rename({"adgroup_id": schema.keys.item, "cate_id": schema.keys.category or ""})


def _behaviors(folder: Path, users: pl.Series, schema: Schema, reading: Reading) -> Iterator[pl.DataFrame]:
    """User, time, item, category and brand of the behaviors of those users."""
    path = folder / "behavior_log.csv"
    actions = [theirs for theirs, ours in _ACTIONS.items() if not schema.actions or ours in schema.actions]
    _check_header(path, _BEHAVIORS)
    for rows in scan_rows(path, _BEHAVIORS, reading):
        asked = rows.filter(pl.col("btag").is_in(actions))
        reading.leave_out("action that schema.actions does not name", len(rows) - len(asked))
        known = asked.filter(pl.col("user").is_in(users.implode()))
        reading.leave_out("behavior of a user without an impression", len(asked) - len(known))
        brand = pl.col("brand").fill_null(0)
        item = (_FIRST_PAIR + pl.col("cate") * _BRANDS + brand).alias("adgroup_id")
        yield known.select("user", "time_stamp", item, pl.col("cate").alias("cate_id"), brand)


def _once(told: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """The first line of each ad or user."""
    key = told.columns[0]
    once = told.unique(key, keep="first", maintain_order=True)
    reading.leave_out(f"second line of the same {key}", len(told) - len(once))
    return once


def _joined(rows: pl.DataFrame, told: pl.DataFrame, key: str, reading: Reading) -> pl.DataFrame:
    joined = rows.join(told, on=key, how="inner", maintain_order="left")
    reading.leave_out(f"impression whose {key} nothing is told of", len(rows) - len(joined))
    return joined


def _read(folder: Path, name: str, form: Form, reading: Reading) -> pl.DataFrame:
    _check_header(folder / name, form)
    return read_rows(folder / name, form, reading)


def _check_header(path: Path, form: Form) -> None:
    """The published header: one name has a space behind it, which counts for nothing."""
    found = [name.strip() for name in first_line(path).split(",")]
    if found != list(form.fields):
        raise ConfigError(file=str(path), key="line 1", found=found, allowed=",".join(form.fields))
