"""Event files for TensorBoard. The writer is tensorboardX, which needs neither TensorBoard nor torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.bundle.errors import ConfigError


class TensorBoardSink:
    """Writes into a folder that `tensorboard --logdir` shows; several writers of one folder add up."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError without the package."""
        try:
            from tensorboardX import SummaryWriter  # noqa: PLC0415  # an optional dependency
        except ImportError as error:
            allowed = "an install of ctr-scorer[tensorboard]"
            raise ConfigError(
                file="config", key="track.tensorboard", found="no tensorboardX", allowed=allowed
            ) from error
        # The library names a file by the second, and a second writer would empty it.
        number = len(list(folder.iterdir())) if folder.is_dir() else 0
        self._writer: Any = SummaryWriter(str(folder), filename_suffix=f".{number}")  # Any: it has no types

    def settings(self, settings: Mapping[str, Any]) -> None:
        """A Markdown table."""
        rows = "\n".join(f"| {key} | {json.dumps(value)} |" for key, value in settings.items())
        self._writer.add_text("settings", f"| key | value |\n|---|---|\n{rows}")

    def figures(self, figures: Mapping[str, float], *, samples: int) -> None:
        """Scalars, over samples."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, samples)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Texts."""
        for name, value in tags.items():
            self._writer.add_text(name, value)

    def file(self, path: Path) -> None:
        """TensorBoard keeps none; where it is."""
        self._writer.add_text("report", path.name)

    def close(self, *, status: str) -> None:
        """Write what is left."""
        self._writer.add_text("status", status)
        self._writer.close()
