"""MovieLens as GroupLens publishes it: ml-1m (`ratings.dat`, also gzipped) and ml-100k (`u.data`).

ml-1m    ratings.dat user::item::rating::time   movies.dat item::title::genre|genre   users.dat user::gender::age::...
ml-100k  u.data      user<TAB>item<TAB>...      u.item     item|title|...|19 flags    u.user    user|age|gender|...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.interactions import GENRES, Interactions, asked_beyond, field_types, first_genre, split_lists
from model.data.lines import FieldTypes, read_lines, split_fields

_GENRES, _FLAGS = "genres", ("unknown", *GENRES)


@dataclass(frozen=True, kw_only=True)
class _Edition:
    """One published form: file names, separators and the fields after the id."""

    ratings: str
    separator: str
    items: str
    users: str
    item_fields: Sequence[str]
    user_fields: Sequence[str]
    detail_separator: str


_ML_1M = _Edition(
    ratings="ratings.dat",
    separator="::",
    items="movies.dat",
    users="users.dat",
    item_fields=("title", _GENRES),
    user_fields=("gender", "age", "occupation", "zip_code"),
    detail_separator="::",
)
_ML_100K = _Edition(
    ratings="u.data",
    separator="\t",
    items="u.item",
    users="u.user",
    item_fields=("title", "release_date", "video_release_date", "imdb_url", *_FLAGS),
    user_fields=("age", "gender", "occupation", "zip_code"),
    detail_separator="|",
)


def read_movielens(folder: Path, schema: Schema) -> Interactions:
    """The ratings, with the movies and users files where the schema asks for what is in them.

    The category is the movie's first genre (`interactions.GENRES`); all of them are the list `genres`. Raises
    ConfigError naming file and line.
    """
    keys = schema.keys
    path, edition = _find(folder)
    fields: FieldTypes = {keys.user: _user_type(schema)}
    fields |= {keys.item: pl.Int64, "rating": pl.Float64, keys.timestamp: pl.Int64}
    ratings = split_fields(read_lines(path, encoding="latin-1"), fields, separator=edition.separator, path=path)
    items, users = ratings.select(keys.item).unique().sort(keys.item), None
    if asked_beyond(keys.item, schema.item):
        items = _items(folder / edition.items, edition, schema)
    if asked_beyond(keys.user, schema.user):
        users = _users(folder / edition.users, edition, schema)
    return Interactions(ratings=ratings, items=items, users=users)


def _find(folder: Path) -> tuple[Path, _Edition]:
    candidates = [
        (folder / _ML_1M.ratings, _ML_1M),
        (folder / f"{_ML_1M.ratings}.gz", _ML_1M),
        (folder / _ML_100K.ratings, _ML_100K),
    ]
    for path, edition in candidates:
        if path.is_file():
            return path, edition
    found = sorted(p.name for p in folder.iterdir())[:10] if folder.is_dir() else "nothing there"
    allowed = "a folder with " + " or ".join(path.name for path, _ in candidates)
    raise ConfigError(file=str(folder), key="file", found=found, allowed=allowed)


def _user_type(schema: Schema) -> type[pl.DataType]:
    return field_types(schema.user).get(schema.keys.user, pl.Int64)


def _items(path: Path, edition: _Edition, schema: Schema) -> pl.DataFrame:
    wanted = field_types(schema.item)
    # The flags are read as text and the genres by name: a feature of the schema cannot change what they mean.
    fixed: FieldTypes = {name: pl.String for name in (_GENRES, *_FLAGS)}
    fields: FieldTypes = {schema.keys.item: pl.Int64}
    fields |= {n: fixed.get(n, wanted.get(n, pl.String)) for n in edition.item_fields}
    frame = split_fields(read_lines(path, encoding="latin-1"), fields, separator=edition.detail_separator, path=path)
    names = _genre_names(frame)
    if schema.keys.category is not None:
        frame = frame.with_columns(first_genre(names).alias(schema.keys.category))
    if any(f.kind == "multi" and f.name == _GENRES for f in schema.item):
        frame = frame.with_columns(names.alias(_GENRES))
    return split_lists(frame, schema.item, separator="|", path=path)


def _genre_names(frame: pl.DataFrame) -> pl.Expr:
    """The genre names of each movie as a list, from `a|b|c` or from flags."""
    if _GENRES in frame.columns:
        return pl.col(_GENRES).str.split("|")
    return pl.concat_list(pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in GENRES).list.drop_nulls()


def _users(path: Path, edition: _Edition, schema: Schema) -> pl.DataFrame:
    wanted = field_types(schema.user)
    fields = {schema.keys.user: _user_type(schema)} | {n: wanted.get(n, pl.String) for n in edition.user_fields}
    return split_fields(read_lines(path, encoding="latin-1"), fields, separator=edition.detail_separator, path=path)
