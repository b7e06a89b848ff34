"""Several processes: who is replaced, when, and when the parent gives up."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import orjson
import pytest

from service.config import Settings
from service.drain import Drain
from service.logs import json_log
from service.port import hold_port, shared_socket
from service.process import Place
from service.supervisor import PAUSES_S, QUICK_S, Restarts, Supervisor

WAIT_S = 15


def test_quick_deaths_in_a_row_are_replaced_ever_later_and_then_not_at_all():
    """The pause grows; one more quick death than there are pauses is the end."""
    restarts = Restarts()
    pauses = [restarts.pause(0, lived_s=QUICK_S / 2) for _ in range(len(PAUSES_S) + 1)]

    assert pauses == [*PAUSES_S, None]
    assert list(PAUSES_S) == sorted(PAUSES_S)


def test_a_long_life_is_forgiven_and_places_are_told_apart():
    """A process that lived is replaced at once and its place begins anew; another place's deaths do not count."""
    restarts = Restarts((1, 2))
    pauses = [restarts.pause(place, lived_s=lived) for place, lived in ((0, 0), (1, 0), (0, QUICK_S), (0, 0), (0, 0))]

    assert pauses == [1, 1, 0, 1, 2]


def test_the_drain_is_over_after_its_pause_and_begins_once():
    """Draining from the first signal on, over when the pause has passed; a second signal does not begin it again."""
    now = [0.0]
    drain = Drain(delay_s=2, clock=lambda: now[0])
    seen = [(drain.draining, drain.over)]
    for at in (10.0, 11.0, 12.0):
        now[0] = at
        drain.begin()
        seen.append((drain.draining, drain.over))

    assert seen == [(False, False), (True, False), (True, False), (True, True)]


def test_a_place_listens_at_once_only_if_it_is_the_first():
    """One process answers probes while the bundle loads; any other joins when it can score, so that none is refused."""
    places = [Place(number=n, restarted=again, metrics=Path()) for n, again in ((0, False), (1, False), (0, True))]

    assert [place.joins_when_ready for place in places] == [False, True, True]


def test_a_port_is_shared_only_among_its_own():
    """Processes share the port that is held; somebody who listens there already is an error, willing or not."""
    with hold_port("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with shared_socket("127.0.0.1", port) as first, shared_socket("127.0.0.1", port) as second:
            first.listen()
            second.listen()
            with pytest.raises(OSError, match="in use"):
                hold_port("127.0.0.1", port)


def dies(settings: Settings, *, place: Place, port: int) -> None:
    """A process that dies of its start."""
    os._exit(7)


def hopeless(settings: Settings, *, place: Place, port: int) -> None:
    """A process that says that no other would do better."""
    os._exit(2)


def waits(settings: Settings, *, place: Place, port: int) -> None:
    """A process that serves until SIGTERM, and whose end is clean. It says where it lives."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    Path(settings.bundle, f"{place.number}-{place.restarted}").write_text(str(os.getpid()))
    assert asked.wait(WAIT_S)


def stubborn(settings: Settings, *, place: Place, port: int) -> None:
    """A process that ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(settings.bundle, f"{place.number}-{place.restarted}").write_text(str(os.getpid()))
    time.sleep(WAIT_S)


def supervise(serve, folder, *, sink=None, **settings) -> int:
    """The exit code of a parent of two such processes."""
    chosen = Settings(bundle=str(folder), workers=2, **settings)
    log = json_log("info", sink=sink or io.BytesIO())
    return Supervisor(chosen, serve, port=1, log=log, restarts=Restarts((0, 0))).run()


def test_the_parent_gives_up_after_too_many_quick_deaths(tmp_path):
    """Processes that keep dying end the parent with 1, so that whoever runs it sees; each death is logged."""
    sink = io.BytesIO()
    code = supervise(dies, tmp_path, sink=sink)

    deaths = [e["exit_code"] for e in map(orjson.loads, sink.getvalue().splitlines()) if e["event"] == "process died"]
    assert code == 1
    assert 3 <= len(deaths) <= 5  # three at one place, and up to two at the other
    assert set(deaths) == {7}


def test_a_wrong_setting_is_not_tried_again(tmp_path):
    """A process that ends with the code for a wrong setting ends the parent with that code."""
    assert supervise(hopeless, tmp_path) == 2


@pytest.mark.parametrize(("serve", "code"), [(waits, 0), (stubborn, 1)])
def test_a_killed_process_is_replaced_and_sigterm_ends_all(tmp_path, monkeypatch, serve, code):
    """The replacement takes the place of the dead; on SIGTERM all are asked to end, and killed if they do not."""
    monkeypatch.setattr("service.supervisor.END_S", 0.2 if serve is stubborn else WAIT_S)  # nobody else sets it
    pids = {}

    def kill_then_end() -> None:
        pids["dead"] = pid_in(tmp_path / "1-False")
        os.kill(pids["dead"], signal.SIGKILL)
        pids["living"] = [pid_in(tmp_path / "0-False"), pid_in(tmp_path / "1-True")]
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill_then_end)
    killer.start()
    ended = supervise(serve, tmp_path, drain_s=0)
    killer.join()

    assert ended == code
    assert not any(Path(f"/proc/{pid}").exists() for pid in [pids["dead"], *pids["living"]])


def pid_in(path: Path) -> int:
    """What a process wrote, once it has."""
    until = time.monotonic() + WAIT_S
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(path.read_text())
