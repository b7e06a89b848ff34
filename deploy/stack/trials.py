"""What is done to the stack under load: a container killed, a bundle rolled."""

import time
from dataclasses import dataclass

from deploy.stack.compose import Stack, until
from deploy.stack.docker import StackError
from deploy.stack.load import Load, requests, steady

_BEFORE_S, _AFTER_S = 2.0, 4.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A load while something happened, and one afterwards. `seconds` from then until all was well again."""

    seconds: float
    during: Load
    after: Load


def kill(stack: Stack, name: str) -> Trial:
    """SIGKILL a container under load and wait until the engine has brought it back."""
    wanted = requests(stack.url("SERVICE_PORT"))
    container = stack.container(name)
    restarts = int(stack.docker.state(container, ".RestartCount"))
    with Load(wanted) as during:
        time.sleep(_BEFORE_S)
        stack.docker.kill(container)
        seconds = stack.wait_for_restart(name, restarts=restarts)
    return Trial(seconds=seconds, during=during, after=steady(wanted, seconds=_AFTER_S))


def roll(stack: Stack) -> Trial:
    """Move `stable` to the version that `canary` names, by /admin, under load, and wait until it alone answers."""
    wanted = requests(stack.url("SERVICE_PORT"))
    key = stack.compose("exec", "-T", "service", "cat", "/secrets/admin_key")
    version = stack.ask("ADMIN_PORT", "/admin/bundles", key=key)["pointers"]["canary"]
    with Load(wanted) as during:
        time.sleep(_BEFORE_S)
        stack.ask("ADMIN_PORT", "/admin/promote", {"version": version, "pointer": "stable"}, key=key)
        seconds = until(lambda: bool(during.versions[version]), f"{version} answers")
        time.sleep(_AFTER_S)
    after = steady(wanted, seconds=_AFTER_S)
    if len(during.versions) != 2 or set(after.versions) != {version}:
        raise StackError(f"rolled to {version}, but there answered {during.versions}, then {after.versions}")
    return Trial(seconds=seconds, during=during, after=after)


def history(stack: Stack, user: int) -> int:
    """Behaviors that a score of a user is made from. Raises StackError for a degraded one."""
    answer = stack.ask("SERVICE_PORT", "/score", {"user_id": user, "candidates": [{"item_id": 1}]})
    if answer["degraded"] != "none":
        raise StackError(f"scored with degraded: {answer['degraded']}")
    return int(answer["history_len"])
