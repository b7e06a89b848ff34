"""The readers of rating logs, on small files in exactly the published forms."""

import dataclasses
import gzip

import pytest

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature
from model.data.log import DataConfig, read_log

# user, item, rating, time: ten rows, so that the default fractions cut 8, 1, 1.
RATINGS = [
    (1, 1, 5, 100),
    (1, 2, 4, 200),
    (2, 1, 3, 210),
    (1, 3, 2, 300),
    (2, 2, 5, 310),
    (2, 3, 4, 400),
    (1, 4, 4, 500),
    (2, 4, 1, 600),
    (1, 1, 5, 700),
    (2, 1, 4, 800),
]
MOVIES = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Jumanji (1995)::Adventure|Fantasy\n"
MOVIES += "3::Misérables, Les (1995)::Sci-Fi\n4::Nothing (1996)::(no genres listed)\n9::Never Rated (1996)::Western\n"


def flags(*on):
    """The 19 genre flags of u.item."""
    return "|".join("1" if place in on else "0" for place in range(19))


def write_ml_1m(folder, ratings=RATINGS, *, packed=False):
    text = "".join("::".join(map(str, row)) + "\n" for row in ratings).encode()
    if packed:
        (folder / "ratings.dat.gz").write_bytes(gzip.compress(text))
    else:
        (folder / "ratings.dat").write_bytes(text)
    (folder / "movies.dat").write_text(MOVIES, encoding="latin-1")


def write_ml_100k(folder):
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    movies = [
        f"1|Toy Story (1995)|01-Jan-1995||http://a|{flags(3, 4, 5)}",
        f"2|Jumanji (1995)|01-Jan-1995||http://b|{flags(2, 9)}",
        f"3|Misérables, Les (1995)|01-Jan-1995||http://c|{flags(15)}",
        f"4|Nothing (1996)||||{flags(0)}",
        f"9|Never Rated (1996)|01-Jan-1996||http://e|{flags(18)}",
    ]
    (folder / "u.item").write_text("\n".join(movies) + "\n", encoding="latin-1")
    (folder / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|T8H1N\n")


def write_atomic(folder):
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (folder / "tiny.inter").write_text(inter + "".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    item = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    item += "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tJumanji\t1995\tAdventure Fantasy\n"
    item += "3\tMisérables, Les\t1995\tSci-Fi\n4\tNothing\t\tunknown\n9\tNever Rated\t1996\tWestern\n"
    (folder / "tiny.item").write_text(item, encoding="utf-8")
    user = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    (folder / "tiny.user").write_text(user + "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n")


FORMS = {
    "ratings.dat": ("movielens", write_ml_1m),
    "ratings.dat.gz": ("movielens", lambda folder: write_ml_1m(folder, packed=True)),
    "u.data": ("movielens", write_ml_100k),
    "atomic": ("atomic", write_atomic),
}


def read(form, folder, schema):
    return read_log(DataConfig(format=form, path=folder.relative_to(folder.parent)), schema, base=folder.parent)


@pytest.mark.parametrize("name", FORMS)
def test_every_published_form_gives_the_same_log(name, tmp_path, movie_schema):
    """The same ratings in each form: split by time, histories with categories, behaviors by user and time, catalogue
    with first genres (Animation 3, Adventure 2, Sci-Fi 15, none 0, Western 18).
    """
    form, write = FORMS[name]
    write(tmp_path)
    log = read(form, tmp_path, movie_schema)
    assert [len(log.train), len(log.valid), len(log.test)] == [8, 1, 1]
    assert log.items.rows() == [(1, 3), (2, 2), (3, 15), (4, 0), (9, 18)]
    assert log.test.row(0, named=True) == {
        "user_id": 2,
        "item_id": 1,
        "cate_id": 3,
        "label": 1,
        "timestamp": 800,
        "hist_item_ids": [2, 3],
        "hist_cate_ids": [2, 15],
    }
    assert log.train["label"].to_list() == [1, 1, 0, 0, 1, 1, 1, 0]
    expected = [(1, 1, 100, 3), (1, 2, 200, 2), (1, 4, 500, 0), (1, 1, 700, 3)]
    expected += [(2, 2, 310, 2), (2, 3, 400, 15), (2, 1, 800, 3)]
    assert log.behaviors.rows() == expected
    assert log.bayes_auc is None


@pytest.mark.parametrize("name", ["u.data", "atomic"])
def test_user_columns_become_features_when_the_schema_names_them(name, tmp_path, movie_schema):
    """Age as a number, gender and zip code as text (one is no number), joined by user."""
    form, write = FORMS[name]
    write(tmp_path)
    user = (
        Feature(name="age", kind="dense"),
        Feature(name="gender", dtype="str"),
        Feature(name="zip_code", dtype="str"),
    )
    log = read(form, tmp_path, dataclasses.replace(movie_schema, user=user))
    assert set(log.train.select("user_id", "age", "gender", "zip_code").rows()) == {
        (1, 24.0, "M", "85711"),
        (2, 53.0, "F", "T8H1N"),
    }


def test_a_movielens_1m_users_file_is_read_too(tmp_path, movie_schema):
    """users.dat has gender before age, other than u.user."""
    write_ml_1m(tmp_path)
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    user = (Feature(name="age"), Feature(name="gender", dtype="str"))
    log = read("movielens", tmp_path, dataclasses.replace(movie_schema, user=user))
    assert set(log.train.select("user_id", "age", "gender").rows()) == {(1, 1, "F"), (2, 56, "M")}


def test_a_log_without_category_needs_no_movie_file(tmp_path, movie_schema):
    """A schema with item ids only reads u.data alone; the catalogue is what was rated."""
    (tmp_path / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    schema = dataclasses.replace(
        movie_schema,
        item=movie_schema.item[:1],
        behavior=movie_schema.behavior[:1],
        keys=dataclasses.replace(movie_schema.keys, category=None),
    )
    assert read("movielens", tmp_path, schema).items.rows() == [(1,), (2,), (3,), (4,)]


def test_large_ids_survive(tmp_path, movie_schema):
    """2^24 and 2^24 + 1, which are one number in float32, and 2^62, come out as they went in."""
    large = {1: 2**24, 2: 2**24 + 1, 3: 2**62, 4: 2**63 - 1}
    write_ml_1m(tmp_path, [(user + 2**53, large[item], rating, time) for user, item, rating, time in RATINGS])
    log = read("movielens", tmp_path, movie_schema)
    assert log.items["item_id"].to_list() == [1, 2, 3, 4, 9, 2**24, 2**24 + 1, 2**62, 2**63 - 1]
    assert log.test["hist_item_ids"].to_list() == [[2**24 + 1, 2**62]]
    assert log.test["user_id"].to_list() == [2**53 + 2]


def test_windows_line_ends_and_a_missing_last_one_are_read(tmp_path, movie_schema):
    """CRLF, and no line end after the last line."""
    write_ml_1m(tmp_path)
    text = "\r\n".join("::".join(map(str, row)) for row in RATINGS)
    (tmp_path / "ratings.dat").write_bytes(text.encode())
    log = read("movielens", tmp_path, movie_schema)
    assert len(log.train) + len(log.valid) + len(log.test) == 10


@pytest.mark.parametrize(
    "line",
    ["1::2::3", "1::2::3::4::5", "one::2::3::400", "1::2.5::3::400", "1::2::good::400", "1::2::nan::400", "",
     "1::9223372036854775808::3::400", "1::2::3::", "1\t2\t3\t400"],
)  # fmt: skip
def test_a_broken_line_is_an_error_with_its_number(line, tmp_path, movie_schema):
    """Too few or many fields, no integer, no finite number, an empty line: the file, line 4 and the line are named."""
    write_ml_1m(tmp_path)
    lines = (tmp_path / "ratings.dat").read_text().splitlines()
    (tmp_path / "ratings.dat").write_text("\n".join([*lines[:3], line, *lines[3:]]) + "\n")
    with pytest.raises(ConfigError, match=r"ratings\.dat: line 4: found .*4 fields separated by '::'") as caught:
        read("movielens", tmp_path, movie_schema)
    assert repr(line) in str(caught.value)


def test_a_broken_line_of_an_atomic_file_counts_the_header(tmp_path, movie_schema):
    """The first line after the header is line 2."""
    write_atomic(tmp_path)
    text = (tmp_path / "tiny.inter").read_text().replace("1\t1\t5\t100", "1\tB00A\t5\t100")
    (tmp_path / "tiny.inter").write_text(text)
    with pytest.raises(ConfigError, match=r"tiny\.inter: line 2: found '1\\tB00A\\t5\\t100'"):
        read("atomic", tmp_path, movie_schema)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("user_id:token\titem_id:token\trating:float\ttime:float", "a field timestamp among them"),
        ("user_id\titem_id\trating\ttimestamp", "name:type"),
        ("user_id:token\titem_id:int\trating:float\ttimestamp:float", "name:type"),
        ("user_id:token\tuser_id:token\trating:float\ttimestamp:float", "different names"),
        ("", "name:type"),
    ],
)
def test_an_atomic_header_is_checked(header, said, tmp_path, movie_schema):
    """A missing field, no types, an unknown type, a name twice, no header: line 1 is named with what is allowed."""
    write_atomic(tmp_path)
    lines = (tmp_path / "tiny.inter").read_text().splitlines()
    (tmp_path / "tiny.inter").write_text("\n".join([header, *lines[1:]]))
    with pytest.raises(ConfigError, match=rf"tiny\.inter: line 1: .*{said}"):
        read("atomic", tmp_path, movie_schema)


def test_genres_of_another_catalogue_are_refused(tmp_path, movie_schema):
    """If no item has a genre that MovieLens publishes, every category would be 0: an error, not a silent constant."""
    write_atomic(tmp_path)
    (tmp_path / "tiny.item").write_text("item_id:token\tclass:token_seq\n1\tBeauty Hair\n")
    with pytest.raises(ConfigError, match=r"tiny\.item: class: found 'Beauty Hair', allowed: genres of MovieLens"):
        read("atomic", tmp_path, movie_schema)


def test_text_that_is_not_utf8_is_an_error_with_its_line(tmp_path, movie_schema):
    """An atomic file in latin-1 is refused where the first such byte is."""
    write_atomic(tmp_path)
    text = (tmp_path / "tiny.item").read_text(encoding="utf-8")
    (tmp_path / "tiny.item").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"tiny\.item: line 4: .*utf-8 text"):
        read("atomic", tmp_path, movie_schema)


def test_missing_files_are_named(tmp_path, movie_schema):
    """No ratings, no movies, no folder, no path: each error names what is missing and what is allowed."""
    with pytest.raises(
        ConfigError, match=r"a folder with ratings\.dat or ratings\.dat\.gz or ratings\.csv or .* or u\.data"
    ):
        read("movielens", tmp_path, movie_schema)
    with pytest.raises(ConfigError, match=r"nothing there.*a folder with one \.inter file"):
        read("atomic", tmp_path / "absent", movie_schema)
    with pytest.raises(ConfigError, match=r"data\.path: found None, allowed: the folder of a log in format 'atomic'"):
        read_log(DataConfig(format="atomic"), movie_schema, base=tmp_path)
    write_ml_1m(tmp_path)
    (tmp_path / "movies.dat").unlink()
    with pytest.raises(ConfigError, match=r"movies\.dat: file: found 'nothing there'"):
        read("movielens", tmp_path, movie_schema)


@pytest.mark.parametrize("raw", [b"not packed", gzip.compress(b"1::1::5::100\n" * 50, mtime=0)[:30]])
def test_a_broken_archive_is_an_error_that_names_it(raw, tmp_path, movie_schema):
    """Not gzip, or cut off."""
    write_ml_1m(tmp_path, packed=True)
    (tmp_path / "ratings.dat.gz").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"ratings\.dat\.gz: file: found"):
        read("movielens", tmp_path, movie_schema)


def test_a_movie_or_user_given_twice_is_refused(tmp_path, movie_schema):
    """Two lines for one item or user would double its ratings."""
    write_atomic(tmp_path)
    user = (tmp_path / "tiny.user").read_text()
    (tmp_path / "tiny.user").write_text(user + "2\t1\tF\tother\t0\n")
    with_age = dataclasses.replace(movie_schema, user=(Feature(name="age"),))
    with pytest.raises(ConfigError, match="users, column user_id: found '2 more than once'"):
        read("atomic", tmp_path, with_age)
    item = (tmp_path / "tiny.item").read_text()
    (tmp_path / "tiny.item").write_text(item + "1\tToy Story\t1995\tComedy\n")
    with pytest.raises(ConfigError, match="column item_id: found 1, allowed: each item once"):
        read("atomic", tmp_path, movie_schema)


def test_a_feature_that_the_log_does_not_have_is_refused(tmp_path, movie_schema):
    """The error names the column and what the log has."""
    write_atomic(tmp_path)
    schema = dataclasses.replace(movie_schema, context=(Feature(name="hour"),))
    with pytest.raises(ConfigError, match="column hour: found 'no such column, only user_id, item_id"):
        read("atomic", tmp_path, schema)
