"""Atomic files: tab-separated `.inter .item .user` under a typed header line `name:type`, as RecBole defines them.

https://recbole.io/docs/user_guide/data/atomic_files.html
"""

from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.interactions import GENRES, Interactions, asked_beyond, field_types, first_genre, split_lists
from model.data.lines import FieldTypes, Form, first_line, read_rows
from model.data.reading import Reading

_TYPES = ("token", "token_seq", "float", "float_seq")
_GENRE_FIELDS = ("class", "genre")  # as the published ml-100k and ml-1m name it
_USER, _ITEM, _RATING, _TIMESTAMP = "user_id", "item_id", "rating", "timestamp"


def read_atomic(folder: Path, schema: Schema, reading: Reading) -> Interactions:
    """The folder's one `.inter` file, with the `.item` and `.user` files beside it where the schema asks for them.

    The category is the first word of the field `class` or `genre` that is a genre MovieLens publishes
    (`interactions.GENRES`). Ids must be integers; the values of a list are separated by spaces. Raises
    ConfigError naming file and line.
    """
    keys = schema.keys
    inter = _find(folder)
    renamed = {_USER: keys.user, _ITEM: keys.item, _RATING: "rating", _TIMESTAMP: keys.timestamp}
    user_types: FieldTypes = {keys.user: pl.Int64, **field_types(schema.user)}
    types: FieldTypes = {**field_types(schema.context), keys.user: user_types[keys.user], keys.item: pl.Int64}
    types |= {"rating": pl.Float64, keys.timestamp: pl.Float64}
    ratings = _read(inter, renamed, types, reading).with_columns(pl.col(keys.timestamp).cast(pl.Int64))
    ratings = split_lists(ratings, schema.context, separator=" ", path=inter)
    items, users = ratings.select(keys.item).unique().sort(keys.item), None
    if asked_beyond(keys.item, schema.item):
        path = inter.with_suffix(".item")
        items = split_lists(_items(path, schema, reading), schema.item, separator=" ", path=path)
    if asked_beyond(keys.user, schema.user):
        path = inter.with_suffix(".user")
        found = _read(path, {_USER: keys.user}, user_types, reading)
        users = split_lists(found, schema.user, separator=" ", path=path)
    return Interactions(ratings=ratings, items=items, users=users)


def _find(folder: Path) -> Path:
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        names = [path.name for path in found] if folder.is_dir() else "nothing there"
        raise ConfigError(file=str(folder), key="file", found=names, allowed="a folder with one .inter file")
    return found[0]


def _items(path: Path, schema: Schema, reading: Reading) -> pl.DataFrame:
    keys = schema.keys
    # The category comes from the genres; a field of its name would be something else.
    types = {n: t for n, t in field_types(schema.item).items() if n != keys.category}
    frame = _read(path, {_ITEM: keys.item}, {**types, keys.item: pl.Int64}, reading)
    if keys.category is None:
        return frame
    genres = [name for name in _GENRE_FIELDS if name in frame.columns]
    if not genres:
        found = "fields " + ", ".join(frame.columns)
        raise ConfigError(file=str(path), key="line 1", found=found, allowed="a field " + " or ".join(_GENRE_FIELDS))
    frame = frame.with_columns(first_genre(pl.col(genres[0]).str.split(" ")).alias(keys.category))
    if len(frame) and (frame[keys.category] == 0).all():
        allowed = "genres of MovieLens in at least one line: " + ", ".join(GENRES)
        raise ConfigError(file=str(path), key=genres[0], found=frame[genres[0]][0], allowed=allowed)
    return frame


def _read(path: Path, renamed: dict[str, str], types: FieldTypes, reading: Reading) -> pl.DataFrame:
    """Every field of the file, under its own name or the one it is `renamed` to, as text unless in `types`."""
    head = first_line(path)
    names = [renamed.get(name, name) for name in _header(path, head)]
    for theirs, ours in renamed.items():
        if ours not in names:
            raise ConfigError(file=str(path), key="line 1", found=head, allowed=f"a field {theirs} among them")
    fields = {name: types.get(name, pl.String) for name in names}
    return read_rows(path, Form(fields=fields, separator="\t", skip=1), reading)


def _header(path: Path, head: str) -> list[str]:
    fields = [field.partition(":") for field in head.split("\t")]
    names = [name for name, _, _ in fields]
    if any(kind not in _TYPES for _, _, kind in fields) or len(set(names)) < len(names):
        allowed = "different names, each with its type, name:type, type one of " + ", ".join(_TYPES)
        raise ConfigError(file=str(path), key="line 1", found=head[:200], allowed=allowed)
    return names
