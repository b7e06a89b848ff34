"""Progress on a terminal: of reading a log, and of training, with loss, samples per second and time left."""

import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from model.training import Step


class ReadingBar:
    """A context manager that is also a `Reading`'s `report`: a bar per file, and the time so far."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), DownloadColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._files: dict[str, TaskID] = {}
        self._log = self._progress.add_task("reading the log", total=None)

    def __call__(self, file: str, done: int, total: int | None) -> None:
        """Take note of `done` bytes of a file of `total`, if that is known."""
        if file not in self._files:
            self._files[file] = self._progress.add_task(file, total=total)
        self._progress.update(self._files[file], completed=done)

    def __enter__(self) -> "ReadingBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class PreparationBar(ReadingBar):
    """The `report` of a preparation out of core: a bar per step, in rows."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), TextColumn("{task.completed:,} rows"))
        self._progress.columns = (*columns, TimeElapsedColumn())


class TrainingBar:
    """A context manager that is also `train`'s `report` callback. One bar for all epochs, so the ETA is the run's."""

    def __init__(self, console: Console, *, epochs: int) -> None:
        columns: list[ProgressColumn] = [
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.4f} AUC {task.fields[auc]}"),
            TextColumn("{task.fields[speed]:,.0f} samples/s ETA"),
            TimeRemainingColumn(compact=True),
        ]
        self._progress = Progress(*columns, console=console)
        self._epochs = epochs
        nan = float("nan")
        self._task = self._progress.add_task("", total=None, epoch=1, epochs=epochs, loss=nan, auc="-", speed=0.0)
        self._loss = 0.0
        self._samples = 0
        self._started = time.monotonic()

    @property
    def samples_per_s(self) -> float:
        """Samples per second so far, evaluations included."""
        return self._samples / max(time.monotonic() - self._started, 1e-9)

    def __call__(self, step: Step) -> None:
        """Take note of one batch."""
        samples = (step.epoch - 1) * step.total + step.done
        self._loss = step.loss if not self._samples else 0.98 * self._loss + 0.02 * step.loss
        self._samples = samples
        self._progress.update(
            self._task,
            total=step.total * self._epochs,
            completed=samples,
            epoch=step.epoch,
            loss=self._loss,
            auc="-" if math.isnan(step.auc) else f"{step.auc:.4f}",  # nothing before the first evaluation
            speed=self.samples_per_s,
        )

    def __enter__(self) -> "TrainingBar":
        self._progress.start()
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
