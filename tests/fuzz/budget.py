"""How long the fuzzers run: FUZZ_SECONDS for each of them; unset, as in the gate, the little that each names."""

import os
from collections.abc import Mapping

SECONDS = "FUZZ_SECONDS"  # not CTR_...: the service refuses names that are no settings of its own


def seconds(usual: float, environ: Mapping[str, str] = os.environ) -> float:
    """The time of one fuzzer."""
    return float(environ.get(SECONDS) or usual)


def long_run(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody asked for more than the gate does: then the cases are others every time."""
    return bool(environ.get(SECONDS))
