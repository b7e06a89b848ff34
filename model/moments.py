"""The optimiser's moments, kept beside a run for training that goes on from its net.

They know how large the gradient of each weight is; without them Adam's first steps are as long for a weight that is
settled as for a new one. They take up to twice what the weights take, so they are no part of a bundle: the file says of
which weights they are, and serves whatever has the same, such as the bundle that was made from the run.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.bundle.errors import ConfigError
from model.incremental import Parent
from model.train_config import TrainConfig
from model.training import Training

MOMENTS = "moments.safetensors"


def save_moments(folder: Path, training: Training, config: TrainConfig) -> None:
    """Write what a training has kept of its optimiser, if anything, into its run's folder."""
    if training.moments is None:
        return
    tensors = {name: tensor.cpu().contiguous() for name, tensor in training.moments.items()}
    metadata = {"weights": _digest(training.net.state_dict()), "kind": _kind(config)}
    save_file(tensors, folder / MOMENTS, metadata=metadata)


def with_moments(parent: Parent, folder: Path, config: TrainConfig) -> Parent:
    """The parent with the moments in a run's folder, if `train.keep_moments` asks for them and they are of its weights.

    Raises ConfigError for a file that is none.
    """
    path = folder / MOMENTS
    if not config.keep_moments or not path.is_file():
        return parent
    try:
        with safe_open(path, framework="pt") as file:
            told = {"weights": _digest(parent.weights), "kind": _kind(config)}
            if file.metadata() != told:
                return parent
            moments = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # a file, not a dict
    except SafetensorError as error:
        allowed = "the moments of a run, or no file"
        raise ConfigError(file=str(path), key="(file)", found=str(error), allowed=allowed) from error
    return dataclasses.replace(parent, moments=moments)


def _kind(config: TrainConfig) -> str:
    """Equal for trainings whose optimisers have the same moments."""
    return f"{config.embedding_optimizer}, momentum {config.embedding_beta1 > 0}"


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
