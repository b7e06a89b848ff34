"""The store that the settings name."""

import asyncio

from service.config import Settings
from service.stores.address import Tls, read_address
from service.stores.base import BehaviorStore, StoreError, StoreMisconfigured
from service.stores.check import refused_certificate
from service.stores.memory import MemoryStore
from service.stores.redis import RedisStore
from service.stores.servers import ServerOptions

CHECK_S = 2.0  # for each of the few commands of the check at start-up


def choose_store(settings: Settings) -> BehaviorStore:
    """The store, not connected yet. Raises ValueError for a URL or a certificate's file that cannot be read."""
    if settings.store.startswith("memory://"):
        return MemoryStore(history_keep=settings.history_keep)
    return RedisStore.from_url(
        settings.store,
        history_keep=settings.history_keep,
        ttl_s=settings.history_ttl_s,
        key_prefix=settings.key_prefix,
        options=server_options(settings),
    )


def server_options(settings: Settings) -> ServerOptions:
    """How the servers of the store are connected to and asked."""
    first_s = min(settings.store_read_timeout_ms or settings.store_timeout_ms, settings.store_timeout_ms) / 1e3
    return ServerOptions(
        pool_size=settings.store_pool_size,
        connect_timeout_s=settings.store_connect_timeout_ms / 1e3 or None,
        read_timeout_s=settings.store_read_timeout_ms / 1e3 or None,
        fair_s=first_s / 2,
        failures=settings.store_failures,
        read_replicas=settings.store_read_replicas,
        wait_replicas=settings.store_wait_replicas,
        tls=Tls(ca_file=settings.store_ca_file, cert_file=settings.store_cert_file, key_file=settings.store_key_file),
    )


async def check_store(settings: Settings) -> None:
    """Raises StoreMisconfigured or ValueError if the settings are wrong; a store that is only away is none of that."""
    store = choose_store(settings)
    if not isinstance(store, RedisStore):
        return
    try:
        await store.check(timeout_s=CHECK_S)
    except StoreMisconfigured:
        raise
    except StoreError:  # degraded answers until it comes, unless it is our certificate that it does not like
        options = server_options(settings)
        address = read_address(settings.store, options.tls)
        if settings.store.startswith("rediss") and (
            why := await asyncio.to_thread(refused_certificate, address, options.tls)
        ):
            raise StoreMisconfigured(why) from None
    finally:
        await store.close()
