"""Where the course of a training is logged besides the run's own folder: the `[track]` section of the file."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """Nothing by default, which costs nothing."""

    tensorboard: bool = False  # event files under `tensorboard/` in the run's folder
    mlflow: str = ""  # the address of an MLflow store: a URL or a folder
    experiment: str = ""  # of MLflow; empty: the file's `name`

    def __bool__(self) -> bool:
        """Whether anything is logged."""
        return self.tensorboard or bool(self.mlflow)
