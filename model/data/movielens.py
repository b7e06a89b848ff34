"""MovieLens as GroupLens publishes it: ml-1m and ml-10m (`ratings.dat`, also gzipped), ml-20m and later
(`ratings.csv`), and ml-100k (`u.data`).

ml-1m    ratings.dat user::item::rating::time   movies.dat item::title::genre|genre   users.dat user::gender::age::...
ml-20m   ratings.csv user,item,rating,time      movies.csv item,"title",genre|genre   both under a line of names
ml-100k  u.data      user<TAB>item<TAB>...      u.item     item|title|...|19 flags    u.user    user|age|gender|...
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.interactions import GENRES, Interactions, asked_beyond, field_types, first_genre, split_lists
from model.data.lines import FieldTypes, Form, read_rows
from model.data.reading import Reading

_GENRES, _FLAGS = "genres", ("unknown", *GENRES)


@dataclass(frozen=True, kw_only=True)
class _Edition:
    """One published form: file names, how lines look, and the fields after the id."""

    ratings: str
    lines: Form
    items: str
    users: str
    item_fields: Sequence[str]
    user_fields: Sequence[str]
    details: Form


_DAT, _LATIN = Form(fields={}, separator="::", encoding="latin-1"), Form(fields={}, separator="|", encoding="latin-1")
_CSV = Form(fields={}, quoted=True, skip=1)
_ML_1M = _Edition(
    ratings="ratings.dat",
    lines=_DAT,
    items="movies.dat",
    users="users.dat",
    item_fields=("title", _GENRES),
    user_fields=("gender", "age", "occupation", "zip_code"),
    details=_DAT,
)
_ML_20M = _Edition(
    ratings="ratings.csv",
    lines=dataclasses.replace(_CSV, quoted=False),
    items="movies.csv",
    users="users.csv",  # there is none: the file says nothing of its users
    item_fields=("title", _GENRES),
    user_fields=(),
    details=_CSV,
)
_ML_100K = _Edition(
    ratings="u.data",
    lines=Form(fields={}, separator="\t"),
    items="u.item",
    users="u.user",
    item_fields=("title", "release_date", "video_release_date", "imdb_url", *_FLAGS),
    user_fields=("age", "gender", "occupation", "zip_code"),
    details=_LATIN,
)


def read_movielens(folder: Path, schema: Schema, reading: Reading) -> Interactions:
    """The ratings, with the movies and users files where the schema asks for what is in them.

    The category is the movie's first genre (`interactions.GENRES`); all of them are the list `genres`. Raises
    ConfigError naming file and line.
    """
    keys = schema.keys
    path, edition = _find(folder)
    fields: FieldTypes = {keys.user: _user_type(schema)}
    fields |= {keys.item: pl.Int64, "rating": pl.Float64, keys.timestamp: pl.Int64}
    ratings = read_rows(path, dataclasses.replace(edition.lines, fields=fields), reading)
    items, users = ratings.select(keys.item).unique().sort(keys.item), None
    if asked_beyond(keys.item, schema.item):
        items = _items(folder / edition.items, edition, schema, reading)
    if asked_beyond(keys.user, schema.user):
        users = _users(folder / edition.users, edition, schema, reading)
    return Interactions(ratings=ratings, items=items, users=users)


def _find(folder: Path) -> tuple[Path, _Edition]:
    candidates = [
        (folder / _ML_1M.ratings, _ML_1M),
        (folder / f"{_ML_1M.ratings}.gz", _ML_1M),
        (folder / _ML_20M.ratings, _ML_20M),
        (folder / f"{_ML_20M.ratings}.gz", _ML_20M),
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


def _items(path: Path, edition: _Edition, schema: Schema, reading: Reading) -> pl.DataFrame:
    wanted = field_types(schema.item)
    # The flags are read as text and the genres by name: a feature of the schema cannot change what they mean.
    fixed: FieldTypes = {name: pl.String for name in (_GENRES, *_FLAGS)}
    fields: FieldTypes = {schema.keys.item: pl.Int64}
    fields |= {n: fixed.get(n, wanted.get(n, pl.String)) for n in edition.item_fields}
    frame = read_rows(path, dataclasses.replace(edition.details, fields=fields), reading)
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


def _users(path: Path, edition: _Edition, schema: Schema, reading: Reading) -> pl.DataFrame:
    wanted = field_types(schema.user)
    fields = {schema.keys.user: _user_type(schema)} | {n: wanted.get(n, pl.String) for n in edition.user_fields}
    return read_rows(path, dataclasses.replace(edition.details, fields=fields), reading)
