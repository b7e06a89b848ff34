"""What was seen, and what has to hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.stack.load import RATE
from deploy.stack.trials import Trial

MOST_MEGABYTES = {"service": 450}
UNHURT = ("redis", "consumer", "prometheus")  # whose death costs no request


@dataclass
class Figures:
    """Filled as the stack goes; `broken` is what did not hold."""

    seconds: dict[str, float] = field(default_factory=dict)
    megabytes: dict[str, int] = field(default_factory=dict)
    killed: dict[str, Trial] = field(default_factory=dict)
    rolled: Trial | None = None
    error: str = ""

    @property
    def broken(self) -> list[str]:
        """One line for each."""
        found = [self.error] if self.error else []
        for name, most in MOST_MEGABYTES.items():
            if self.megabytes.get(name, 0) > most:
                found.append(f"image {name} has {self.megabytes[name]} MB, more than {most}")
        for name in UNHURT:
            if name in self.killed and self.killed[name].during.failed:
                found.append(f"{name} killed: {dict(self.killed[name].during.kinds)}")
        if "service" in self.killed:
            found += _lost_too_much(self.killed["service"])
        trials = self.killed | ({"roll": self.rolled} if self.rolled else {})
        found += [f"after {name}: {dict(trial.after.kinds)}" for name, trial in trials.items() if trial.after.failed]
        if self.rolled and self.rolled.during.failed:
            found.append(f"roll: {dict(self.rolled.during.kinds)}")
        return found

    def as_json(self) -> dict[str, object]:
        """All of it, in plain types."""
        trials = {f"kill_{name}": _plain(trial) for name, trial in self.killed.items()}
        rolled = {"roll": _plain(self.rolled)} if self.rolled else {}
        return {
            "stack": "docker-compose.yml",
            "held": not self.broken,
            "megabytes": self.megabytes,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            **trials,
            **rolled,
            "broken": self.broken,
        }


def _lost_too_much(trial: Trial) -> list[str]:
    """Nobody else answers while the one service is away: what is asked in that time may fail, by no connection or 503.

    The load is a Poisson process, hence some to spare.
    """
    other, most = _beside(trial, ("lost", "not_ready")), round(1.2 * RATE * trial.seconds) + 20
    found = [f"service killed: {other}"] if other else []
    if trial.during.failed > most:
        found.append(f"service killed: {trial.during.failed} requests failed, more than {most}")
    return found


def _beside(trial: Trial, allowed: tuple[str, ...]) -> dict[str, int]:
    """Failures of other kinds than those."""
    return {kind: n for kind, n in trial.during.kinds.items() if n and kind not in ("ok", "degraded", *allowed)}


def _plain(trial: Trial) -> Mapping[str, object]:
    return {
        "sent": trial.during.kinds.total(),
        "failed": trial.during.failed,
        **trial.during.kinds,
        "back_s": round(trial.seconds, 1),
        "failed_after": trial.after.failed,
    }
