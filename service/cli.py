"""`ctr-service`: serve a bundle, fill the store with behaviors, or show it all in one go."""

import asyncio
import os
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from model.bundle.errors import ConfigError
from service.bench.command import bench
from service.config import PREFIX, Settings, SettingsError, read_settings
from service.logs import DescriptorSink, json_log
from service.port import PortError, hold_port
from service.process import Place
from service.stores.base import StoreError, StoreMisconfigured

CONFIG_ERROR, STORE_ERROR, PORT_ERROR = 2, 1, 3  # exit codes

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


def _flag(setting: str) -> str:
    """What --help says of a flag is what docs/configuration.md says of its setting."""
    return f"{Settings.model_fields[setting].description} {PREFIX}{setting.upper()}."


StoreFlag = Annotated[str | None, typer.Option(help=_flag("store"))]


@cli.command()
def serve(  # noqa: PLR0913  # one parameter per flag
    *,
    bundle: Annotated[str | None, typer.Option(help=_flag("bundle"))] = None,
    store: StoreFlag = None,
    host: Annotated[str | None, typer.Option(help=_flag("host"))] = None,
    port: Annotated[int | None, typer.Option(help=_flag("port"))] = None,
    workers: Annotated[int | None, typer.Option(help=_flag("workers"))] = None,
    threads: Annotated[int | None, typer.Option(help=_flag("threads"))] = None,
) -> None:
    """Serve POST /score until SIGTERM. Every setting is also an environment variable, CTR_...; flags win."""
    settings = _settings(bundle=bundle, store=store, host=host, port=port, workers=workers, threads=threads)
    if settings.workers > 1:
        raise typer.Exit(_supervise(settings))
    _serve(settings)


@cli.command()
def load_history(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV file, one row per behavior.")],
    *,
    time_unit: Annotated[Literal["s", "ms"], typer.Option(help="Unit of the time column, since the epoch.")],
    store: StoreFlag = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A column's other name in this file, as --column category=genre.")
    ] = None,
) -> None:
    """Append the behaviors of a file to the store. Repeating it changes nothing."""
    settings = _loading(store)
    try:
        asyncio.run(_load_history(file, settings, time_unit=time_unit, renamed=column or []))
    except ConfigError as error:
        _stop(str(error))
    except StoreError as error:
        _stop(str(error), code=STORE_ERROR)


@cli.command()
def load_items(
    file: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON lines (.jsonl), one row per item.")],
    *,
    store: StoreFlag = None,
    key: Annotated[str, typer.Option(help="Column of the item id; the others are features.")] = "item_id",
    ttl_s: Annotated[int, typer.Option(min=0, help="Seconds until Redis forgets an item; 0: never.")] = 0,
) -> None:
    """Put features of items that are newer than the bundle into Redis. Repeating it changes nothing."""
    settings = _loading(store)
    try:
        count = asyncio.run(_load_items(file, settings, key=key, ttl_s=ttl_s))
    except ConfigError as error:
        _stop(str(error))
    except StoreError as error:
        _stop(str(error), code=STORE_ERROR)
    print(f"{count} items")


@cli.command()
def consume_events(
    *,
    store: StoreFlag = None,
    stream: Annotated[str | None, typer.Option(help=_flag("events_stream"))] = None,
    consumer: Annotated[str | None, typer.Option(help=_flag("events_consumer"))] = None,
) -> None:
    """Write the events of a Redis Stream to the store until SIGTERM, at least once each."""
    settings = _settings(store=store, events_stream=stream, events_consumer=consumer)
    if settings.store.startswith("memory://"):
        _stop("CTR_STORE: memory:// has no streams; name a Redis")
    log = json_log(settings.log_level, sink=DescriptorSink(sys.stdout.fileno()))
    from service.consume import consume_events as consume  # noqa: PLC0415  # `serve` need not wait for it
    from service.stores.choice import check_store  # noqa: PLC0415  # the same

    async def run() -> None:
        await check_store(settings)
        await consume(settings, log=log)

    try:
        asyncio.run(run())
    except (StoreMisconfigured, ValueError) as error:
        _stop(f"CTR_STORE: {error}")
    except OSError as error:
        _stop(f"CTR_HOST, CTR_CONSUMER_PORT: {error}", code=PORT_ERROR)


@cli.command()
def demo(
    *, once: Annotated[bool, typer.Option("--once", help="End after the table instead of serving on.")] = False
) -> None:
    """Log -> DIN and DIEN -> bundles -> service -> three scored users, from nothing."""
    from service.demo import demo as run_demo  # noqa: PLC0415  # it needs training code, which a serving install has not

    run_demo(once=once)


cli.command()(bench)


def main() -> None:
    """Entry point of the console script."""
    cli()


def _serve(settings: Settings, *, place: Place | None = None, port: int | None = None) -> None:
    """One serving process, from start to end. Where there are several, each is started with this, by name."""
    from service.server import serve  # noqa: PLC0415  # the parent of several processes stays small without it

    try:
        serve(settings, place=place, port=port)
    except PortError as error:
        print(error, file=sys.stderr)
        sys.exit(PORT_ERROR)
    except SettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(CONFIG_ERROR)
    except ValueError as error:
        print(f"CTR_STORE: {error}", file=sys.stderr)
        sys.exit(CONFIG_ERROR)


def _supervise(settings: Settings) -> int:
    """The parent of several processes; returns its exit code."""
    from service.supervisor import Restarts, Supervisor  # noqa: PLC0415  # other commands need not wait for it

    with ExitStack() as held:
        port = _hold(held, settings.host, settings.port, names="CTR_HOST, CTR_PORT")
        if settings.admin_apart:
            _hold(held, settings.admin_host, settings.admin_port, names="CTR_ADMIN_HOST, CTR_ADMIN_PORT")
        log = json_log(settings.log_level, sink=DescriptorSink(sys.stdout.fileno()))
        log.info(f"{settings.workers} processes running on http://{settings.host}:{port}")
        return Supervisor(settings, _serve, port=port, log=log, restarts=Restarts()).run()


def _hold(held: ExitStack, host: str, port: int, *, names: str) -> int:
    """Hold a port until `held` is closed; the port. `names` are the settings that it comes from."""
    try:
        return int(held.enter_context(hold_port(host, port)).getsockname()[1])
    except OSError as error:
        _stop(f"{names}: {error}", code=PORT_ERROR)


async def _load_items(file: Path, settings: Settings, *, key: str, ttl_s: int) -> int:
    from service import item_loader  # noqa: PLC0415  # polars, which `serve` need not wait for
    from service.stores.choice import choose_store  # noqa: PLC0415  # the same
    from service.stores.items import RedisItems  # noqa: PLC0415  # the same
    from service.stores.redis import RedisStore  # noqa: PLC0415  # the same

    store = choose_store(settings)
    assert isinstance(store, RedisStore)  # memory:// was refused
    items = RedisItems(store.servers, prefix=settings.item_key_prefix)
    try:
        with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as progress:
            bar = progress.add_task("items", total=None)
            return await item_loader.load_items(
                file,
                items,
                key=key,
                ttl_s=ttl_s,
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    finally:
        await store.close()


async def _load_history(file: Path, settings: Settings, *, time_unit: Literal["s", "ms"], renamed: list[str]) -> None:
    from service import history_file, history_loader  # noqa: PLC0415  # polars, which `serve` need not wait for

    roles = vars(history_file.DEFAULT_COLUMNS)
    names = dict(pair.split("=", 1) for pair in renamed if "=" in pair)
    if len(names) != len(renamed) or not names.keys() <= roles.keys():
        allowed = f"ROLE=NAME, each once, with a role of {', '.join(roles)}"
        raise ConfigError(file="command line", key="--column", found=", ".join(renamed), allowed=allowed)
    from service.stores.choice import choose_store  # noqa: PLC0415  # the same
    from service.stores.load_mark import RedisLoadMarks  # noqa: PLC0415  # the same
    from service.stores.redis import RedisStore  # noqa: PLC0415  # the same

    store = choose_store(settings)
    columns = [*Progress.get_default_columns(), TimeElapsedColumn()]
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("behaviors", total=None)
            counts = await history_loader.load_history(
                file,
                store,
                time_unit=time_unit,
                columns=history_file.BehaviorColumns(**names),
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
                marks=RedisLoadMarks(store.servers, of=settings.key_prefix) if isinstance(store, RedisStore) else None,
            )
    finally:
        await store.close()
    before = f", after {counts.skipped} that were loaded before" if counts.skipped else ""
    print(f"{counts.behaviors} behaviors of {counts.users} users in {counts.seconds:.1f} s{before}")


def _settings(**flags: object) -> Settings:
    try:
        return read_settings(os.environ, **flags)
    except SettingsError as error:
        _stop(*error.problems)


def _loading(store: str | None) -> Settings:
    """Settings for a command that fills Redis from a file."""
    settings = _settings(store=store)
    if settings.store.startswith("memory://"):
        _stop("CTR_STORE: memory:// would end with this command; name a Redis")
    if find_spec("polars") is None:
        _stop("reading a file needs polars: install ctr-scorer[load]")
    return settings


def _stop(*problems: str, code: int = CONFIG_ERROR) -> NoReturn:
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(code)
