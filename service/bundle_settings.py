"""The settings of which bundles serve, and whom.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from pydantic import Field
from pydantic_settings import BaseSettings


class BundleSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    bundle: str = Field(
        "bundles",
        description="Bundle folder, or the folder above it with a `stable` pointer; a path, or a URL such as s3://.",
    )
    bundle_cache: str = Field(
        "", description="Folder for copies of bundles behind a URL; empty: a folder of this user for temporary files."
    )
    bundle_public_keys_file: str = Field(
        "",
        description="File of Ed25519 public keys in PEM: a bundle that none of them signed is refused; needs the extra "
        "`signing`; empty: signatures are not looked at.",
    )
    watch_s: float = Field(
        2, ge=0, le=86_400, description="Seconds between two looks for another bundle; 0: only at start-up."
    )
    canary_percent: float = Field(
        0, ge=0, le=100, description="Share of users whom the bundle serves that `canary` points to."
    )
    shadow_percent: float = Field(
        0, ge=0, le=100, description="Share of scored requests that the other bundle scores too, after the answer."
    )
