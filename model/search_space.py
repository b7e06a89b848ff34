"""The settings that a search varies: dotted key -> a range or a list of choices, checked before anything is trained."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from model.bundle.errors import ConfigError
from model.bundle.typed_table import from_table
from model.config import RunConfig
from model.nets import check_net_table, check_settings
from model.train_config import TrainConfig

_KEY = "tune.space"
# Of [train]: what is no setting of the net that comes out, and what is done once for all trials.
_FIXED = {"seed", "device", "checkpoint_batches", "negative_sampling_rate", "sharded_rows", "keep_moments"}
_FORMS = "{ low = ..., high = ... }, with log = true if it spans magnitudes, or { choices = [...] }"

# What mattered most in docs/log.md, at most a factor of a few around the defaults.
USUAL: Mapping[str, Mapping[str, Any]] = {
    "train.learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "train.batch_size": {"choices": [256, 512, 1024, 2048]},
    "train.lookup_l2": {"choices": [0.0, 1e-5, 1e-4, 1e-3]},
    "net.dropout": {"low": 0.0, "high": 0.5},
    "net.head": {"choices": [[200, 80], [128, 64], [64, 32]]},
}


class Trial(Protocol):
    """Of Optuna's trial what is needed here."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number of the range."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """An integer of the range, both ends included."""

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        """One of the choices."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`; integers where the setting is one."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial, key: str) -> float:
        """The trial's value."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Values of any type, as the TOML file has them."""

    choices: tuple[Any, ...]

    def suggest(self, trial: Trial, key: str) -> Any:  # noqa: ANN401  # a TOML value
        """The trial's value. A study stores them as JSON, because it knows no lists."""
        return json.loads(trial.suggest_categorical(key, [json.dumps(choice) for choice in self.choices]))


Space = Mapping[str, Range | Choices]


def read_space(config: RunConfig, *, file: str) -> Space:
    """The space of the configuration, or the usual one. Raises ConfigError naming the key and what is allowed."""
    space = {key: _entry(key, entry, config, file=file) for key, entry in (config.tune.space or USUAL).items()}
    for key, entry in space.items():
        for value in (entry.low, entry.high) if isinstance(entry, Range) else entry.choices:
            whole = isinstance(entry, Range) and entry.whole
            with_settings(config, {key: int(value) if whole else value}, file=file)
    return space


def with_settings(config: RunConfig, chosen: Mapping[str, Any], *, file: str) -> RunConfig:  # Any: TOML values
    """The configuration with the chosen values by dotted key. Raises ConfigError as the training file itself would."""
    train, net = dataclasses.asdict(config.train), dict(config.net)
    for key, value in chosen.items():
        section, _, name = key.partition(".")
        (train if section == "train" else net)[name] = value
    check_settings(net["kind"], {n: v for n, v in net.items() if n != "kind"}, file=file, key=f"{_KEY}.net")
    return dataclasses.replace(config, train=from_table(TrainConfig, train, file=file, key=f"{_KEY}.train"), net=net)


def _entry(key: str, entry: Any, config: RunConfig, *, file: str) -> Range | Choices:  # noqa: ANN401  # a TOML value
    now = _settings(config)
    if key not in now:
        raise ConfigError(file=file, key=f'{_KEY}."{key}"', found=key, allowed="one of " + ", ".join(sorted(now)))
    name = f'{_KEY}."{key}"'
    if not isinstance(entry, Mapping) or not ({"low", "high"} <= entry.keys() or "choices" in entry):
        raise ConfigError(file=file, key=name, found=entry, allowed=_FORMS)
    if "choices" in entry:
        listed = from_table(Choices, entry, file=file, key=name)
        if len(listed.choices) < 2:
            raise ConfigError(file=file, key=f"{name}.choices", found=list(listed.choices), allowed="two or more")
        return listed
    return _range(name, entry, now[key], file=file)


def _range(name: str, entry: Mapping[str, Any], now: object, *, file: str) -> Range:  # Any: TOML values
    found = from_table(_Between, entry, file=file, key=name)
    if isinstance(now, bool) or not isinstance(now, int | float):
        raise ConfigError(file=file, key=name, found=dict(entry), allowed="{ choices = [...] }: it is no number")
    whole = isinstance(now, int)
    if whole and not (found.low.is_integer() and found.high.is_integer()):
        raise ConfigError(file=file, key=name, found=dict(entry), allowed="integers")
    if not found.low < found.high:
        raise ConfigError(file=file, key=f"{name}.high", found=found.high, allowed=f"more than low, {found.low:g}")
    if found.log and found.low <= 0:
        raise ConfigError(file=file, key=f"{name}.low", found=found.low, allowed="above 0, because log = true")
    return Range(low=found.low, high=found.high, log=found.log, whole=whole)


@dataclass(frozen=True, kw_only=True)
class _Between:
    low: float
    high: float
    log: bool = False


def _settings(config: RunConfig) -> dict[str, object]:
    """Every key that may vary, and its value now."""
    train = {f"train.{name}": value for name, value in vars(config.train).items() if name not in _FIXED}
    return train | {f"net.{name}": value for name, value in vars(check_net_table(config.net, file="config")).items()}
