"""What the rating logs have in common: who rated what, when and how, about which items, by whom; and their genres."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature
from model.data.lines import FieldTypes

# The genres that MovieLens publishes (README of ml-1m, `u.genre` of ml-100k), in its order. A category id is the
# place in this list counted from 1, which is also the id in `u.genre`; 0 is "none of these".
GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """A rating log as its files have it, with the columns named as in the schema.

    ratings  user, item, rating (Float64), timestamp (Int64, seconds), in file order
    items    item, category if the schema has one, and whatever else the file tells of an item
    users    user and whatever the file tells of one; None without a user file
    next_item  every row is a behavior and none a non-click, so that the next item is what can be predicted
    """

    ratings: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None = None
    next_item: bool = False


def first_genre(genres: pl.Expr) -> pl.Expr:
    """The category id of a list of genre names: its first one that MovieLens publishes, 0 if there is none."""
    numbers = {name: i for i, name in enumerate(GENRES, start=1)}
    numbers["Children"] = numbers["Children's"]  # as ml-20m and later call it
    known = genres.list.filter(pl.element().is_in(list(numbers))).list.first()
    return known.replace_strict(numbers, default=0, return_dtype=pl.Int64)


def field_types(features: tuple[Feature, ...]) -> FieldTypes:
    """Feature name -> the type in which a text file's field of that name is to be read; lists as text."""
    return {f.name: pl.Float64 if f.kind == "dense" else _id_type(f) for f in features}


def split_lists(frame: pl.DataFrame, features: tuple[Feature, ...], *, separator: str, path: Path) -> pl.DataFrame:
    """`frame` with the text of every multi-valued feature split at `separator`; an empty text is an empty list.

    Raises ConfigError naming `path` and the feature if its values are no integers although they have to be.
    """
    for feature in (f for f in features if f.kind == "multi" and f.name in frame.columns):
        lists = pl.col(feature.name)
        if frame[feature.name].dtype == pl.String:
            lists = lists.str.split(separator).list.eval(pl.element().filter(pl.element() != ""))
        try:
            frame = frame.with_columns(lists.cast(pl.List(pl.String if feature.dtype == "str" else pl.Int64)))
        except PolarsError as error:
            allowed = f"integers separated by {separator!r}"
            raise ConfigError(file=str(path), key=feature.name, found=str(error)[:80], allowed=allowed) from error
    return frame


def _id_type(feature: Feature) -> type[pl.DataType]:
    return pl.String if feature.kind == "multi" or feature.dtype == "str" else pl.Int64


def asked_beyond(key: str, features: tuple[Feature, ...]) -> bool:
    """Whether the features ask for more of a user or an item than its id, so that a file about them is needed."""
    return any(f.name != key for f in features)
