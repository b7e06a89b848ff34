"""Programs that some tests run: `.ci/packages` installs Debian's, `make .venv-checks` those of the Python index."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

REQUIRED = "REQUIRE_PROGRAMS"  # not CTR_...: the service refuses names that are no settings of its own
CHECKS = Path(__file__).parents[1] / ".venv-checks" / "bin"


def program(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Its path. Where it is missing the test is skipped; in the gate, which sets REQUIRE_PROGRAMS, it fails."""
    found = shutil.which(name) or shutil.which(name, path=CHECKS)
    if found is None:
        why = f"{name} is not installed, see .ci/packages and `make .venv-checks`"
        pytest.fail(why) if environ.get(REQUIRED) else pytest.skip(why)
    return found
