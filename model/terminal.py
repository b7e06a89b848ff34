"""Where the commands of `ctr-model` print, and what they print where the user can mend something."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from model.bundle.errors import BundleError, ConfigError, EncodeError
from model.halves import ExportError
from model.ranks import RankLostError

console = Console()
errors = Console(stderr=True)


@contextmanager
def clear_errors() -> Iterator[None]:
    """What the user can mend is one line on stderr and exit code 2, not a stack trace."""
    try:
        yield
    except (ConfigError, EncodeError, BundleError, ExportError, RankLostError, OSError) as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
