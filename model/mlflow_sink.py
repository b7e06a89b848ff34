"""A run in an MLflow store, by its client alone: no global state of the library is touched."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.bundle.errors import ConfigError

_PARAMS = 100  # in one request, by MLflow's API
_LONGEST = 500  # characters of a value: every store takes so many


class MlflowSink:
    """One MLflow run; `run_id` names one that goes on."""

    def __init__(self, uri: str, experiment: str, *, run_id: str | None = None) -> None:
        """Raises ConfigError without the package, or if the store cannot be used."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report home
        try:
            import mlflow  # noqa: PLC0415  # an optional dependency
            from mlflow.entities import Metric, Param  # noqa: PLC0415  # an optional dependency
        except ImportError as error:
            allowed = "an install of ctr-scorer[mlflow]"
            raise ConfigError(file="config", key="track.mlflow", found="no mlflow", allowed=allowed) from error
        self._metric, self._param = Metric, Param
        try:
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            self.run_id = str(run_id or self._created(experiment))
            self._client.update_run(self.run_id, status="RUNNING")
        except Exception as error:  # MLflow's own, a database's, a connection's
            why = str(error).strip().partition("\n")[0]
            raise ConfigError(file="config", key="track.mlflow", found=why, allowed="an MLflow store") from error

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Parameters. MLflow lets none change, so a run that goes on keeps its own."""
        told = self._client.get_run(self.run_id).data.params
        left = [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in settings.items() if k not in told]
        for start in range(0, len(left), _PARAMS):
            params = [self._param(key, value[:_LONGEST]) for key, value in left[start : start + _PARAMS]]
            self._client.log_batch(self.run_id, params=params)

    def figures(self, figures: Mapping[str, float], *, samples: int) -> None:
        """Metrics, over samples."""
        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[self._metric(n, v, now, samples) for n, v in figures.items()])

    def tags(self, tags: Mapping[str, str]) -> None:
        """Tags."""
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value)

    def file(self, path: Path) -> None:
        """An artifact."""
        self._client.log_artifact(self.run_id, str(path))

    def close(self, *, status: str) -> None:
        """The run is over."""
        self._client.set_terminated(self.run_id, status=status)

    def _created(self, experiment: str) -> str:
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        return str(self._client.create_run(number).info.run_id)
