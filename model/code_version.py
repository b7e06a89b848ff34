"""Which release of the package writes a bundle."""

from importlib.metadata import PackageNotFoundError, version


def code_version() -> str:
    """The installed version, or `unknown` where the package is not installed."""
    try:
        return version("ctr-scorer")
    except PackageNotFoundError:
        return "unknown"
