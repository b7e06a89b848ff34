"""Every setting of the service, and the only reader of the environment (CTR_BUNDLE, CTR_STORE, ...).

environment, flags --read_settings--> Settings, passed on as an argument from there
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from service.access_settings import AccessSettings
from service.bundle_settings import BundleSettings
from service.event_settings import EventSettings
from service.feedback_settings import FeedbackSettings
from service.observe_settings import ObserveSettings
from service.scoring_settings import ScoringSettings
from service.server_settings import ServerSettings
from service.store_settings import StoreSettings

PREFIX = "CTR_"
_SECRET = ("store", "admin_key", "api_keys")  # never repeated in a message; the URL of a store may carry a password


class SettingsError(ValueError):
    """A setting is wrong. `problems` has one line for each, safe to print: the key, what is allowed, what was found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(
    ServerSettings,
    AccessSettings,
    BundleSettings,
    StoreSettings,
    ScoringSettings,
    EventSettings,
    FeedbackSettings,
    ObserveSettings,
):
    """What an operator can choose. `Settings(...)` itself reads no environment; `read_settings` does."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.queue_rows < self.max_candidates:
            raise ValueError(f"{PREFIX}QUEUE_ROWS must be at least {PREFIX}MAX_CANDIDATES")
        if 2 * self.feature_log_file_mb > self.feature_log_mb:
            raise ValueError(f"{PREFIX}FEATURE_LOG_MB must be at least twice {PREFIX}FEATURE_LOG_FILE_MB")
        if self.precision == "bfloat16" and self.runtime == "onnx":
            raise ValueError(f"{PREFIX}PRECISION=bfloat16 is the native runtime's, {PREFIX}RUNTIME is onnx")
        if self.device != "cpu" and (self.runtime == "native" or self.precision == "bfloat16"):
            raise ValueError(f"{PREFIX}RUNTIME=native and {PREFIX}PRECISION=bfloat16 are the CPU's, see {PREFIX}DEVICE")
        if self.workers > 1 and self.store.startswith("memory://"):
            raise ValueError(f"{PREFIX}WORKERS must be 1 with {PREFIX}STORE=memory://, which no two processes share")
        if self.admin_apart and self.admin_port == self.port:
            raise ValueError(f"{PREFIX}ADMIN_PORT must not be {PREFIX}PORT; 0 puts /admin there")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003, RUF100  # the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: a test or an embedding program must not depend on its environment."""
        return (init_settings,)


def read_settings(environ: Mapping[str, str], **flags: object) -> Settings:
    """Settings from `environ`, where `flags` (those that are not None) win.

    Raises SettingsError naming every key that is unknown or wrong.
    """
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(key for key in environ if key.upper().startswith(PREFIX) and key.upper() not in names)
    if unknown:
        allowed = ", ".join(sorted(names))
        raise SettingsError([f"{key}: not a setting, allowed: {allowed}" for key in unknown])
    source = EnvSettingsSource(Settings)
    source.env_vars = {key.lower(): value for key, value in environ.items()}
    given = _with_store(source(), {name: value for name, value in flags.items() if value is not None})
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError([_problem(detail, given) for detail in error.errors()]) from None


def _with_store(found: Mapping[str, object], flags: Mapping[str, object]) -> dict[str, Any]:
    """All that is given, with the store's URL out of its file. Raises SettingsError."""
    given: dict[str, Any] = {**found, **flags}
    file = given.get("store_file")
    if not file or "store" in flags:
        return given
    if "store" in given:
        raise SettingsError([f"{PREFIX}STORE and {PREFIX}STORE_FILE exclude each other"])
    try:
        return given | {"store": Path(file).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError([f"{PREFIX}STORE_FILE: cannot be read: {why}"]) from None


def _problem(detail: Mapping[str, object], given: Mapping[str, object]) -> str:
    location = detail["loc"]
    name = str(location[0]) if isinstance(location, tuple) and location else ""
    why = str(detail["msg"]).removeprefix("Value error, ")
    if not name:
        return why
    found = "" if name in _SECRET else f", found {given.get(name)!r}"
    return f"{PREFIX}{name.upper()}: {why}{found}"
