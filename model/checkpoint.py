"""Where an unfinished run stands, in one file that is replaced as a whole: a crash leaves the one before.

checkpoint.safetensors   tensors: weights, best weights, optimiser, torch's random state
                         metadata: JSON of the place in the run and of what run it is
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.bundle.errors import ConfigError
from model.data.rows import Split

CHECKPOINT = "checkpoint.safetensors"
LANES = "data.lanes"  # in the identity of a run on shards


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run between two batches. `place` holds plain JSON values; tensors are copied when the snapshot is used."""

    tensors: Mapping[str, Tensor]
    place: Mapping[str, Any]  # Any: JSON

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix` and a dot, without it."""
        return {n.removeprefix(prefix + "."): t for n, t in self.tensors.items() if n.startswith(prefix + ".")}


class Checkpoints:
    """The checkpoint of one run in its folder. `identity` is what must not differ when the run goes on."""

    def __init__(self, folder: Path, *, identity: Mapping[str, Any], resume: bool) -> None:  # Any: JSON
        """Raises ConfigError if `resume` finds a checkpoint that is damaged or of another run."""
        self._path, self._identity = folder / CHECKPOINT, json.loads(json.dumps(identity))
        self.start = self._read() if resume and self._path.is_file() else None

    def write(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint; it is on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        writing = self._path.with_suffix(".writing")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        meta = {"identity": json.dumps(self._identity), "place": json.dumps(snapshot.place)}
        save_file(tensors, writing, metadata=meta)
        with writing.open("rb+") as file:
            os.fsync(file.fileno())
        writing.replace(self._path)

    def remove(self) -> None:
        """The run is finished: there is nothing to go on with."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> Snapshot:
        try:
            with safe_open(self._path, framework="pt") as file:
                meta = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            identity, place = json.loads(meta["identity"]), json.loads(meta["place"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            why = str(error).strip().partition("\n")[0]
            raise ConfigError(file=str(self._path), key="(file)", found=why, allowed="a checkpoint") from error
        for key in sorted({*identity, *self._identity}):
            if identity.get(key) != self._identity.get(key):
                found, now = identity.get(key), self._identity.get(key)
                allowed = f"{now}, as in this run; without --resume it starts from the beginning"
                raise ConfigError(file=str(self._path), key=key, found=found, allowed=allowed)
        return Snapshot(tensors=tensors, place=place)


def lanes_begun(folder: Path) -> int:
    """The lanes of the run that the checkpoint in `folder` is of; 0 if it has none, or if there is no checkpoint."""
    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            return int(json.loads((file.metadata() or {})["identity"]).get(LANES, 0))
    except (OSError, ValueError, KeyError, SafetensorError):
        return 0  # `Checkpoints` says what is wrong with the file


def run_identity(config: Mapping[str, Any], splits: Mapping[str, Split]) -> dict[str, Any]:  # Any: JSON
    """Every setting that shapes the weights, by dotted key, and a digest of each encoded split.

    `config` is the table of `run_folder.config_table`. Where the log lies does not matter, its content does.
    """
    identity: dict[str, Any] = {}
    for section in ("schema", "net", "train"):
        identity |= {f"{section}.{key}": value for key, value in config[section].items()}
    for key in ("train.checkpoint_batches", "train.sharded_rows"):  # they shape none
        identity.pop(key, None)
    return {**identity, **{f"data.{name}": split.digest() for name, split in splits.items()}}
