"""The keys that the settings name, and what the log says of them at the start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr
from structlog.typing import FilteringBoundLogger

from service.config import PREFIX, Settings, SettingsError
from service.keys import Keys, parse_keys, read_keys


class Access:
    """`api` and `admin` keys; None: there are none, and nobody is asked, or what they open does not exist."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError if a file of keys cannot be used."""
        self._settings = settings
        self.api = _open(settings.api_keys, settings.api_keys_file, setting=f"{PREFIX}API_KEYS_FILE")
        self.admin = _open(settings.admin_key, settings.admin_key_file, setting=f"{PREFIX}ADMIN_KEY_FILE")

    @asynccontextmanager
    async def followed(self, log: FilteringBoundLogger) -> AsyncIterator[None]:
        """Follow the files while the block lasts."""
        self._say(log)
        named = ((self.api, f"{PREFIX}API_KEYS_FILE"), (self.admin, f"{PREFIX}ADMIN_KEY_FILE"))
        tasks = [asyncio.create_task(keys.follow(log, setting=name)) for keys, name in named if keys is not None]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _say(self, log: FilteringBoundLogger) -> None:
        if self.api is None:
            log.info("no API key is asked for", setting=f"{PREFIX}API_KEYS_FILE")
        if self.admin is not None:
            settings = self._settings
            apart = f"{settings.admin_host}:{settings.admin_port}"
            log.info("/admin and /users ask for a key", at=apart if settings.admin_apart else "the service's port")


def _open(given: SecretStr | None, file: str, *, setting: str) -> Keys | None:
    if given is not None:
        return Keys(parse_keys(given.get_secret_value()))
    if not file:
        return None
    try:
        return Keys(read_keys(Path(file)), file=Path(file))
    except OSError as error:
        raise SettingsError([f"{setting}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise SettingsError([f"{setting}: {error}"]) from None
