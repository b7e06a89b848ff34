"""One stack: docker-compose.yml as it stands, with a project, ports, a small log and patient settings of its own."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.load_process import free_port
from deploy.stack.docker import ROOT, Docker, StackError, run

# A stack shares its cores with its load and with whatever else the machine does: counts are to say what failed, not
# what was slow.
SETTINGS = {"CTR_DEADLINE_MS": "9000", "CTR_QUEUE_MS": "9000", "CTR_SLOW_MS": "0", "CTR_LOG_LEVEL": "warning"}
SMALLER = {"users = 1500": "users = 200", "epochs = 2": "epochs = 1"}
READY_S = 180.0
_PORTS = ("SERVICE_PORT", "ADMIN_PORT", "PROMETHEUS_PORT")
_LASTING = ("service", "consumer", "prometheus")  # with what they depend on; Grafana is in a profile
_STEP_S = 0.5


class Stack:
    """Whoever calls `up` calls `down` too. `folder` is for the files that it makes, and has to last as long."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self.docker = docker
        self.ports = {name: free_port() for name in _PORTS}
        self._project = f"ctr-stack-{os.getpid()}"
        self._environ = {
            **docker.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "COMPOSE_PROFILES": "",
            "SETTINGS_FILE": str(_settings_file(folder)),
            "TRAINING_FOLDER": str(training_folder(folder)),
        }

    def up(self) -> None:
        """Everything but Grafana, healthy."""
        self.compose("up", "--detach", "--wait", "--no-build", *_LASTING, timeout_s=600)

    def compose(self, *arguments: str, timeout_s: float = 300) -> str:
        """What `docker compose ARGUMENTS` prints, for this project."""
        command = [*self.docker.compose, "--project-name", self._project, *arguments]
        return run(command, environ=self._environ, timeout_s=timeout_s)

    def retrain(self) -> None:
        """Another bundle, as `canary`, from the same log; the guard lets all pass, as a log this small says little."""
        flags = ("--anew", "--auc-tolerance", "1", "--log-loss-tolerance", "9")
        self.compose("--profile", "train", "run", "--rm", "-T", "retrain", *flags, timeout_s=600)

    def down(self) -> None:
        """Containers, networks and volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "30")

    def logs(self) -> str:
        """The end of what every container said."""
        return self.compose("logs", "--tail", "15", "--no-color")

    def container(self, name: str) -> str:
        """The id of a service's one container."""
        return self.compose("ps", "--all", "--quiet", name)

    def url(self, port: str) -> str:
        """Where a published port is, by the name of its variable."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def ask(self, port: str, path: str, body: object = None, *, key: str = "") -> Any:  # noqa: ANN401  # any JSON
        """The JSON of an answer. Raises StackError for any status but 2xx, and for none."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else orjson.dumps(body)
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url(port) + path, data, headers), timeout=30
            ) as answer:
                return orjson.loads(answer.read())
        except (OSError, orjson.JSONDecodeError) as error:
            raise StackError(f"{path}: {error}") from error

    def wait_for_restart(self, name: str, *, restarts: int) -> float:
        """Seconds until a container was restarted more often than `restarts` and is healthy."""
        container = self.container(name)
        return until(
            lambda: (
                int(self.docker.state(container, ".RestartCount")) > restarts
                and self.docker.state(container, ".State.Health.Status") == "healthy"
            ),
            f"{name} is back",
        )


def until(held: Callable[[], bool], what: str, *, seconds: float = READY_S) -> float:
    """Wait until it holds, and say how long that took. Raises StackError."""
    started = time.monotonic()
    while not held():
        if time.monotonic() - started > seconds:
            raise StackError(f"{what}: not within {seconds:.0f} s")
        time.sleep(_STEP_S)
    return time.monotonic() - started


def _settings_file(folder: Path, settings: Mapping[str, str] = SETTINGS) -> Path:
    path = folder / "service.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    return path


def training_folder(folder: Path) -> Path:
    """The synthetic example with fewer users, in a folder that any user may read."""
    text = (ROOT / "examples" / "synthetic.toml").read_text(encoding="utf-8")
    for old, new in SMALLER.items():
        if old not in text:
            raise StackError(f"examples/synthetic.toml has no {old!r} any more")
        text = text.replace(old, new)
    training = folder / "training"
    training.mkdir()
    (training / "synthetic.toml").write_text(text, encoding="utf-8")
    folder.chmod(0o755)
    return training
