"""`ctr-service`: serve a bundle, load histories into the store, or show it all in one go."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
import uvicorn
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from model.bundle.errors import ConfigError
from service.app import create_app, make_store
from service.config import Settings, SettingsError, read_settings
from service.logs import json_log, redirect_stdlib
from service.stores.base import StoreError

KEEP_ALIVE_S = 75  # longer than the 60 s of common load balancers, so that they close first and no request is lost
CONFIG_ERROR, STORE_ERROR = 2, 1  # exit codes

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

StoreFlag = Annotated[str | None, typer.Option(help="redis://... or memory://; CTR_STORE.")]


@cli.command()
def serve(
    *,
    bundle: Annotated[str | None, typer.Option(help="Bundle folder; CTR_BUNDLE.")] = None,
    store: StoreFlag = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; CTR_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; CTR_PORT.")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads; CTR_THREADS.")] = None,
) -> None:
    """Serve POST /score until SIGTERM. Every setting is also an environment variable, CTR_...; flags win."""
    settings = _settings(bundle=bundle, store=store, host=host, port=port, threads=threads)
    log = json_log(settings.log_level)
    redirect_stdlib(log, settings.log_level)
    try:
        app = create_app(settings, log=log)
    except ValueError as error:
        _stop(f"CTR_STORE: {error}")
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
    )


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
    settings = _settings(store=store)
    if settings.store.startswith("memory://"):
        _stop("CTR_STORE: memory:// would end with this command; name a Redis")
    try:
        asyncio.run(_load_history(file, settings, time_unit=time_unit, renamed=column or []))
    except ConfigError as error:
        _stop(str(error))
    except StoreError as error:
        _stop(str(error), code=STORE_ERROR)


@cli.command()
def demo(
    *, once: Annotated[bool, typer.Option("--once", help="End after the table instead of serving on.")] = False
) -> None:
    """Log -> DIN and DIEN -> bundles -> service -> three scored users, from nothing."""
    from service.demo import demo as run_demo  # noqa: PLC0415  # it needs training code, which a serving install has not

    run_demo(once=once)


def main() -> None:
    """Entry point of the console script."""
    cli()


async def _load_history(file: Path, settings: Settings, *, time_unit: Literal["s", "ms"], renamed: list[str]) -> None:
    from service import history_loader  # noqa: PLC0415  # polars, which `serve` need not wait for

    roles = vars(history_loader.DEFAULT_COLUMNS)
    names = dict(pair.split("=", 1) for pair in renamed if "=" in pair)
    if len(names) != len(renamed) or not names.keys() <= roles.keys():
        allowed = f"ROLE=NAME, each once, with a role of {', '.join(roles)}"
        raise ConfigError(file="command line", key="--column", found=", ".join(renamed), allowed=allowed)
    store = make_store(settings)
    columns = [*Progress.get_default_columns(), TimeElapsedColumn()]
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("behaviors", total=None)
            counts = await history_loader.load_history(
                file,
                store,
                time_unit=time_unit,
                columns=history_loader.BehaviorColumns(**names),
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    finally:
        await store.close()
    print(f"{counts.behaviors} behaviors of {counts.users} users in {counts.seconds:.1f} s")


def _settings(**flags: object) -> Settings:
    try:
        return read_settings(os.environ, **flags)
    except SettingsError as error:
        _stop(*error.problems)


def _stop(*problems: str, code: int = CONFIG_ERROR) -> NoReturn:
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(code)
