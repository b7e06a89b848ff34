"""Programs that some tests run, `prometheus`, `promtool` and `chromium`: `.ci/packages` installs them."""

import os
import shutil
from collections.abc import Mapping

import pytest

REQUIRED = "REQUIRE_PROGRAMS"  # not CTR_...: the service refuses names that are no settings of its own


def program(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Its path. Where it is missing the test is skipped; in the gate, which sets REQUIRE_PROGRAMS, it fails."""
    found = shutil.which(name)
    if found is None:
        why = f"{name} is not installed, see .ci/packages"
        pytest.fail(why) if environ.get(REQUIRED) else pytest.skip(why)
    return found
