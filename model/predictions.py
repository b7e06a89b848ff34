"""The scores of one split, row by row: what every figure of a run is computed from, and what two runs are compared on.

N rows. They are kept in the run as `predictions/<split>.npz`, 40 bytes a row.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model.bundle.errors import ConfigError
from model.bundle.folder import to_npz
from model.bundle.vocabulary import Ids

FOLDER = "predictions"


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One row per impression, in the split's order."""

    label: NDArray[np.float32]  # [N] 0 or 1
    logit: NDArray[np.float32]  # [N] raw, before calibration
    user: Ids  # [N] equal for rows of one user
    timestamp: Ids  # [N] seconds
    length: Ids  # [N] behaviors in the history
    activity: Ids  # [N] impressions of the row's user in the training split

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)

    def take(self, rows: NDArray[np.generic]) -> "Predictions":
        """The rows by number or mask."""
        return Predictions(**{name: array[rows] for name, array in vars(self).items()})

    @property
    def fingerprint(self) -> str:
        """Equal for two runs that scored the same rows in the same order, whatever their scores."""
        digest = hashlib.sha256()
        for array in (self.label, self.user, self.timestamp):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def save_predictions(run: Path, predictions: Mapping[str, Predictions]) -> None:
    """Write the predictions by split into the run's folder, over those that are there."""
    for split, rows in predictions.items():
        path = run / FOLDER / f"{split}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_npz(vars(rows)))


def load_predictions(run: Path, split: str) -> Predictions:
    """Read the predictions of a split. Raises ConfigError naming the file that is missing or wrong."""
    path = run / FOLDER / f"{split}.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return Predictions(**{field.name: archive[field.name] for field in fields(Predictions)})
    except (OSError, ValueError, LookupError, BadZipFile) as error:
        allowed = f"the scores that `ctr-model evaluate --split {split}` writes"
        raise ConfigError(file=str(path), key="(file)", found=str(error), allowed=allowed) from error


def scored_splits(run: Path) -> list[str]:
    """The splits that the run has predictions of."""
    return sorted(path.stem for path in (run / FOLDER).glob("*.npz"))
