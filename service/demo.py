"""The whole way in one command: log -> DIN and DIEN -> bundles -> Redis -> service -> three scored users.

The offline half runs as the `ctr-model` commands that a user would type; they are printed before they run.
"""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import polars as pl
import uvicorn
from rich.console import Console
from rich.table import Table

from service.app import create_app
from service.config import Settings, read_settings
from service.embedded import EmbeddedRedis, find_server_binary
from service.history_loader import load_history
from service.stores.base import BehaviorStore
from service.stores.choice import choose_store

CONFIG = Path("examples/synthetic.toml")
WORK = Path(".demo")
NETS = ("din", "dien")
USERS, CANDIDATES, SHOWN_BEHAVIORS = 3, 8, 6
READY_TIMEOUT_S = 60.0


def demo(*, once: bool) -> None:
    """Run everything and print a table; then serve on until Ctrl-C, or end if `once`."""
    console = Console()
    if not CONFIG.is_file():
        console.print(f"{CONFIG} is not here: run the demo in the repository's folder", style="red")
        sys.exit(2)
    started = time.monotonic()
    _offline(console)
    with ExitStack() as stack:
        store, where = _store(stack)
        _load(store, console, where=where)
        urls = {net: stack.enter_context(_serving(net, store, port=_port(i))) for i, net in enumerate(NETS)}
        requests = _requests()
        answers = [{net: _post(url, body) for net, url in urls.items()} for body in requests]
        for body, answer in zip(requests, answers, strict=True):
            console.print(_table(body, answer))
        console.print(f"from nothing to scores in {time.monotonic() - started:.0f} s; behaviors in {where}")
        if not once:
            _stay(console, urls, requests[0])


def _offline(console: Console) -> None:
    """Generate, train twice, export twice, with `ctr-model`."""
    version = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    commands = [["synth", str(CONFIG), "--out", str(WORK / "log")]]
    for net in NETS:
        commands.append(["train", str(CONFIG), "--net", net, "--out", str(WORK / "runs" / net)])
        out = str(WORK / "bundles" / net)
        commands.append(["export", str(WORK / "runs" / net), "--out", out, "--version", version])
    for command in commands:
        console.print(f"$ ctr-model {' '.join(command)}", style="bold", highlight=False, soft_wrap=True)
        done = subprocess.run([sys.executable, "-m", "model.cli", *command], check=False)
        if done.returncode:
            sys.exit(done.returncode)


def _store(stack: ExitStack) -> tuple[BehaviorStore | str, str]:
    """A Redis of our own if there is a server to start, by URL; else a store in memory."""
    if find_server_binary() is None:
        return choose_store(read_settings({}, store="memory://")), "memory, for want of a Redis server"
    server = stack.enter_context(EmbeddedRedis())
    return server.url, f"a Redis of our own, {server.url}"


def _load(store: BehaviorStore | str, console: Console, *, where: str) -> None:
    async def load() -> str:
        target = choose_store(read_settings({}, store=store)) if isinstance(store, str) else store
        counts = await load_history(WORK / "log" / "behaviors.parquet", target, time_unit="s")
        if isinstance(store, str):
            await target.close()
        return f"{counts.behaviors:,} behaviors of {counts.users:,} users loaded in {counts.seconds:.1f} s into {where}"

    console.print(asyncio.run(load()), highlight=False)


def _port(i: int) -> int:
    """The usual port and the one above it, or a free one where they are taken."""
    with socket.socket() as tried:
        try:
            tried.bind((Settings().host, Settings().port + i))
        except OSError:
            tried.bind((Settings().host, 0))
        port: int = tried.getsockname()[1]
    return port


@contextmanager
def _serving(net: str, store: BehaviorStore | str, *, port: int) -> Iterator[str]:
    """The service on one bundle, in a thread, until the block ends."""
    bundle = str(WORK / "bundles" / net)
    url = store if isinstance(store, str) else "memory://"
    settings = read_settings({}, bundle=bundle, store=url, port=port, log_level="warning", deadline_ms=1000.0)
    app = create_app(settings, store=None if isinstance(store, str) else store)
    config = uvicorn.Config(app, host=settings.host, port=port, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _wait(f"http://{settings.host}:{port}/readyz", thread)
        yield f"http://{settings.host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _wait(url: str, thread: threading.Thread) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while thread.is_alive() and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer; is the port taken?")


def _requests() -> list[dict[str, Any]]:
    """Three users of the test days, each with candidates from the catalogue and an item that nobody knows."""
    rows = pl.read_parquet(WORK / "log" / "test.parquet").unique("user_id", keep="last", maintain_order=True)
    users = rows.sort(pl.col("hist_item_ids").list.len()).gather_every(max(len(rows) // USERS, 1)).head(USERS)
    items = pl.read_parquet(WORK / "log" / "items.parquet")
    return [
        {
            "user_id": row["user_id"],
            "user": {"segment": row["segment"]},
            "context": {"hour": row["hour"]},
            "candidates": [*_sample(items, seed=row["user_id"]), {"item_id": 999_999_999}],
        }
        for row in users.iter_rows(named=True)
    ]


def _sample(items: pl.DataFrame, *, seed: int) -> list[dict[str, int]]:
    return items.sample(CANDIDATES - 1, seed=seed).select("item_id").to_dicts()


def _post(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{url}/score", orjson.dumps(body), headers), timeout=10) as answer:
        read: dict[str, Any] = orjson.loads(answer.read())
    return read


def _table(body: Mapping[str, Any], answers: Mapping[str, dict[str, Any]]) -> Table:
    """One user: newest behaviors, and every candidate in DIN's order with both nets' pCTR."""
    din, dien = (answers[net] for net in NETS)
    history = pl.read_parquet(WORK / "log" / "behaviors.parquet").filter(pl.col("user_id") == body["user_id"])
    newest = history.sort("timestamp", maintain_order=True).tail(SHOWN_BEHAVIORS)
    told = ", ".join(f"{item} (category {cate})" for item, cate in newest.select("item_id", "cate_id").iter_rows())
    categories = dict(pl.read_parquet(WORK / "log" / "items.parquet").select("item_id", "cate_id").iter_rows())
    title = f"user {body['user_id']}: {din['history_len']} behaviors, the newest {told}"
    table = Table("rank", "item", "category", "DIN", "DIEN", "DIEN rank", "status", title=f"pCTR for {title}")
    other = {row["item_id"]: row for row in dien["scores"]}
    for row in sorted(din["scores"], key=lambda row: row["rank"]):
        item, second = row["item_id"], other[row["item_id"]]
        pctr, place = f"{second['pctr']:.4f}", str(second["rank"])
        table.add_row(
            str(row["rank"]),
            str(item),
            str(categories.get(item, "-")),
            f"{row['pctr']:.4f}",
            pctr,
            place,
            row["status"],
        )
    table.caption = "  ".join(f"{net} ms: {_milliseconds(answers[net])}" for net in NETS)
    return table


def _milliseconds(answer: Mapping[str, Any]) -> str:
    return ", ".join(f"{phase} {ms:.2f}" for phase, ms in answer["timings_ms"].items())


def _stay(console: Console, urls: Mapping[str, str], body: Mapping[str, Any]) -> None:
    short = {**body, "candidates": body["candidates"][:3]}
    curl = f"curl -s {urls[NETS[0]]}/score -H 'Content-Type: application/json' -d '{orjson.dumps(short).decode()}'"
    console.print(f"serving {', '.join(f'{net} on {url}' for net, url in urls.items())} until Ctrl-C")
    console.print(f"the console: {' and '.join(f'{url}/' for url in urls.values())}; in a terminal:", highlight=False)
    console.print(curl, soft_wrap=True, highlight=False, markup=False)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopped")
