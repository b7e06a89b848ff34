"""The weights of a run in its bundle, so that training can go on from a bundle alone.

`weights.safetensors` holds every weight by its name in the net, but for the tables that the graphs keep in files of
their own: those are read from there.
"""

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_npy
from model.bundle.manifest import Half
from model.halves import ExportedHalves
from model.nets import Net

WEIGHTS = "weights.safetensors"


def weights_file(net: Net, exported: ExportedHalves) -> bytes:
    """What `read_weights` needs beside the tables of the exported graphs."""
    state = net.state_dict()
    tables = {name: exported.files[path] for name, path in _tables(exported.user, exported.candidate).items()}
    apart = {n for n, raw in tables.items() if n in state and _same(read_npy({n: raw}, n), state[n])}
    return save({name: tensor.contiguous() for name, tensor in state.items() if name not in apart})


def read_weights(bundle: Bundle) -> dict[str, Tensor]:
    """Every weight of the net by name. Raises BundleError if the bundle was written without them."""
    if WEIGHTS not in bundle.files:
        why = "not in the bundle: an older release or TorchScript; training can go on from the run that it came from"
        raise BundleError(WEIGHTS, why)
    try:
        weights = load(bytes(bundle.files[WEIGHTS]))
    except (SafetensorError, ValueError) as error:
        raise BundleError(WEIGHTS, f"not weights: {error}") from error
    for name, path in _tables(bundle.manifest.user_half, bundle.manifest.candidate_half).items():
        if name not in weights:
            weights[name] = torch.from_numpy(np.array(read_npy(bundle.files, path)))
    return weights


def _tables(*halves: Half) -> dict[str, str]:
    """Weight of the net -> the file that holds it."""
    return {name.removeprefix("net."): path for half in halves for name, path in half.tables.items()}


def _same(table: np.ndarray, weight: Tensor) -> bool:
    return np.array_equal(table, weight.numpy())
