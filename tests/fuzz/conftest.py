"""The tiny bundle of tests/online, for the fuzzers too."""

from tests.online.conftest import bundle_path, encoder

__all__ = ["bundle_path", "encoder"]
