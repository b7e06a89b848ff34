"""What the tests of the data package share: the real data where there is some, and two schemas."""

import os
from pathlib import Path

import pytest

from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.data.log import DataConfig, Log, read_log
from model.data.synthetic import SyntheticConfig, synthetic_schema


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real logs, named by CTR_DATA or beside the repository; tests that need it skip without it."""
    folder = Path(os.environ.get("CTR_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; CTR_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def movie_schema() -> Schema:
    """Item and category, both also in the history: what every rating log can fill."""
    return Schema(
        item=(Feature(name="item_id"), Feature(name="cate_id")),
        behavior=(
            Sequence(shares="item_id", column="hist_item_ids"),
            Sequence(shares="cate_id", column="hist_cate_ids"),
        ),
        keys=Keys(category="cate_id"),
        max_history=50,
    )


@pytest.fixture(scope="session")
def small_log() -> Log:
    """A synthetic log of 60 users, quick to make, with every kind of feature."""
    sizes = SyntheticConfig(users=60, items=80, categories=8, impressions_per_user=30, seed=3)
    return read_log(DataConfig(format="synthetic", synthetic=sizes), synthetic_schema(), base=Path())
