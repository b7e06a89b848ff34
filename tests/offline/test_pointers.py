"""Pointers: replaced in one step, one step back is kept, and text that names no version is refused."""

import pytest

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import list_versions, read_pointer, remove_pointer, roll_back, write_pointer


@pytest.fixture
def root(tmp_path):
    """A folder with the versions v1, v2 and v3, as far as pointers care."""
    for version in ("v1", "v2", "v3"):
        (tmp_path / version).mkdir()
        (tmp_path / version / MANIFEST).write_text("{}")
    return tmp_path


def test_a_pointer_is_read_back(root):
    """What was written is read; a pointer that was never written, or was taken away, names nothing."""
    write_pointer(root, "canary", "v2")

    assert (read_pointer(root, "canary"), read_pointer(root, "stable")) == ("v2", None)
    assert (remove_pointer(root, "canary"), remove_pointer(root, "canary")) == (True, False)
    assert read_pointer(root, "canary") is None


def test_rolling_back_is_one_step(root):
    """`stable` returns to what it named before, once; then there is nothing left to go back to."""
    for version in ("v1", "v2", "v3", "v3"):
        write_pointer(root, "stable", version)

    assert roll_back(root) == "v2" == read_pointer(root, "stable")
    with pytest.raises(BundleError, match="nothing to go back to"):
        roll_back(root)
    assert read_pointer(root, "stable") == "v2"


def test_rolling_back_to_a_version_that_is_gone_changes_nothing(root):
    """A version that was deleted meanwhile is refused, and `stable` stays."""
    write_pointer(root, "stable", "v1")
    write_pointer(root, "stable", "v2")
    (root / "v1" / MANIFEST).unlink()

    with pytest.raises(BundleError, match="nothing can point to it"):
        roll_back(root)
    assert read_pointer(root, "stable") == "v2"


def test_the_canary_keeps_no_previous(root):
    """Only `stable` can be rolled back."""
    write_pointer(root, "canary", "v1")
    write_pointer(root, "canary", "v2")

    with pytest.raises(BundleError, match="nothing to go back to"):
        roll_back(root)


@pytest.mark.parametrize(
    "text", ["", "\n", "../v1", "v1/..", "/v1", ".hidden", "v1 v2", "v" * 129, "\x00", "\u00e9t\u00e9"]
)
def test_text_that_names_no_version_is_refused(root, text):
    """A pointer leads to a folder beside it and to nothing else; writing it again mends it."""
    (root / "stable").write_text(text, encoding="utf-8")

    with pytest.raises(BundleError, match="stable: does not name a version"):
        read_pointer(root, "stable")
    with pytest.raises(BundleError):
        write_pointer(root, "stable", text)
    write_pointer(root, "stable", "v1")
    assert read_pointer(root, "stable") == "v1"


def test_only_pointers_are_written(root):
    """Another name is refused."""
    with pytest.raises(BundleError, match="not a pointer, allowed: stable, canary"):
        write_pointer(root, "latest", "v1")


def test_versions_are_folders_with_a_manifest(root):
    """Unfinished folders and pointers are no versions."""
    (root / ".writing-x").mkdir()
    (root / ".writing-x" / MANIFEST).write_text("{}")
    (root / "empty").mkdir()
    write_pointer(root, "stable", "v1")

    assert list_versions(root) == ["v1", "v2", "v3"]
