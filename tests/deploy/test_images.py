"""What the images are built from, and the two small programs that containers run beside the service."""

import re
import stat
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement

from deploy.healthy import healthy
from deploy.init import MADE, VOLUMES, prepare
from tests.deploy.manifests import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOCKS = sorted((ROOT / "deploy" / "locks").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("signing", "object-store", "tracing")


def locked(name: str) -> dict[str, str]:
    """Package -> version of a lock."""
    text = (ROOT / "deploy" / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ \\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_name_hashes_and_no_host(lock: Path):
    """Every package has a version and a hash; where it comes from is the installer's affair."""
    text = lock.read_text(encoding="utf-8")
    packages = [entry for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE) if entry[:1].isalpha()]
    assert packages
    assert all(re.match(r"[a-z0-9.-]+==[^ ]+ ", entry) and "--hash=sha256:" in entry for entry in packages)
    assert re.findall(r"://|--index|--find-links|--extra", text) == []


@pytest.mark.parametrize(("name", "extras"), [("service", EXTRAS), ("trainer", (*EXTRAS, "train"))])
def test_locks_hold_what_the_project_asks_for(name: str, extras: tuple[str, ...]):
    """`deploy/locks/write` was run after a change of the dependencies."""
    found = locked(name) | locked("torch-cpu")
    asked = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    wanted = [Requirement(one) for one in asked]
    assert [str(one) for one in wanted if not one.specifier.contains(found.get(one.name, "0"), prereleases=True)] == []


def test_the_serving_images_have_no_torch_and_no_polars():
    """Nor both builds of ONNX Runtime, which write the same folder."""
    assert {"torch", "polars"} & {*locked("service"), *locked("service-gpu")} == set()
    assert "onnxruntime" in locked("service")
    assert {"onnxruntime", "onnxruntime-gpu"} & locked("service-gpu").keys() == {"onnxruntime-gpu"}


def test_both_builds_of_torch_go_with_the_trainer_s_lock():
    """One version of torch, and of every package that both locks name."""
    cuda, rest = locked("torch-cuda"), locked("trainer")
    assert locked("torch-cpu")["torch"] == f"{cuda['torch']}+cpu"
    assert {name for name in cuda.keys() & rest.keys() if cuda[name] != rest[name]} == set()


def test_nothing_is_installed_without_a_hash():
    """Only our own wheel, from a file, without asking anybody."""
    commands = re.findall(r"pip (?:--python \S+ )?install ([^\n]*)", DOCKERFILE)
    assert len(commands) == 7
    assert [one for one in commands if "--require-hashes" not in one and "--no-index" not in one] == []


def test_images_end_as_the_user():
    """Every target comes from a stage that ends with the fixed user; what is copied in later is not run as root."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    parents = {name: parent for parent, name in (stage.splitlines()[0].split(" AS ") for stage in stages)}
    bodies = {stage.splitlines()[0].split(" AS ")[1]: stage for stage in stages}
    assert "USER 10001:10001" in bodies["runtime"]
    assert (parents["service"], parents["service-gpu"], parents["trainer"]) == ("serving", "serving", "runtime")
    assert [name for name in ("serving", "service", "service-gpu", "trainer") if "USER " in bodies[name]] == []
    assert parents["serving"] == "runtime"


def mode(path: Path) -> int:
    """The rights of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What `init` finds in its container."""
    (tmp_path / "secrets").mkdir()
    for volume in VOLUMES:
        (tmp_path / "volumes" / volume).mkdir(parents=True)
    return tmp_path


def test_init_makes_secrets_for_one_reader_each(root: Path):
    """Nobody but the owner reads a file, and it has its owner before it has its name; every volume has its own too."""
    owners: dict[str, int] = {}
    prepare(root, lambda path, user: owners.update({path.name: user}))
    made = {path.name: path.read_text().strip() for path in (root / "secrets").iterdir()}

    assert made.keys() == {*MADE, "redis_password.conf", "store_url"}
    assert {mode(path) for path in (root / "secrets").iterdir()} == {0o400}
    assert owners == {**VOLUMES, **{f".{name}": user for name, user in MADE.items()}} | {
        ".redis_password.conf": 999,
        ".store_url": 10001,
    }
    assert made["redis_password.conf"] == f'requirepass "{made["store_password"]}"'
    assert made["store_url"] == f"redis://:{made['store_password']}@redis:6379/0"
    assert len({made[name] for name in MADE}) == len(MADE)


def test_init_keeps_what_is_there(root: Path):
    """A second start changes nothing; an own password is taken, and escaped in the URL."""
    (root / "secrets" / "store_password").write_text("p@ss/word\n")
    prepare(root, lambda path, user: None)
    first = {path.name: path.read_text() for path in (root / "secrets").iterdir()}
    prepare(root, lambda path, user: None)

    assert first["store_url"] == "redis://:p%40ss%2Fword@redis:6379/0\n"
    assert {path.name: path.read_text() for path in (root / "secrets").iterdir()} == first


@pytest.mark.parametrize("wrong", ['some"quote', "back\\slash", "two words", "short", ""])
def test_init_refuses_a_password_that_would_not_arrive(root: Path, wrong: str):
    """Rather than a line of Redis' configuration that means something else. What was found is not repeated."""
    (root / "secrets" / "store_password").write_text(wrong)
    with pytest.raises(SystemExit, match="store_password: must hold") as caught:
        prepare(root, lambda path, user: None)
    assert not wrong or wrong not in str(caught.value).partition("must hold")[2]


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers 200 on /readyz and 503 elsewhere."""
    with HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_healthy_is_a_200(port: int):
    """Any other status, or nobody there, is not."""
    assert healthy(port, "/readyz")
    assert not healthy(port, "/livez")


def test_nobody_is_not_healthy(port: int):
    """A port that was closed again."""
    with HTTPServer(("127.0.0.1", 0), _Answer) as server:
        closed = server.server_port
    assert not healthy(closed, "/readyz")
