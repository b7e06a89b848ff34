"""Errors of the seam.

ValueError
├── ConfigError   a configuration or schema file is wrong; names file, key, what was found, what is allowed
├── EncodeError   a value cannot be encoded; names the feature, what was found, what is allowed
└── BundleError   a bundle on disk is not what its manifest says; names the file
"""


class ConfigError(ValueError):
    """A configuration value is wrong; the message is safe to show to whoever wrote the file."""

    def __init__(self, *, file: str, key: str, found: object, allowed: str) -> None:
        super().__init__(f"{file}: {key}: found {found!r}, allowed: {allowed}")


class EncodeError(ValueError):
    """A raw feature value cannot be encoded; the message is safe to show to whoever sent it."""

    def __init__(self, *, feature: str, found: object, allowed: str) -> None:
        super().__init__(f"{feature}: found {found!r}, allowed: {allowed}")


class BundleError(ValueError):
    """A bundle was refused; the message names the file that is at fault."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")
        self.file = file
