"""The store's URL by file, as a secret is mounted: CTR_STORE_FILE."""

from pathlib import Path

import pytest

from service.config import SettingsError, read_settings

URL = "redis://:some-password@redis:6379/0"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the URL, ended by a line end as editors do."""
    path = tmp_path / "store_url"
    path.write_text(f"{URL}\n", encoding="utf-8")
    return path


def test_the_url_comes_from_the_file(file: Path):
    """Everything that asks for the store's URL gets it, without the line end; an empty name is no file."""
    assert read_settings({"CTR_STORE_FILE": str(file)}).store == URL
    assert read_settings({"CTR_STORE_FILE": "", "CTR_STORE": "memory://"}).store == "memory://"


def test_a_flag_wins(file: Path):
    """`--store` goes before the file, as it goes before CTR_STORE."""
    assert read_settings({"CTR_STORE_FILE": str(file)}, store="memory://").store == "memory://"


def test_never_both(file: Path):
    """Which of them counts is nothing to guess."""
    with pytest.raises(SettingsError, match="CTR_STORE and CTR_STORE_FILE exclude each other"):
        read_settings({"CTR_STORE_FILE": str(file), "CTR_STORE": URL})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"some-password", b""])
def test_a_file_that_holds_no_url_is_refused(file: Path, content: bytes):
    """Bytes, another text or nothing: the setting is named, and what the file holds is not repeated."""
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="CTR_STORE") as caught:
        read_settings({"CTR_STORE_FILE": str(file)})
    assert "some-password" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    """The reason is told."""
    with pytest.raises(SettingsError, match="CTR_STORE_FILE: cannot be read: No such file or directory"):
        read_settings({"CTR_STORE_FILE": str(tmp_path / "none")})
