"""A search over settings by Optuna: each trial trains the net once, and its best validation AUC is the objective.

The study lies in one SQLite file. Trial n draws its settings by a sampler seeded with the run's seed + n, so a search
that was interrupted and goes on tries what it would have tried without the break. The test split is never looked at.
"""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.bundle.errors import ConfigError
from model.checkpoint import run_identity
from model.config import RunConfig
from model.pipeline import Prepared, train_only
from model.run_folder import config_table
from model.search_space import Range, Space, with_settings
from model.training import Step, Training

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"
_NAME = "tune"
_EPOCHS = "epochs"  # what a trial says that was trained to its end, however that was

Report = Callable[[Step], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trial that is over. `auc` is the best validation AUC, NaN where there is none."""

    number: int
    state: str  # complete, pruned or failed
    auc: float
    epochs: float  # until the best evaluation
    chosen: Mapping[str, Any]  # Any: TOML values


class Search:
    """The study in a folder, which is opened again if it is there."""

    def __init__(self, folder: Path, config: RunConfig, space: Space, prepared: Prepared) -> None:
        """Raises ConfigError if the study is of another configuration, space or log, or no study at all."""
        self._optuna = _optuna()
        self._config, self._space, self._prepared = config, space, prepared
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / STUDY
        try:
            self._storage = self._optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
            self._study = self._optuna.create_study(
                storage=self._storage,
                study_name=_NAME,
                direction="maximize",
                pruner=self._pruner(),
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's, of a file that is no database
            why = str(error).partition("\n")[0]
            raise ConfigError(file=str(path), key="(file)", found=why, allowed="a study of `ctr-model tune`") from error
        self._check_identity(path)
        self._requeue()

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def run(self, bar: Callable[[], AbstractContextManager[Report]], told: Callable[[Outcome], None]) -> bool:
        """Try until the configured number of trials is over; False if it was interrupted.

        `bar` gives what a trial's training reports to; `told` hears of every trial that is over.
        """
        while len(done := self.outcomes()) < self._config.tune.trials:
            self._study.sampler = self._optuna.samplers.TPESampler(seed=self._config.train.seed + len(done))
            trial = self._study.ask()
            try:
                with bar() as report:
                    finished = self._try(trial, report)
            except KeyboardInterrupt:
                finished = False
            if not finished:
                self._requeue()
                return False
            told(self._outcome(self._study.trials[trial.number]))
        return True

    def outcomes(self) -> list[Outcome]:
        """The trials that are over, in their order."""
        return [self._outcome(trial) for trial in self._study.trials if _is_over(trial)]

    def best(self) -> Outcome | None:
        """The trial with the highest validation AUC; None before there is one."""
        complete = [outcome for outcome in self.outcomes() if outcome.state == "complete"]
        return max(complete, key=lambda outcome: outcome.auc, default=None)

    def _try(self, trial: "optuna.Trial", report: Report) -> bool:
        """Train by what the trial suggests and tell the study; False if Ctrl-C ended it."""
        chosen = {key: entry.suggest(trial, key) for key, entry in self._space.items()}
        config = with_settings(self._config, chosen, file=STUDY)
        evaluated = 0

        def observe(step: Step) -> None:
            nonlocal evaluated
            report(step)
            if step.evaluation is not None:
                evaluated += 1
                trial.report(step.auc, evaluated)
                if trial.should_prune():
                    raise self._optuna.TrialPruned

        try:
            training = train_only(self._prepared, config, report=observe)
        except self._optuna.TrialPruned:
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
            return True
        if training.interrupted:
            return False
        self._tell(trial, training)
        return True

    def _tell(self, trial: "optuna.Trial", training: Training) -> None:
        trial.set_user_attr(_EPOCHS, training.best_epoch)
        if math.isfinite(training.best_auc):
            self._study.tell(trial, training.best_auc)
        else:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _pruner(self) -> "optuna.pruners.BasePruner":
        pruners, train = self._optuna.pruners, self._config.train
        made: Mapping[str, Callable[[], optuna.pruners.BasePruner]] = {
            "median": lambda: pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
            "hyperband": lambda: pruners.HyperbandPruner(max_resource=train.epochs * train.evaluations_per_epoch),
            "none": pruners.NopPruner,
        }
        return made[self._config.tune.pruner]()

    def _check_identity(self, path: Path) -> None:
        """What the trials share: settings, space and log. `tune.trials` may grow."""
        splits = {"train": self._prepared.train, "valid": self._prepared.valid}
        identity = run_identity(config_table(self._config), splits)
        identity |= {f"tune.space.{key}": asdict(entry) for key, entry in self._space.items()}
        now = json.loads(json.dumps({**identity, "tune.pruner": self._config.tune.pruner}))
        before = self._study.user_attrs.get("identity", now)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                allowed = f"{before.get(key)}, as in the trials that are there; another folder begins anew"
                raise ConfigError(file=str(path), key=key, found=now.get(key), allowed=allowed)
        self._study.set_user_attr("identity", now)

    def _requeue(self) -> None:
        """What was under way when it was interrupted, or when its process died, is tried again by the same settings."""
        for trial in self._study.trials:
            if trial.state.name == "RUNNING":
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                if trial.params.keys() == self._space.keys():
                    self._study.enqueue_trial(trial.params)

    def _outcome(self, trial: "optuna.trial.FrozenTrial") -> Outcome:
        names = {"COMPLETE": "complete", "PRUNED": "pruned"}
        seen = list(trial.intermediate_values.values())
        chosen = {
            key: value if isinstance(self._space[key], Range) else json.loads(value)
            for key, value in trial.params.items()
        }
        return Outcome(
            number=trial.number,
            state=names.get(trial.state.name, "failed"),
            auc=trial.value if trial.value is not None else max(seen, default=float("nan")),
            epochs=trial.user_attrs.get(_EPOCHS, float("nan")),
            chosen=chosen,
        )


def _is_over(trial: "optuna.trial.FrozenTrial") -> bool:
    """Interrupted ones are not: they failed without having been trained to their end."""
    return trial.state.is_finished() and (trial.state.name != "FAIL" or _EPOCHS in trial.user_attrs)


def _optuna() -> Any:  # noqa: ANN401  # a module
    try:
        import optuna  # noqa: PLC0415  # an optional dependency
    except ImportError as error:
        allowed = "an install of ctr-scorer[tune]"
        raise ConfigError(file="ctr-model tune", key="optuna", found="not installed", allowed=allowed) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
