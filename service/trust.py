"""Which bundles are trusted: all, or those that were signed with a key that the operator names.

Nothing of `cryptography` is imported unless CTR_BUNDLE_PUBLIC_KEYS_FILE is set: `service/signature.py` is what then is.
"""

from pathlib import Path

from model.bundle.signature import ManifestCheck
from service.config import PREFIX, Settings, SettingsError


def open_check(settings: Settings) -> ManifestCheck | None:
    """What the settings ask of a manifest before it is parsed; None: nothing.

    Raises SettingsError if the file of keys cannot be used, or the library is missing.
    """
    if not settings.bundle_public_keys_file:
        return None
    name = f"{PREFIX}BUNDLE_PUBLIC_KEYS_FILE"
    try:
        from service.signature import TrustedKeys  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise SettingsError([f"{name}: needs ctr-scorer[signing], which is not installed"]) from error
    try:
        return TrustedKeys(Path(settings.bundle_public_keys_file).read_bytes())
    except OSError as error:
        raise SettingsError([f"{name}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise SettingsError([f"{name}: {error}"]) from error
