"""The feature log's files: whole lines, in files of bounded size and age, in a folder of bounded size."""

import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from service.log_folder import Limits, LogFolder

LINE = b'{"user_id":1,"n":"' + b"x" * 80 + b'"}\n'


class Clock:
    """A clock that a test moves."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(path, clock, **limits) -> LogFolder:
    chosen = {"file_bytes": 10_000, "file_s": 60, "total_bytes": 100_000, **limits}
    return LogFolder(path / "log", limits=Limits(**chosen), now=clock)


@contextmanager
def file_size(most: int):
    """No file may grow beyond `most` bytes inside the block: a write that reaches it ends in the middle, then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_is_full_or_old_is_followed_by_another(tmp_path, clock):
    """Both limits start a new file; the names are in the order of time."""
    folder = opened(tmp_path, clock, file_bytes=250)
    for _ in range(4):
        folder.append(LINE)
    full = [path.read_bytes() for path in folder.files()]
    clock.now += 61
    folder.append(LINE)

    assert full == [LINE * 3, LINE]
    assert [path.read_bytes() for path in folder.files()] == [LINE * 3, LINE, LINE]


def test_the_oldest_files_make_room(tmp_path, clock):
    """The folder never holds more than its limit, and keeps the newest lines."""
    folder = opened(tmp_path, clock, file_bytes=300, total_bytes=1000)
    sizes = []
    for number in range(50):
        folder.append(b"%d %b" % (number, LINE))
        sizes.append(sum(path.stat().st_size for path in folder.files()))

    assert max(sizes) <= 1000
    assert folder.files()[-1].read_bytes().splitlines()[-1].startswith(b"49 ")
    assert sizes[-1] > 500


def test_lines_of_several_writers_stay_whole(tmp_path, clock):
    """Two folders on one path, as of two processes, lose no line and tear none."""
    folders = [opened(tmp_path, clock, total_bytes=10**9) for _ in range(2)]

    def write(number: int) -> None:
        folders[number % 2].append(b"%d %b" % (number, LINE))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(400)))
    lines = b"".join(path.read_bytes() for path in folders[0].files()).splitlines()

    assert sorted(int(line.split(b" ")[0]) for line in lines) == list(range(400))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, clock):
    """A disk that is full in the middle of a write costs these lines and no others."""
    folder = opened(tmp_path, clock, file_bytes=10**6)
    folder.append(LINE)
    with file_size(150), pytest.raises(OSError, match="too large"):
        folder.append(LINE * 2)
    after_failure = folder.files()[0].read_bytes()
    folder.append(LINE)

    assert after_failure == LINE
    assert folder.files()[0].read_bytes() == LINE * 2


def test_a_torn_line_does_not_spoil_the_next(tmp_path, clock):
    """What a killed process left of a line is closed before others write."""
    folder = opened(tmp_path, clock)
    folder.append(LINE + LINE[:20])
    folder.append(LINE)

    assert folder.files()[0].read_bytes().splitlines() == [LINE.strip(), LINE[:20], LINE.strip()]


def test_unwanted_lines_are_overwritten_in_place(tmp_path, clock):
    """The bytes are gone, the other lines are where they were, and the number is told."""
    folder = opened(tmp_path, clock, file_bytes=200)
    for number in range(6):
        folder.append(b"%d %b" % (number, LINE))
    before = sum(path.stat().st_size for path in folder.files())
    blanked = folder.blank(lambda line: line[:1] in b"135" and bool(line))
    kept = [line[:1] for path in folder.files() for line in path.read_bytes().splitlines() if line.strip()]

    assert blanked == 3
    assert kept == [b"0", b"2", b"4"]
    assert sum(path.stat().st_size for path in folder.files()) == before
