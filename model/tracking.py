"""What TensorBoard and MLflow are told of a training, by `[track]` of the file.

    begin     every setting by dotted key
    step      after each evaluation: mean loss since the last one, learning rate, samples per second, validation figures
    end       the calibrated figures, report.html; later the bundle that was made of it

`tracking.json` in the run's folder remembers where, so that a resumed run and an export find it again.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from model.bundle.errors import ConfigError
from model.bundle.manifest import MANIFEST
from model.compare import dotted
from model.config import RunConfig
from model.report.page import REPORT_HTML
from model.run_folder import TrainedRun, config_table
from model.terminal import errors
from model.track_config import TrackConfig
from model.training import Step

TRACKING = "tracking.json"
EVENTS = "tensorboard"

Report = Callable[[Step], None]


class Sink(Protocol):
    """One place that is told."""

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Every setting by dotted key (`Any`: JSON)."""

    def figures(self, figures: Mapping[str, float], *, samples: int) -> None:
        """Numbers by name, after so many samples."""

    def tags(self, tags: Mapping[str, str]) -> None:
        """Texts by name."""

    def file(self, path: Path) -> None:
        """A file to keep."""

    def close(self, *, status: str) -> None:
        """No more is told; `status` is FINISHED, KILLED or FAILED."""


class Tracking:
    """A `report` for training that tells `bar` and the sinks. A sink that fails is told no more; training goes on."""

    def __init__(self, sinks: list[Sink], bar: Report, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sinks, self._bar, self._clock = sinks, bar, clock
        self._losses: list[float] = []
        self._since = (clock(), 0)
        self.status = "FINISHED"

    def begin(self, config: RunConfig) -> None:
        """Tell the settings."""
        settings = dotted(config_table(config)) if self._sinks else {}
        self._each(lambda sink: sink.settings(settings))

    def __call__(self, step: Step) -> None:
        """Take note of one batch; tell what the evaluation after it found."""
        self._bar(step)
        if not self._sinks:
            return
        self._losses.append(step.loss)
        if step.evaluation is None:
            return
        now, samples = self._clock(), (step.epoch - 1) * step.total + step.done
        told = {
            "train/loss": sum(self._losses) / len(self._losses),
            "train/learning_rate": step.learning_rate,
            "train/samples_per_s": (samples - self._since[1]) / max(now - self._since[0], 1e-9),
            **{f"valid/{name}": value for name, value in step.evaluation.items()},
        }
        self._tell(told, samples)
        self._losses, self._since = [], (now, samples)

    def finished(self, run: TrainedRun, folder: Path, *, interrupted: bool) -> None:
        """The run is in its folder: its calibrated figures, its report, and what it is."""
        self.status = "KILLED" if interrupted else "FINISHED"
        for split, figures in run.metrics["splits"].items():
            self._tell({f"final/{split}/{name}": value for name, value in figures.items()}, self._since[1])
        parent = run.metrics.get("parent", {})
        tags = {"net": run.config["net"]["kind"], **{f"parent.{k}": str(v) for k, v in parent.items() if v}}
        self.tag(tags)
        if (folder / REPORT_HTML).is_file():
            self._each(lambda sink: sink.file(folder / REPORT_HTML))

    def tag(self, tags: Mapping[str, str]) -> None:
        """Tell texts."""
        self._each(lambda sink: sink.tags(tags))

    def close(self) -> None:
        """No more is told."""
        self._each(lambda sink: sink.close(status=self.status))

    def _tell(self, figures: Mapping[str, float], samples: int) -> None:
        known = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._each(lambda sink: sink.figures(known, samples=samples))

    def _each(self, tell: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                tell(sink)
            except Exception as error:  # whatever a store's client raises must not end a training of hours
                self._sinks.remove(sink)
                why = str(error).strip().partition("\n")[0]
                errors.print(f"no longer tracked: {why}", style="yellow", markup=False, soft_wrap=True)


@contextmanager
def tracking(config: RunConfig, folder: Path, bar: Report, *, resume: bool = False) -> Iterator[Tracking]:
    """Inside, training reports to what this gives. Raises ConfigError if a package is missing or a store refuses."""
    sinks = _opened(config.track, config.name, folder, resume=resume) if config.track else []
    track = Tracking(sinks, bar)
    track.begin(config)
    try:
        yield track
    except BaseException as error:
        track.status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        raise
    finally:
        track.close()


def tell_bundle(run: Path, bundle: Path) -> None:
    """Tell where the run was tracked which bundle was made of it; nothing where it was not.

    The bundle is written already, so a store that cannot be reached is a note. Raises ConfigError for a spoiled file.
    """
    path = run / TRACKING
    if not path.is_file():
        return
    try:
        track = TrackConfig(**json.loads(path.read_text())["track"])
    except (ValueError, LookupError, TypeError) as error:
        allowed = "what `ctr-model train` writes; without the file nobody is told"
        raise ConfigError(file=str(path), key="(file)", found=str(error), allowed=allowed) from error
    try:
        told = Tracking(_opened(track, "", run, resume=True), lambda step: None)
    except ConfigError as error:
        errors.print(f"the bundle is not tracked: {error}", style="yellow", markup=False, soft_wrap=True)
        return
    told.tag({"bundle.version": bundle.name, "bundle.digest": sha256((bundle / MANIFEST).read_bytes()).hexdigest()})
    told.close()


def _opened(track: TrackConfig, name: str, folder: Path, *, resume: bool) -> list[Sink]:
    path = folder / TRACKING
    before = json.loads(path.read_text()) if resume and path.is_file() else {}
    sinks: list[Sink] = []
    remembered: dict[str, Any] = {"track": vars(track)}
    if track.tensorboard:
        from model.tensorboard_sink import TensorBoardSink  # noqa: PLC0415  # its package is an extra

        sinks.append(TensorBoardSink(folder / EVENTS))
    if track.mlflow:
        from model.mlflow_sink import MlflowSink  # noqa: PLC0415  # its package is an extra

        sink = MlflowSink(track.mlflow, track.experiment or name, run_id=before.get("mlflow_run"))
        remembered["mlflow_run"] = sink.run_id
        sinks.append(sink)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(remembered, indent=1) + "\n")
    return sinks
