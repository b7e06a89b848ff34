"""The settings of feedback, the feature log and items that are newer than the bundle.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from pydantic import Field
from pydantic_settings import BaseSettings


class FeedbackSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    feedback_window_s: int = Field(
        3600, ge=1, le=604_800, description="Seconds in which a request id counts once in POST /feedback."
    )
    max_feedback: int = Field(
        2000, ge=1, le=100_000, description="Impressions in one POST /feedback; more are refused (413)."
    )
    feature_log: str = Field(
        "", description="Folder of the feature log, one for all processes of a machine; empty: none is written."
    )
    feature_log_percent: float = Field(
        1, ge=0, le=100, description="Share of requests in the feature log, chosen by a hash of the request id."
    )
    feature_log_mb: int = Field(
        1024, ge=2, le=1_048_576, description="Most megabytes of the feature log; the oldest files are deleted."
    )
    feature_log_file_mb: int = Field(
        64, ge=1, le=65_536, description="A file of the feature log that is larger is followed by another."
    )
    feature_log_file_s: int = Field(3600, ge=1, le=2_592_000, description="So is one that is older, in seconds.")
    item_key_prefix: str = Field(
        "ctr:i:",
        min_length=1,
        description="Redis key of an item that is newer than the bundle: this prefix and its id.",
    )
    item_cache: int = Field(
        100_000,
        ge=0,
        le=100_000_000,
        description="Items from Redis kept in the process, those that it lacks too; 0: Redis is not asked for items.",
    )
    item_cache_s: float = Field(60, gt=0, le=86_400, description="Seconds for which such an item is kept.")
