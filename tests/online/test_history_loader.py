"""Bulk load: every row of a file reaches its user's history once, and a wrong row is named."""

from functools import partial

import numpy as np
import polars as pl
import pytest

from model.bundle.errors import ConfigError
from model.bundle.records import event_key, make_behaviors
from service.history_file import BehaviorColumns, read_histories
from service.history_loader import LoadCounts, load_history
from service.stores.base import StoreError
from service.stores.load_mark import RedisLoadMarks
from service.stores.memory import MemoryStore
from service.stores.redis import RedisStore
from service.stores.servers import open_servers

pytestmark = pytest.mark.anyio
LOG = pl.DataFrame(
    {
        "user_id": [7, 9, 7, 7],
        "item_id": [101, 102, 103, 101],
        "cate_id": [1, 2, 1, 1],
        "timestamp": [1_600_000_030, 1_600_000_020, 1_600_000_010, 1_600_000_030],
    }
)


def memory() -> MemoryStore:
    return MemoryStore(history_keep=10_000)


def written(log: pl.DataFrame, path):
    (log.write_csv if path.suffix == ".csv" else log.write_parquet)(path)
    return path


async def history(store, user_id: int | str):
    return await store.read(user_id, limit=10_000, timeout_s=5)


@pytest.fixture(params=["log.parquet", "log.csv"])
def path(request, tmp_path):
    """Where a log goes: the suffix chooses the format."""
    return tmp_path / request.param


async def test_rows_become_histories_in_redis(path, redis_url):
    """Each row is a behavior of its user; a row that occurs twice was done twice; seconds become milliseconds."""
    store = RedisStore.from_url(redis_url, history_keep=100, ttl_s=60)
    counts = await load_history(written(LOG, path), store, time_unit="s")
    loaded = await history(store, 7)
    await store.close()

    expected = make_behaviors(
        [103, 101, 101], category=[1, 1, 1], time=[1_600_000_010_000, *[1_600_000_030_000] * 2], event=[0, 0, 1]
    )
    np.testing.assert_array_equal(loaded, expected)
    assert counts == LoadCounts(behaviors=4, users=2, seconds=counts.seconds)


async def test_loading_again_changes_nothing(path):
    """A load that was cut off is simply repeated."""
    store = memory()
    written(LOG, path)
    await load_history(path, store, time_unit="s")
    once = [await history(store, user) for user in (7, 9)]
    await load_history(path, store, time_unit="s")

    np.testing.assert_equal([await history(store, user) for user in (7, 9)], once)


async def test_equal_times_keep_the_order_of_the_log(path, redis_url):
    """As in the training histories, so that DIEN reads the same sequence online."""
    items = [300, 2, 255, 256, 1, 70_000] * 60
    log = pl.DataFrame({"user_id": 7, "item_id": items, "cate_id": 1, "timestamp": 5})
    store = RedisStore.from_url(redis_url, history_keep=1_000, ttl_s=60)
    await load_history(written(log, path), store, time_unit="s")
    loaded = await history(store, 7)
    await store.close()

    assert loaded["item"].tolist() == items


async def test_time_unit_is_what_the_caller_says(path):
    """Milliseconds stay as they are."""
    store = memory()
    await load_history(written(LOG, path), store, time_unit="ms")

    assert (await history(store, 9))["time"].tolist() == [1_600_000_020]


async def test_text_user_ids(path):
    """A user id may be any text, and an integer in a log is the same user as its spelling in a request."""
    log = LOG.with_columns(pl.Series("user_id", ["007", "ü b", "7", "7"]))
    store = memory()
    await load_history(written(log, path), store, time_unit="s")

    assert [len(await history(store, user)) for user in ("007", "ü b", 7)] == [1, 1, 2]


async def test_event_ids_and_actions_are_kept(path):
    """An event id makes the record the same one that POST /events writes; the action is stored beside it."""
    log = LOG.with_columns(pl.Series("event_id", ["a", "b", "c", "a"]), pl.Series("action", [3, 0, 255, 3]))
    store = memory()
    await load_history(written(log, path), store, time_unit="s")
    loaded = await history(store, 7)

    assert loaded["event"].tolist() == [event_key("c"), event_key("a")]
    assert loaded["action"].tolist() == [255, 3]


async def test_columns_of_other_names(path):
    """A log's own names are given, not changed in the file; columns that nobody asked for are ignored."""
    log = LOG.rename({"user_id": "uid", "timestamp": "ts"}).with_columns(noise=pl.lit("x"))
    store = memory()
    counts = await load_history(
        written(log, path), store, time_unit="s", columns=BehaviorColumns(user="uid", time="ts")
    )

    assert counts.behaviors == 4


class Stopping(MemoryStore):
    """A store that fails at its n-th write, as one that went away."""

    def __init__(self, writes: int) -> None:
        super().__init__(history_keep=10_000)
        self.writes_left = writes

    async def append_many(self, histories, *, timeout_s):
        if not self.writes_left:
            raise StoreError("gone")
        self.writes_left -= 1
        await super().append_many(histories, timeout_s=timeout_s)


@pytest.fixture
async def marks(redis_url):
    """Where loads remember how far they came, in a real Redis."""
    servers = open_servers(redis_url)
    yield RedisLoadMarks(servers, of="ctr:h:")
    await servers.close()


async def test_a_load_that_was_cut_off_goes_on_where_it_was(path, marks):
    """What was written is not written again, nothing is left out, and a finished load is forgotten."""
    store, heard = Stopping(writes=2), []
    load = partial(load_history, written(LOG, path), time_unit="s", marks=marks, batch_rows=1)
    with pytest.raises(StoreError):
        await load(store)
    store.writes_left = 2
    counts = await load(store, on_progress=lambda done, total: heard.append((done, total)))
    again = await load(memory())

    assert (counts.behaviors, counts.skipped, heard) == (2, 2, [(3, 4), (4, 4)])
    assert (await history(store, 7))["item"].tolist() == [103, 101]
    assert (again.behaviors, again.skipped) == (4, 0)


async def test_another_file_under_the_name_is_loaded_from_its_start(path, marks):
    """So is the same file read in another way: a mark is one load's."""
    with pytest.raises(StoreError):
        await load_history(written(LOG, path), Stopping(writes=1), time_unit="s", marks=marks, batch_rows=1)
    milliseconds = await load_history(path, memory(), time_unit="ms", marks=marks, batch_rows=1)
    changed = await load_history(written(LOG[1:], path), memory(), time_unit="s", marks=marks, batch_rows=1)

    assert (milliseconds.skipped, changed.skipped, changed.behaviors) == (0, 0, 3)


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 4, 5])
def test_batches_lose_and_double_nothing(path, batch_rows):
    """However the file is cut, the rows are those of the file, grouped by user inside a batch."""
    batches = list(read_histories(written(LOG, path), time_unit="s", batch_rows=batch_rows))

    rows = [(int(user), int(b["item"])) for batch in batches for user, behaviors in batch for b in behaviors]
    assert sorted(rows) == [(7, 101), (7, 101), (7, 103), (9, 102)]
    assert [len({user for user, _ in batch}) for batch in batches] == [len(batch) for batch in batches]


async def test_history_longer_than_one_write(path):
    """A user with more behaviors than one write carries has them all, and progress ends at the file's rows."""
    rows = 2_500
    log = pl.DataFrame({"user_id": [1] * rows, "item_id": range(rows), "cate_id": [0] * rows, "timestamp": range(rows)})
    store, heard = memory(), []
    await load_history(
        written(log, path), store, time_unit="s", on_progress=lambda done, total: heard.append((done, total))
    )

    assert (await history(store, 1))["item"].tolist() == list(range(rows))
    assert heard == [(1_000, rows), (2_000, rows), (rows, rows)]


async def test_empty_file_is_an_empty_load(path):
    """Columns without rows are no error."""
    counts = await load_history(written(LOG.clear(), path), memory(), time_unit="s")

    assert (counts.behaviors, counts.users) == (0, 0)


@pytest.mark.parametrize(
    ("column", "found", "allowed"),
    [
        ("user_id", None, "an id"),
        ("item_id", None, f"an integer from 0 to {2**63 - 1}"),
        ("item_id", -1, f"an integer from 0 to {2**63 - 1}"),
        ("item_id", "12.5", f"an integer from 0 to {2**63 - 1}"),
        ("item_id", str(2**63), f"an integer from 0 to {2**63 - 1}"),
        ("cate_id", "sports", f"an integer from 0 to {2**63 - 1}"),
        ("timestamp", 1_600_000_000_000, "an integer from 0 to 253402300799"),
        ("action", 256, "an integer from 0 to 255"),
        ("event_id", None, "an id"),
    ],
)
async def test_wrong_value_is_named(path, column, found, allowed):
    """The message has file, column, row (from 1), what was found and what is allowed; milliseconds as seconds too."""
    log = LOG.with_columns(action=pl.lit(1), event_id=pl.lit("e"))
    values = [*log[column].to_list()[:2], found, log[column][3]]
    if isinstance(found, str):
        values = [str(value) for value in values]
    written(log.with_columns(pl.Series(column, values)), path)
    shown = found if found is None or (path.suffix == ".parquet") else str(found)

    with pytest.raises(ConfigError) as caught:
        await load_history(path, memory(), time_unit="s")
    assert str(caught.value) == f"{path}: {column}, row 3: found {shown!r}, allowed: {allowed}"


async def test_row_is_counted_from_the_start_of_the_file(path):
    """In a later batch too."""
    written(LOG.with_columns(pl.Series("item_id", [1, 2, 3, -4])), path)

    with pytest.raises(ConfigError, match="item_id, row 4:"):
        list(read_histories(path, time_unit="s", batch_rows=3))


@pytest.mark.parametrize("column", ["user_id", "item_id", "cate_id", "timestamp"])
async def test_missing_column_is_named(path, column):
    """With the columns that are there."""
    written(LOG.drop(column), path)

    with pytest.raises(ConfigError, match=rf"columns: found \[.*\], allowed: columns with '{column}' among them"):
        await load_history(path, memory(), time_unit="s")


@pytest.mark.parametrize(("column", "dtype"), [("item_id", "Float64"), ("user_id", "Float64"), ("timestamp", "Date")])
async def test_ids_never_pass_through_floats(tmp_path, column, dtype):
    """A column that is no integer is refused as a whole: a float has lost large ids already."""
    path = written(LOG.with_columns(pl.col(column).cast(getattr(pl, dtype))), tmp_path / "log.parquet")

    with pytest.raises(ConfigError, match=f"{column}: found '{dtype}'"):
        await load_history(path, memory(), time_unit="s")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("absent.csv", None, "path: found 'no file'"),
        ("log.json", b"{}", "path: found '.json'"),
        ("log.parquet", b"not parquet at all", "content: found"),
        ("log.csv", b"", "content: found"),
        ("log.csv", b"user_id,item_id,cate_id,timestamp\n1,2,3,\xff\n", "content: found|timestamp, row 1: found"),
    ],
)
async def test_unreadable_file_is_named(tmp_path, name, content, found):
    """No stack trace from the reader: the file, and what is wrong with it."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=found) as caught:
        await load_history(path, memory(), time_unit="s")
    assert str(caught.value).startswith(str(path))
