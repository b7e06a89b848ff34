"""A seeded log in which interests drift, with the true click probability of every impression kept beside it.

A user follows a few categories at a time. Their weights wander, and now and then one is replaced by a new category that
starts strong, so what counts is what was clicked lately. An impression shows an item of such a category half of the
time, of any category otherwise, and is clicked with probability

    sigmoid(bias + strength * weight of the item's category + item quality + small effects of segment, hour and price)

Items may appear while the log goes on (`launched`): then it is the newest items of a category that are shown most.

`synthetic_extras` adds columns that say nothing more about a click, for schemas that ask for them.
That probability ranks impressions as well as anybody could (Bayes-optimal), so its AUC bounds what a net can reach.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.bundle.typed_table import setting
from model.bundle.vocabulary import Ids
from model.data.columns import BAYES_PCTR
from model.data.interactions import Interactions
from model.data.synthetic_extras import add_extras

_Floats = NDArray[np.float64]

_START = 1_700_000_000  # 2023-11-14, seconds
_DAY = 86_400  # seconds
_BIAS, _STRENGTH = -2.2, 4.0
_MEMORY = 0.95  # of a weight's deviation from one step to the next, so that weights wander but do not run away
_NEW_INTEREST = 2.0  # a new interest's weight, before the softmax
_QUALITY_STD, _HOUR, _PRICE = 0.5, 0.3, 0.3
_SEGMENTS = (("new", -0.4), ("casual", -0.1), ("regular", 0.1), ("loyal", 0.4))


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Size and temper of the synthetic log. `interests` are per user and at most `categories`."""

    users: int = setting(2000, low=1, high=10_000_000)
    items: int = setting(2000, low=2, high=10_000_000)
    categories: int = setting(40, low=2, high=100_000)
    impressions_per_user: int = setting(60, low=1, high=10_000)
    seed: int = setting(0, low=0)
    interests: int = setting(3, low=1, high=100)
    drift: float = setting(0.4, low=0.0, high=10.0)  # standard deviation of a weight's step
    switch_rate: float = setting(0.04, low=0.0, high=1.0)  # chance per impression that an interest is replaced
    exploration: float = setting(0.5, low=0.0, high=1.0)  # share of impressions of any category
    days: int = setting(28, low=1, high=3650)
    launched: float = setting(0.0, low=0.0, high=1.0)  # share of a category's items that appear while the log goes on


def synthetic_schema() -> Schema:
    """The schema of the synthetic log."""
    return Schema(
        item=(
            Feature(name="item_id", dim=18),
            Feature(name="cate_id", dim=18),
            Feature(name="price", kind="dense"),
        ),
        user=(Feature(name="segment", dtype="str"),),
        context=(Feature(name="hour"),),
        behavior=(
            Sequence(shares="item_id", column="hist_item_ids"),
            Sequence(shares="cate_id", column="hist_cate_ids"),
        ),
        keys=Keys(category="cate_id"),
        max_history=50,
    )


@dataclass(frozen=True, kw_only=True)
class _World:
    """What never changes. Items are 0, 1, ..., and sorted by category: category c owns [first[c], first[c + 1])."""

    category: Ids
    first: Ids
    price: _Floats
    appeal: _Floats  # quality and price together, in logits
    segment: Ids


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """When each user's impressions are [users, impressions]."""

    effect: _Floats  # of segment and hour, in logits
    progress: _Floats  # share of the log's days that is over


def synthesize(config: SyntheticConfig, schema: Schema) -> Interactions:
    """The log as ratings 1 (clicked) and 0, with columns `hour` and `bayes_pctr`; users have `segment`, items `price`.

    A schema may also ask for what `synthetic_extras` adds. Ids count from 1. The same config gives the same log.
    """
    _check(config)
    rng = np.random.default_rng(config.seed)
    world = _world(config, rng)
    span = config.days * _DAY
    since = np.sort(rng.integers(span, size=(config.users, config.impressions_per_user)), axis=1)
    times = _START + since
    hour = times // 3600 % 24
    moment = _HOUR * np.cos(2 * np.pi * (hour - 20) / 24) + np.array([e for _, e in _SEGMENTS])[world.segment][:, None]
    item, pctr = _walk(config, world, _Moments(effect=moment, progress=since / span), rng)
    clicked = rng.random(pctr.shape) < pctr
    keys = schema.keys
    columns: dict[str, NDArray[np.generic]] = {
        keys.user: np.repeat(np.arange(1, config.users + 1), config.impressions_per_user),
        keys.item: item.ravel() + 1,
        "rating": clicked.ravel().astype(np.float64),
        keys.timestamp: times.ravel(),
        "hour": hour.ravel(),
        BAYES_PCTR: pctr.ravel(),
    }
    items = {keys.item: np.arange(1, config.items + 1), "price": world.price}
    category = {keys.category or "cate_id": world.category + 1}
    names = np.array([name for name, _ in _SEGMENTS])
    users = {keys.user: np.arange(1, config.users + 1), "segment": names[world.segment]}
    ratings, shown = pl.DataFrame(columns), pl.DataFrame({**items, **category})
    return add_extras(Interactions(ratings=ratings, items=shown, users=pl.DataFrame(users)), schema, seed=config.seed)


def _check(config: SyntheticConfig) -> None:
    most = config.categories
    if config.interests > most:
        found, allowed = config.interests, f"at most `categories`, which is {most}"
        raise ConfigError(file="data", key="synthetic.interests", found=found, allowed=allowed)
    if config.items < most:
        found, allowed = config.items, f"at least `categories`, which is {most}"
        raise ConfigError(file="data", key="synthetic.items", found=found, allowed=allowed)


def _world(config: SyntheticConfig, rng: np.random.Generator) -> _World:
    # Every category owns at least one item.
    spread = rng.integers(config.categories, size=config.items - config.categories)
    category = np.sort(np.concatenate([np.arange(config.categories), spread]))
    standard = rng.normal(size=config.items)  # of the log price
    return _World(
        category=category,
        first=np.searchsorted(category, np.arange(config.categories + 1)),
        price=np.exp(3.0 + 0.5 * standard).round(2),
        appeal=_QUALITY_STD * rng.normal(size=config.items) - _PRICE * standard,
        segment=rng.integers(len(_SEGMENTS), size=config.users),
    )


def _walk(config: SyntheticConfig, world: _World, moments: _Moments, rng: np.random.Generator) -> tuple[Ids, _Floats]:
    """Shown item and true click probability [users, impressions]; all users take a step at a time."""
    item = np.empty(moments.effect.shape, dtype=np.int64)
    pctr = np.empty(moments.effect.shape)
    interests = rng.integers(config.categories, size=(config.users, config.interests))
    level = rng.normal(size=interests.shape)
    for step in range(config.impressions_per_user):
        _drift(config, interests, level, rng)
        weight = np.exp(level)
        weight /= weight.sum(axis=1, keepdims=True)
        category = _category(config, interests, weight, rng)
        item[:, step] = _shown(config, world, category, moments.progress[:, step], rng)
        affinity = (weight * (interests == world.category[item[:, step]][:, None])).sum(axis=1)
        logit = _BIAS + _STRENGTH * affinity + world.appeal[item[:, step]] + moments.effect[:, step]
        pctr[:, step] = 1 / (1 + np.exp(-logit))
    return item, pctr


def _drift(config: SyntheticConfig, interests: Ids, level: _Floats, rng: np.random.Generator) -> None:
    """One step of the interests and their levels, in place."""
    level *= _MEMORY
    level += config.drift * rng.normal(size=level.shape)
    switched = np.flatnonzero(rng.random(len(interests)) < config.switch_rate)
    slot = rng.integers(config.interests, size=len(switched))
    interests[switched, slot] = rng.integers(config.categories, size=len(switched))
    level[switched, slot] = _NEW_INTEREST


def _category(config: SyntheticConfig, interests: Ids, weight: _Floats, rng: np.random.Generator) -> Ids:
    """The category that each user is shown."""
    users = np.arange(len(interests))
    # The inverse of the cumulated weights; the last one may round to less than 1.
    slot = (weight.cumsum(axis=1) < rng.random((len(users), 1))).sum(axis=1).clip(max=config.interests - 1)
    explores = rng.random(len(users)) < config.exploration
    category: Ids = np.where(explores, rng.integers(config.categories, size=len(users)), interests[users, slot])
    return category


def _shown(config: SyntheticConfig, world: _World, category: Ids, progress: _Floats, rng: np.random.Generator) -> Ids:
    """An item of each user's category, of those that there are at `progress`."""
    first, count = world.first[category], world.first[category + 1] - world.first[category]
    # The square makes some items of a category popular: the first tenth of them gets a third of the impressions.
    rank = rng.random(len(category)) ** 2
    if not config.launched:
        early: Ids = first + (count * rank).astype(np.int64)
        return early
    there = np.maximum(count * (1 - config.launched * (1 - progress)), 1).astype(np.int64)
    newest: Ids = first + there - 1 - (there * rank).astype(np.int64)
    return newest
