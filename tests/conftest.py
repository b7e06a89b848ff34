"""What many tests need: a real server that speaks Redis, and an event loop for async tests (anyio's plugin)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from redis import Redis
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from model.config import RunConfig, read_config
from model.data.log import Log, read_log
from model.pipeline import prepare, run_training
from model.publish import publish
from model.run_folder import TrainedRun, load_run, save_run
from service.embedded import EmbeddedRedis
from tests.integration.redis_topologies import RedisCluster, SentinelSetUp

EXAMPLE = Path(__file__).parents[1] / "examples" / "synthetic.toml"
KINDS = ("base", "din", "dien")
SERVERS = ("tests/deploy/", "tests/integration/", "tests/monitoring/")  # start servers and browsers, measure, wait


class ByFile(LoadFileScheduling):
    """Of several processes (`make test`) one runs all that starts servers; any other file is run by one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "servers" if file.startswith(SERVERS) else file


def pytest_configure() -> None:
    """Several processes have COLUMNS=80, which rich's consoles keep from their import on; a test asks for its own."""
    os.environ.pop("COLUMNS", None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """The scheduler of `-n`."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """`make_once(name, make)` has `make(folder)` fill a folder that all processes of this run share."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def folder_of(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests carry `@pytest.mark.anyio` and run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One server for the whole run. A test that pauses or stops it takes `own_redis` instead."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of the shared server, empty."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def cluster_server() -> Iterator[RedisCluster]:
    """Three masters with a replica each, for the whole run."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster_url(cluster_server: RedisCluster) -> str:
    """The URL of that cluster, empty."""
    cluster_server.flush()
    return cluster_server.url


@pytest.fixture(scope="session")
def sentinel_server() -> Iterator[SentinelSetUp]:
    """A master with two replicas and three Sentinels, for the whole run."""
    with SentinelSetUp() as set_up:
        yield set_up


@pytest.fixture
def sentinel_url(sentinel_server: SentinelSetUp) -> str:
    """The URL of those Sentinels, their master empty."""
    sentinel_server.flush()
    return sentinel_server.url


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A server for one test, which may pause, stop and start it."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="session")
def small_config() -> RunConfig:
    """The example configuration with a log of 200 users and one epoch."""
    config = read_config(EXAMPLE)
    synthetic = replace(config.data.synthetic, users=200)
    return replace(config, data=replace(config.data, synthetic=synthetic), train=replace(config.train, epochs=1))


@pytest.fixture(scope="session")
def small_synthetic_log(small_config: RunConfig) -> Log:
    """The log of `small_config`."""
    return read_log(small_config.data, small_config.schema, base=small_config.base)


@pytest.fixture(scope="session")
def train_again(small_config: RunConfig, small_synthetic_log: Log) -> Callable[[str], TrainedRun]:
    """Trains the net of that name on the small log, from scratch."""
    prepared = prepare(small_synthetic_log, small_config)

    def train(kind: str) -> TrainedRun:
        torch.set_num_threads(1)  # sums of two threads are rounded otherwise, and a test before may have set the number
        return run_training(small_synthetic_log, prepared, small_config.with_net(kind))[0]

    return train


@pytest.fixture(scope="session")
def trained_runs(train_again: Callable[[str], TrainedRun], make_once: Callable[..., Path]) -> dict[str, Path]:
    """A run folder per net. Tests read them and leave them as they are."""

    def make(folder: Path) -> None:
        for kind in KINDS:
            save_run(folder / kind, train_again(kind))

    folder = make_once("runs", make)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="session")
def bundles(trained_runs: dict[str, Path], make_once: Callable[..., Path]) -> dict[str, Path]:
    """A real bundle per net. Tests that damage one copy it first."""

    def make(folder: Path) -> None:
        for kind, run in trained_runs.items():
            publish(load_run(run), folder / kind, version="v1", code_version="test")

    folder = make_once("bundles", make)
    return {kind: folder / kind / "v1" for kind in trained_runs}
