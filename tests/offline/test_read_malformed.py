"""Malformed lines, wherever they are: counted, told with file and line, left out, and fatal when they are too many."""

import dataclasses
import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from model.bundle.errors import ConfigError
from model.data.feature_log import read_feature_log
from model.data.lines import Form, read_rows
from model.data.log import read_log
from model.data.reading import Reading
from tests.public_logs import PUBLIC, SCHEMA, PublicLog

FILES = [(name, file) for name, public in PUBLIC.items() for file in public.lines]


def read(public: PublicLog, folder: Path, reading: Reading):
    config = dataclasses.replace(public.config, path=folder)
    return read_log(config, public.schema, base=Path(), reading=reading)


def garbage(public: PublicLog, file: str) -> st.SearchStrategy[bytes]:
    """Lines that cannot be any of the log: text without a separator or brace, lines cut or grown, bytes that are no
    text, a field of another type.
    """
    separator, line = public.separators.get(file, public.separator), public.lines[file][-1]
    free = st.characters(exclude_characters=f"\n{{{separator[0]}", exclude_categories=["Cs"])
    text = st.text(free, max_size=12).map(lambda text: text.encode())
    good = line.encode(public.encoding)
    cut = [good.replace(separator.encode(), b"", 1)]
    grown = [good + (separator + "1").encode()]
    if good.startswith(b"{"):  # JSON or a Python dict
        cut, grown = (
            [good[:-1], good.replace(b"asin", b"a").replace(b"item_id", b"i")],
            [good + b"}", b"[" + good + b"]"],
        )
    torn = [] if public.encoding == "latin-1" else [good[:-1] + b"\xff\xfe" + good[-1:]]
    return st.one_of(text, st.sampled_from([*cut, *grown, *torn, b'"', b"", b"#"]))


@pytest.mark.parametrize("name", PUBLIC)
def test_malformed_lines_are_counted_and_the_others_are_the_log(name: str) -> None:
    """Broken lines put anywhere into all files of each log: their count, the numbers and texts of the first five, and
    the number of lines are exact, and the log is the one without them; however the files fall into blocks.
    """
    public = PUBLIC[name]
    with tempfile.TemporaryDirectory() as clean:
        public.write(Path(clean))
        expected = read(public, Path(clean), Reading(max_malformed=0.0))

    @settings(max_examples=5, deadline=None)
    @given(st.data())
    def broken_anywhere(data: st.DataObject) -> None:
        broken, numbers, files = {}, {}, {}
        for file, own in public.lines.items():
            places = data.draw(st.lists(st.integers(public.headers.get(file, 0), len(own)), max_size=7).map(sorted))
            broken[file] = [data.draw(garbage(public, file)) for _ in places]
            files[file] = [line.encode(public.encoding) for line in own]
            for before, (place, line) in enumerate(zip(places, broken[file], strict=True)):
                files[file].insert(place + before, line)
            numbers[file] = [place + before + 1 for before, place in enumerate(places)]
        with tempfile.TemporaryDirectory() as folder:
            public.write(Path(folder), files)
            reading = Reading(max_malformed=1.0, block_bytes=data.draw(st.sampled_from([1 << 20, 250])))
            found = read(public, Path(folder), reading)
        for file, lines in files.items():
            told = reading.files[f"{folder}/{file}"]
            assert (told.malformed, told.lines) == (len(broken[file]), len(lines) - public.headers.get(file, 0))
            assert [number for number, _ in told.examples] == numbers[file][:5]
            if public.encoding == "utf-8":
                texts = [line.decode("utf-8", "replace").removesuffix("\r")[:200] for line in broken[file][:5]]
                assert [text.removesuffix("\r") for _, text in told.examples] == texts
        for part in ("train", "valid", "test", "items", "behaviors"):
            assert_frame_equal(getattr(found, part), getattr(expected, part), check_exact=True)

    broken_anywhere()


@pytest.mark.parametrize(("name", "file"), FILES)
def test_too_many_malformed_lines_are_an_error(name: str, file: str, tmp_path: Path) -> None:
    """One of two hundred lines is more than 0.1 %, the default: file, line, text, how many, and the setting are named.
    A larger share lets it pass.
    """
    public = PUBLIC[name]
    lines = [line.encode(public.encoding) for line in public.lines[file]]
    public.write(tmp_path, {file: [*lines, b"?", b"??"]})
    with pytest.raises(ConfigError) as caught:
        read(public, tmp_path, Reading())
    said = f"{tmp_path / file}: line {len(lines) + 1}: found '?', allowed: "
    assert str(caught.value).startswith(said)
    total = len(lines) + 2 - public.headers.get(file, 0)
    assert str(caught.value).endswith(f"; 2 of {total} malformed, data.max_malformed = 0.001")
    assert read(public, tmp_path, Reading(max_malformed=0.7)).train.height


def test_the_bar_of_malformed_lines_is_a_setting(tmp_path: Path) -> None:
    """`data.max_malformed` is what counts where nobody brings a Reading."""
    public = PUBLIC["amazon_electronics"]
    lines = [line.encode() for line in public.lines["electronics.csv"]]
    public.write(tmp_path, {"electronics.csv": [*lines, b"1,2,3"]})
    config = dataclasses.replace(public.config, path=tmp_path)
    with pytest.raises(ConfigError, match=r"1 of 34 malformed, data\.max_malformed = 0\.029"):
        read_log(dataclasses.replace(config, max_malformed=0.029), public.schema, base=Path())
    assert read_log(dataclasses.replace(config, max_malformed=0.03), public.schema, base=Path()).train.height


def test_a_parquet_row_without_a_value_is_malformed(tmp_path: Path) -> None:
    """Missing, negative or of another type: row numbers count from 1; a number may be missing."""
    public = PUBLIC["table csv"]
    rows = {"who": [7, 7, None, 7, 7, 7, 8], "item_id": [1, 2, 3, -4, 5, 6, 7], "cate_id": [1] * 7}
    rows |= {"label": [1, 0, 1, 1, 2, 0, 1], "when": [10, 20, 30, 40, 50, 60, 70], "hour": [1.0] * 6 + [None]}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    reading = Reading(max_malformed=1.0)
    config = dataclasses.replace(public.config, path=tmp_path, valid_fraction=0.3, test_fraction=0.3)
    log = read_log(config, public.schema, base=Path(), reading=reading)
    assert pl.concat(log.splits().values())["item_id"].to_list() == [1, 2, 6, 7]
    told = reading.files[str(tmp_path / "log.parquet")]
    assert (told.lines, told.malformed, [number for number, _ in told.examples]) == (7, 3, [3, 4, 5])


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (["1,2,3"], [2001]),
        (["1,2,3", "1,2,3,4,5"], [2001, 2002]),
        (['7,"8', '9",10,11,12'], [2001, 2002]),
        (['1,2,"a', '3,4,5,"b'], [2001, 2002]),
    ],
)
def test_lines_that_make_up_for_each_other_are_found(last: list[str], found: list[int], tmp_path: Path) -> None:
    """A short line before a long one, or quotes that span lines, among two thousand good lines: the fields add up, and
    yet each line is told by its number.
    """
    form = Form(fields={"a": pl.Int64, "b": pl.Int64, "c": pl.String, "d": pl.String}, quoted=True)
    good = [f'{i},{i},"x, ""y""",' for i in range(1_000)]
    (tmp_path / "log.csv").write_text("\n".join([*good, *good, *last, *good]))
    reading = Reading(max_malformed=1.0)
    rows = read_rows(tmp_path / "log.csv", form, reading)
    assert rows.rows() == [(i, i, 'x, "y"', "") for i in range(1_000)] * 3
    told = reading.files[str(tmp_path / "log.csv")]
    assert [number for number, _ in told.examples] == found


@pytest.mark.parametrize(
    "lists",
    ["I1\x02\x02I2\tC1\x02C1\x02C2", "I1\tC1\x02C2", "\tC1", "I1\t", "\x02\t\x02", "I1\x02I2\tC1\x02", "I1\tC1\t"],
)
def test_histories_whose_lists_do_not_fit_are_malformed(lists: str, tmp_path: Path) -> None:
    """In the files of the public DIEN code: an empty item, items without categories or the other way round."""
    public = PUBLIC["dien_files"]
    pairs = [line.encode() for line in public.lines["local_train_splitByUser"]]
    public.write(tmp_path, {"local_train_splitByUser": [*pairs, f"1\tA\tI4\tC1\t{lists}".encode()]})
    reading = Reading(max_malformed=1.0)
    log = read(public, tmp_path, reading)
    assert len(log.train) + len(log.valid) == len(pairs)
    assert reading.files[f"{tmp_path}/local_train_splitByUser"].examples[0][0] == len(pairs) + 1


def scored(number: int, degraded: str = "none") -> bytes:
    """A line of the feature log: a request with one candidate."""
    line = {"request_id": f"r{number}", "bundle_version": "v1", "user_id": number % 3, "time_ms": 1_000 * number}
    line |= {"degraded": degraded, "user": {}, "context": {}, "items": {"item_id": [number], "cate_id": [1]}}
    return json.dumps({**line, "history": {"item": [1], "category": [1], "time": [0]}, "pctr": [0.5]}).encode()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([b"", b" ", scored(3)[:50], b"null", b"\xff"])), max_size=6)
)
def test_torn_lines_of_the_feature_log_are_told_and_never_fatal(broken: list[tuple[int, bytes]]) -> None:
    """A killed process leaves them: wherever they are, the impressions stay, erased lines do not count, and requests
    without a report or without their history are counted.
    """
    lines = [scored(number, "history" if number == 4 else "none") for number in range(1, 21)]
    lines += [
        json.dumps({"feedback_for": f"r{n}", "items": [n], "clicked": [n % 2 == 0]}).encode() for n in range(1, 19)
    ]
    for place, line in broken:
        lines.insert(place, line)
    reading = Reading()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "features-1.jsonl").write_bytes(b"\n".join(lines))
        frame = read_feature_log(Path(folder), SCHEMA, reading)
    told = reading.files[f"{folder}/features-1.jsonl"]
    assert frame["item_id"].to_list() == [number for number in range(1, 19) if number != 4]
    assert told.malformed == sum(line.strip() != b"" for _, line in broken)
    assert all(lines[number - 1].decode("utf-8", "replace") == text for number, text in told.examples)
    assert reading.left_out == {"request that nobody reported on": 2, "request scored without its history": 1}
