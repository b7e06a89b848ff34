"""What the rating logs have in common: who rated what, when and how, about which items, by whom; and their genres."""

from dataclasses import dataclass

import polars as pl

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
    """

    ratings: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None


def first_genre(genres: pl.Expr) -> pl.Expr:
    """The category id of a list of genre names: its first one that MovieLens publishes, 0 if there is none."""
    numbers = {name: i for i, name in enumerate(GENRES, start=1)}
    known = genres.list.filter(pl.element().is_in(list(GENRES))).list.first()
    return known.replace_strict(numbers, default=0, return_dtype=pl.Int64)


def field_types(features: tuple[Feature, ...]) -> FieldTypes:
    """Feature name -> the type in which a text file's field of that name is to be read."""
    return {f.name: pl.Float64 if f.kind == "dense" else pl.String if f.dtype == "str" else pl.Int64 for f in features}


def asked_beyond(key: str, features: tuple[Feature, ...]) -> bool:
    """Whether the features ask for more of a user or an item than its id, so that a file about them is needed."""
    return any(f.name != key for f in features)
