"""Every setting of the service, and the only reader of the environment (CTR_BUNDLE, CTR_STORE, ...).

environment, flags --read_settings--> Settings, passed on as an argument from there
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from service.event_settings import EventSettings
from service.feedback_settings import FeedbackSettings
from service.observe_settings import ObserveSettings
from service.store_settings import STORE_SCHEMES, StoreSettings

PREFIX = "CTR_"
_SECRET = ("store", "admin_key")  # never repeated in a message; the URL of a store may carry a password
_ADMIN_KEY = re.compile(r"[\x21-\x7e]{16,256}")


class SettingsError(ValueError):
    """A setting is wrong. `problems` has one line for each, safe to print: the key, what is allowed, what was found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(EventSettings, FeedbackSettings, ObserveSettings, StoreSettings):
    """What an operator can choose. `Settings(...)` itself reads no environment; `read_settings` does."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

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
    admin_key: SecretStr | None = Field(
        None, description="Key of the /admin routes, 16 to 256 characters; without one they do not exist."
    )
    admin_key_file: str = Field("", description="File that holds the key of the /admin routes, instead of the key.")
    store: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Where behaviors live: redis://, unix://, redis+sentinel:// or redis+cluster:// (rediss with TLS), "
        "user and password as in redis-py, or memory:// for one process without Redis.",
    )
    key_prefix: str = Field("ctr:h:", description="Redis key of a user's history is this prefix and the user id.")
    history_keep: int = Field(
        200, ge=1, le=10_000, description="Behaviors kept per user; a request may not bring more either."
    )
    history_ttl_s: int = Field(90 * 86_400, ge=1, description="A user without events for so many seconds is forgotten.")
    store_timeout_ms: float = Field(20, gt=0, le=60_000, description="Longest wait for the store before degrading.")
    deadline_ms: float = Field(200, gt=0, le=60_000, description="Deadline of a request without X-Deadline-Ms.")
    max_deadline_ms: float = Field(10_000, gt=0, le=60_000, description="A longer X-Deadline-Ms counts as this.")
    max_candidates: int = Field(2000, ge=1, le=100_000, description="Candidates per request; more are refused (413).")
    explain_candidates: int = Field(
        50, ge=0, le=100_000, description="Candidates explained in one request; 0: none, and no graph for it is loaded."
    )
    max_body_bytes: int = Field(2 * 1024**2, ge=1024, description="Largest body; a larger one is refused (413).")
    workers: int = Field(
        1, ge=1, le=256, description="Serving processes behind the one port; most services need one (ADR 6)."
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Compute threads of each process, of one core each; 0: the processes share the CPUs that the "
        "container may use.",
    )
    runtime: Literal["auto", "onnx", "native"] = Field(
        "auto",
        description="What computes candidates: `native` is the compiled kernel, refused where it is not built; `auto` "
        "takes it where it can.",
    )
    device: str = Field(
        "cpu",
        pattern="^(cpu|cuda(:[0-9]{1,2})?)$",
        description="Where nets are computed: cpu, cuda or cuda:N; a GPU that is not there refuses every bundle.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the attention in the native kernel: `bfloat16` needs a processor with AMX and moves scores a "
        "little.",
    )
    compute_nice: int = Field(
        5, ge=0, le=19, description="How far compute threads stand back behind the one that reads and answers (Linux)."
    )
    queue_rows: int = Field(
        10_000, ge=1, description="Candidate rows scored or waiting at once; requests beyond are refused (429)."
    )
    queue_ms: float = Field(
        30,
        gt=0,
        le=60_000,
        description="Longest expected wait for a compute thread; requests beyond are refused (429).",
    )
    allow_prior: bool = Field(
        False,
        description="Answer from the items' click rates in training, `degraded: prior`, instead of a 429 or a 504.",
    )
    state_cache_mb: int = Field(
        64,
        ge=0,
        le=65_536,
        description="Memory for states of the user half, kept for users who come back unchanged; 0: none.",
    )
    slo_s: float = Field(0.03, gt=0, lt=10, description="The latency promised, in seconds: an edge of the histograms.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    drain_delay_s: float = Field(
        0,
        ge=0,
        le=600,
        description="On SIGTERM, seconds in which the service is not ready but still listens, so that load balancers "
        "notice.",
    )
    drain_s: int = Field(20, ge=0, description="After that, the longest wait for requests in flight, in seconds.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged; `warning` turns the access log off."
    )

    @field_validator("store")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not url.startswith(STORE_SCHEMES):
            raise ValueError(f"must start with one of {', '.join(STORE_SCHEMES)}")
        return url

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
        if self.admin_key is not None and self.admin_key_file:
            raise ValueError(f"{PREFIX}ADMIN_KEY and {PREFIX}ADMIN_KEY_FILE exclude each other")
        return self

    @field_validator("admin_key")
    @classmethod
    def _strong(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None or not key.get_secret_value():  # set but empty, as compose files do: none
            return None
        if not _ADMIN_KEY.fullmatch(key.get_secret_value()):
            raise ValueError("must be 16 to 256 printable ASCII characters without spaces")
        return key

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
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**{**source(), **given})
    except ValidationError as error:
        raise SettingsError([_problem(detail, {**source(), **given}) for detail in error.errors()]) from None


def read_admin_key(settings: Settings) -> bytes | None:
    """The key of the /admin routes, from wherever it is; None if there is none. Raises SettingsError."""
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value().encode()
    if not settings.admin_key_file:
        return None
    try:
        key = Path(settings.admin_key_file).read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError([f"{PREFIX}ADMIN_KEY_FILE: cannot be read: {error.strerror}"]) from error
    except ValueError:
        key = ""
    if not _ADMIN_KEY.fullmatch(key):
        raise SettingsError([f"{PREFIX}ADMIN_KEY_FILE: must hold 16 to 256 printable ASCII characters without spaces"])
    return key.encode()


def _problem(detail: Mapping[str, object], given: Mapping[str, object]) -> str:
    location = detail["loc"]
    name = str(location[0]) if isinstance(location, tuple) and location else ""
    why = str(detail["msg"]).removeprefix("Value error, ")
    if not name:
        return why
    found = "" if name in _SECRET else f", found {given.get(name)!r}"
    return f"{PREFIX}{name.upper()}: {why}{found}"
