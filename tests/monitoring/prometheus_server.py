"""A real Prometheus on our own configuration and rules, in a hurry: it scrapes and evaluates every second."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.integration.service_process import WAIT_S, ask, free_port, wait_until
from tests.monitoring.rule_files import FOLDER
from tests.programs import program

INTERVAL = "1s"


class Prometheus:
    """Asks it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer; a query that is refused is an error with Prometheus' own words."""
        answer = ask(self._url, f"/api/v1/{path}?{urlencode(parameters)}").body
        assert answer["status"] == "success", answer
        return answer["data"]

    def answers(self, query: str) -> bool:
        """Whether the query has a number for an answer, now."""
        return any(math.isfinite(float(found["value"][1])) for found in self.get("query", query=query)["result"])


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Started on a copy of the configuration in `folder`, with these targets by job; ended with the block."""
    copy = shutil.copytree(FOLDER, folder / "monitoring", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for path in [copy / "prometheus.yml", *copy.glob("rules/*.yml")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"interval: \d+[sm]", f"interval: {INTERVAL}", text), encoding="utf-8")
    for job, target in targets.items():
        (copy / "targets" / f"{job}.yml").write_text(json.dumps([{"targets": [target]}]), encoding="utf-8")
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={copy / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    process = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or ask(url, "/-/ready").status == 200)
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)
