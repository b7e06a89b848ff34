"""The story: build, up, watched, killed, rolled, down."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson

from deploy.stack.compose import Stack
from deploy.stack.docker import TARGETS, Docker, LentWheels, StackError
from deploy.stack.figures import Figures
from deploy.stack.trials import history, kill, roll
from deploy.stack.watched import wait_until_watched

VICTIMS = ("redis", "consumer", "prometheus", "service")
USER = 17


def main(environ: Mapping[str, str]) -> int:
    """Do it all; 0 if everything held."""
    parser = argparse.ArgumentParser(prog="python -m deploy.stack", description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="take the images that are there")
    build = not parser.parse_args().no_build
    figures = Figures()
    try:
        docker = Docker(environ)
        if build:
            _build(docker, figures, wheels=environ.get("PIP_FIND_LINKS", ""))
        figures.megabytes = {target: docker.megabytes(target) for target in TARGETS}
        with tempfile.TemporaryDirectory() as folder:
            _run(docker, figures, Path(folder))
    except StackError as error:
        figures.error = str(error)
    print(orjson.dumps(figures.as_json()).decode())
    return 0 if not figures.broken else 1


def _build(docker: Docker, figures: Figures, *, wheels: str) -> None:
    with LentWheels(wheels):
        for target in TARGETS:
            with _timed(figures, f"build_{target}"):
                docker.build(target)


def _run(docker: Docker, figures: Figures, folder: Path) -> None:
    stack = Stack(docker, folder)
    try:
        with _timed(figures, "up"):
            stack.up()
        with _timed(figures, "watched"):
            wait_until_watched(stack)
        _kill_each(stack, figures)
        with _timed(figures, "retrain"):
            stack.retrain()
        with _timed(figures, "roll"):
            figures.rolled = roll(stack)
        _tell(f"rolled: {dict(figures.rolled.during.kinds)}, {dict(figures.rolled.during.versions)}")
    except StackError:
        _tell(stack.logs())
        raise
    finally:
        with _timed(figures, "down"):
            stack.down()


def _kill_each(stack: Stack, figures: Figures) -> None:
    before = history(stack, USER)
    for name in VICTIMS:
        with _timed(figures, f"kill_{name}"):
            figures.killed[name] = kill(stack, name)
        _tell(f"{name} killed: {dict(figures.killed[name].during.kinds)}")
    if (after := history(stack, USER)) != before:
        raise StackError(f"user {USER} had {before} behaviors before Redis was killed and has {after}")


@contextmanager
def _timed(figures: Figures, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    figures.seconds[name] = time.monotonic() - started
    _tell(f"{name}: {figures.seconds[name]:.1f} s")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(os.environ))
