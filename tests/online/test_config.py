"""Settings: every key has a default and a description, and a wrong key is named."""

import os

import pytest
from pydantic import ValidationError

from service.config import Settings, SettingsError, read_settings


def problems(environ, **flags) -> list[str]:
    """What is wrong with these."""
    with pytest.raises(SettingsError) as caught:
        read_settings(environ, **flags)
    return caught.value.problems


def test_the_environment_is_read_and_flags_win():
    """CTR_ keys set the fields of that name; a flag that was given goes before, one that is None does not."""
    settings = read_settings({"CTR_PORT": "81", "CTR_HOST": "::1", "PATH": "/bin"}, port=82, host=None)

    assert (settings.port, settings.host, settings.deadline_ms) == (82, "::1", 200.0)


def test_settings_made_in_code_do_not_look_at_the_environment(monkeypatch):
    """Only read_settings reads, and only what it is given."""
    monkeypatch.setitem(os.environ, "CTR_PORT", "81")  # the process environment is what this is about

    assert (Settings().port, read_settings({}).port) == (8080, 8080)


def test_an_unknown_key_is_named():
    """A misspelt key is an error, not a default."""
    (problem,) = problems({"CTR_PROT": "1"})

    assert problem.startswith("CTR_PROT: not a setting, allowed: CTR_ADMIN_HOST, ")


def test_every_wrong_value_is_named():
    """All problems come at once, one line each, with what was found."""
    found = problems({"CTR_PORT": "http", "CTR_DEADLINE_MS": "0", "CTR_LOG_LEVEL": "loud"}, threads=-1)

    keys = sorted(line.split(":")[0] for line in found)
    assert keys == ["CTR_DEADLINE_MS", "CTR_LOG_LEVEL", "CTR_PORT", "CTR_THREADS"]
    assert any("found 'http'" in line for line in found)


def test_a_wrong_store_url_is_not_repeated():
    """The URL may carry a password."""
    (problem,) = problems({"CTR_STORE": "http://user:secret@host"})

    assert problem.startswith(
        "CTR_STORE: must start with one of memory://, redis://, rediss://, unix://, redis+sentinel"
    )
    assert "secret" not in problem


def test_a_budget_below_one_request_is_refused():
    """A queue that can never admit the largest request is a mistake."""
    assert problems({"CTR_QUEUE_ROWS": "100"}) == ["CTR_QUEUE_ROWS must be at least CTR_MAX_CANDIDATES"]


def test_settings_are_frozen():
    """Nobody changes a setting after start-up."""
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]  # that it is frozen is the point


def test_every_setting_is_described():
    """docs/configuration.md is made from the descriptions."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
