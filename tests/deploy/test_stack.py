"""deploy/stack without an engine: what counts as held, how a load is counted, and that it fits docker-compose.yml."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from deploy.stack.__main__ import VICTIMS
from deploy.stack.compose import SETTINGS, training_folder
from deploy.stack.figures import UNHURT, Figures
from deploy.stack.load import USERS, Load, steady
from deploy.stack.trials import Trial
from model.config import read_config
from service.bench.requests import Requests
from service.bench.target import Served, Target
from service.config import read_settings
from tests.deploy.manifests import ROOT


def requests(url: str = "http://127.0.0.1:1") -> Requests:
    """Requests for nobody in particular."""
    served = Served(name="ctr", version="v1", item_key="item_id", items=[1, 2, 3])
    return Requests(target=Target(url=url), served=served, users=USERS, candidates=2)


def load(**kinds: int) -> Load:
    """A load of which that came."""
    made = Load(requests())
    made.kinds = Counter(kinds)
    return made


def killed(name: str, **kinds: int) -> Figures:
    """What is seen when that came of a load while `name` was killed, and nothing failed afterwards."""
    return Figures(killed={name: Trial(seconds=1, during=load(ok=5, **kinds), after=load(ok=5))})


@pytest.mark.parametrize("kind", ["lost", "late", "refused", "other", "not_ready"])
@pytest.mark.parametrize("name", UNHURT)
def test_a_failed_request_breaks_it(name: str, kind: str):
    """Redis, the consumer and Prometheus may die without anybody noticing."""
    assert killed(name, **{kind: 1}).broken == [f"{name} killed: {{'ok': 5, '{kind}': 1}}"]
    assert killed(name).as_json()["held"] is True


def test_degraded_scores_are_scores():
    """Without Redis a request is scored without its history."""
    assert killed("redis", degraded=3).broken == []


def test_a_killed_service_may_lose_what_it_held():
    """Connections that end and answers of 503 while it loads, and nothing else."""
    assert killed("service", lost=9, not_ready=2).broken == []
    assert killed("service", lost=9, other=1).broken == ["service killed: {'other': 1}"]


def test_a_killed_service_loses_no_more_than_what_is_asked_while_it_is_away():
    """20 requests a second for one second, and some to spare."""
    assert killed("service", lost=40, not_ready=4).broken == []
    assert killed("service", lost=40, not_ready=5).broken == ["service killed: 45 requests failed, more than 44"]


def test_afterwards_nothing_fails():
    """Whatever was killed or rolled."""
    trial = Trial(seconds=1, during=load(ok=5), after=load(ok=5, lost=1))
    assert Figures(killed={"service": trial}).broken == ["after service: {'ok': 5, 'lost': 1}"]
    assert Figures(rolled=trial).broken == ["after roll: {'ok': 5, 'lost': 1}"]


def test_a_roll_fails_nobody():
    """Not even with a refusal."""
    trial = Trial(seconds=1, during=load(ok=5, refused=1), after=load(ok=5))
    assert Figures(rolled=trial).broken == ["roll: {'ok': 5, 'refused': 1}"]


def test_a_large_image_and_an_error_break_it():
    """450 MB for the service."""
    found = Figures(megabytes={"service": 451}, error="no engine")
    assert found.broken == ["no engine", "image service has 451 MB, more than 450"]
    assert found.as_json()["held"] is False


def test_what_is_killed_comes_back():
    """The engine restarts it; everything that lasts is killed but Grafana, of which there may be no image."""
    containers = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    lasting = {name for name, each in containers.items() if each["restart"] == "unless-stopped"}
    assert set(VICTIMS) == lasting - {"grafana", "service-gpu"}


def test_its_settings_and_its_log_are_real(tmp_path: Path):
    """The service takes the settings, the trainer the training file, which differs from the example in what it says."""
    folder = training_folder(tmp_path)
    assert read_settings({"CTR_STORE": "memory://", **SETTINGS}).queue_ms == 9000
    assert read_config(folder / "synthetic.toml").name == "synthetic"
    assert tomllib.loads((folder / "synthetic.toml").read_text())["data"]["synthetic"]["users"] == USERS[-1]


class _Service(BaseHTTPRequestHandler):
    """Scores everybody but every fourth user, for whom it is not ready."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        ready = int(body[11 : body.index(b",")]) % 4
        answer = b'{"bundle_version":"v1","degraded":"none"}' if ready else b"{}"
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Such a service."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_load_counts_every_request(url: str):
    """By what came of it, and by the bundle that answered."""
    seen = steady(requests(url), seconds=0.1)  # a round that has begun is finished
    assert seen.kinds.keys() == {"ok", "not_ready"}
    assert seen.failed == seen.kinds["not_ready"]
    assert seen.versions == {"v1": seen.kinds["ok"]}


def test_a_load_on_nobody_is_lost():
    """Each of its requests."""
    seen = steady(requests(), seconds=0.1)
    assert seen.kinds.keys() == {"lost"}
    assert seen.failed == seen.kinds.total() > 0
