"""Settings of who may ask what: keys, the port of /admin, web pages.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

import re
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from service.keys import parse_keys

_ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


class AccessSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    api_keys: SecretStr | None = Field(
        None,
        description="Keys with commas between, 16 to 256 characters each: every route but probes, /metrics, pages and "
        "/admin asks for one; none: they ask for no key.",
    )
    api_keys_file: str = Field(
        "", description="File that holds those keys instead, one in a line; read again when it changes."
    )
    admin_key: SecretStr | None = Field(
        None,
        description="Keys of /admin and /users, with commas between, 16 to 256 characters each; without one the "
        "routes do not exist.",
    )
    admin_key_file: str = Field(
        "", description="File that holds those keys instead, one in a line; read again when it changes."
    )
    admin_host: str = Field(
        "127.0.0.1", description="Address that the port of /admin and /users listens on; 0.0.0.0 in a container."
    )
    admin_port: int = Field(
        8082,
        ge=0,
        le=65_535,
        description="Port that opens where an admin key is set, and the only one with /admin and /users, beside all "
        "else; 0: they are on CTR_PORT.",
    )
    allowed_origins: str = Field(
        "",
        description="Origins of web pages, with commas between, whose POST and DELETE are taken beside those of the "
        "service's own pages; a page at a name instead of an address or localhost is to be named here.",
    )

    @property
    def admin_apart(self) -> bool:
        """Whether there is an admin key, and a port of its own for the routes that take it."""
        return bool(self.admin_port) and (self.admin_key is not None or bool(self.admin_key_file))

    @property
    def origins(self) -> frozenset[str]:
        """`allowed_origins`, each."""
        return frozenset(_split(self.allowed_origins))

    @field_validator("api_keys", "admin_key")
    @classmethod
    def _strong(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is None or not keys.get_secret_value().strip():  # set but empty, as compose files do: none
            return None
        parse_keys(keys.get_secret_value())
        return keys

    @model_validator(mode="after")
    def _from_one_place(self) -> Self:
        if self.api_keys is not None and self.api_keys_file:
            raise ValueError("CTR_API_KEYS and CTR_API_KEYS_FILE exclude each other")
        if self.admin_key is not None and self.admin_key_file:
            raise ValueError("CTR_ADMIN_KEY and CTR_ADMIN_KEY_FILE exclude each other")
        return self

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, given: str) -> str:
        if wrong := [one for one in _split(given) if not _ORIGIN.fullmatch(one)]:
            raise ValueError(f"must be origins such as https://ctr.example.com, in lower case, not {wrong[0][:80]!r}")
        return given


def _split(given: str) -> list[str]:
    return [one.strip() for one in given.split(",") if one.strip()]
