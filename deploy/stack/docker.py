"""The Docker engine, by its own command lines."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = ("service", "trainer")
_TAIL = 25  # lines of a command that failed


class StackError(Exception):
    """Something of the stack is not as it has to be; the message says what, with the end of a command's output."""


def run(command: Sequence[str], *, environ: Mapping[str, str], timeout_s: float = 300) -> str:
    """What a command prints, without the white space around it. Raises StackError if it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{' '.join(command[:6])}: {error}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-_TAIL:])
        raise StackError(f"{' '.join(command[:6])} ended with {done.returncode}:\n{tail}")
    return done.stdout.strip()


class Docker:
    """An engine that answers. Raises StackError if there is none, or no Compose."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = {**environ, "DOCKER_BUILDKIT": "1"}
        self.ask("info")
        plugin = subprocess.run(["docker", "compose", "version"], env=self.environ, capture_output=True, check=False)
        self.compose = ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]
        if plugin.returncode and shutil.which("docker-compose", path=self.environ.get("PATH")) is None:
            raise StackError("neither `docker compose` nor `docker-compose` is there")

    def ask(self, *arguments: str, timeout_s: float = 60) -> str:
        """What `docker ARGUMENTS` prints."""
        return run(["docker", *arguments], environ=self.environ, timeout_s=timeout_s)

    def build(self, target: str) -> None:
        """Build a target of the Dockerfile under the name that docker-compose.yml has."""
        self.ask("build", "--target", target, "--tag", f"ctr-scorer:{target}", ".", timeout_s=1200)

    def megabytes(self, target: str) -> int:
        """Size of an image, unpacked."""
        return round(int(self.ask("image", "inspect", "--format", "{{.Size}}", f"ctr-scorer:{target}")) / 1e6)

    def state(self, container: str, what: str) -> str:
        """A field of `docker inspect`."""
        return self.ask("inspect", "--format", f"{{{{{what}}}}}", container)

    def kill(self, container: str) -> None:
        """SIGKILL from outside, as the kernel does it when memory runs out; `docker kill` would forbid the restart.

        A container that sees the processes of the engine's machine does it, so that this needs no rights there.
        """
        process = int(self.state(container, ".State.Pid"))
        helper = ["--rm", "--pid", "host", "--network", "none", "--user", "0", "--entrypoint", "python"]
        self.ask("run", *helper, "ctr-scorer:service", "-c", f"import os; os.kill({process}, 9)")


class LentWheels:
    """Wheels of torch from `folder` in deploy/wheels for as long as the block lasts, unless there are some."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None
        self._lent: list[Path] = []

    def __enter__(self) -> None:
        place = ROOT / "deploy" / "wheels"
        if self._folder is None or any(place.glob("torch-*.whl")):
            return
        for wheel in self._folder.glob("torch-*+cpu-*.whl"):
            try:
                os.link(wheel, place / wheel.name)
            except OSError:  # another file system
                shutil.copyfile(wheel, place / wheel.name)
            self._lent.append(place / wheel.name)

    def __exit__(self, *_: object) -> None:
        for wheel in self._lent:
            wheel.unlink(missing_ok=True)
