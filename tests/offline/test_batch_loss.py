"""Devices, precisions and compilation: what is not there is refused, what is there trains the same net."""

import math
import shutil

import numpy as np
import pytest
import torch

from model.batch_loss import BatchLoss, adapted, training_device
from model.bundle.errors import ConfigError
from model.data.batches import EncodedSplit, encode_split
from model.data.log import Log
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import Net, build_net
from model.optimizer import sparse_gradients
from model.run_folder import vocabulary_sizes
from model.train_config import TrainConfig


@pytest.fixture(scope="module")
def split(small_log: Log) -> EncodedSplit:
    return encode_split(small_log.valid, fit_encoder(small_log, synthetic_schema()))


@pytest.fixture(params=[("dien", "prelu"), ("din", "dice"), ("pnn", "dice")])
def net(small_log: Log, request: pytest.FixtureRequest) -> Net:
    sizes = vocabulary_sizes(fit_encoder(small_log, synthetic_schema()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        kind, activation = request.param
        table = {"kind": kind, "head": [16], "activation": activation}
        return build_net(table, synthetic_schema(), sizes, file="test").train()


def loss_and_gradient(net: Net, split: EncodedSplit, config: TrainConfig) -> tuple[float, float]:
    """The loss of 64 rows and the length of the dense weights' gradient."""
    with sparse_gradients(net), adapted(net, config):
        loss = BatchLoss(net, config, sampler=None)(split.take(np.arange(64)), np.random.default_rng(0))
        loss.backward()
        norms = [float(p.grad.norm()) for p in net.parameters() if p.grad is not None and not p.grad.is_sparse]
    return float(loss.detach()), math.hypot(*norms)


def test_bfloat16_gives_nearly_the_same(net: Net, split: EncodedSplit) -> None:
    """Eight bits of mantissa: the loss and the gradient to a few percent, and not the very same numbers."""
    exact = loss_and_gradient(net, split, TrainConfig())
    net.zero_grad()

    half = loss_and_gradient(net, split, TrainConfig(precision="bfloat16"))

    assert half == pytest.approx(exact, rel=0.05)
    assert half != exact


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("net", [("base", "prelu")], indirect=True)  # compiles in seconds
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it does itself
def test_compiled_gives_the_same(net: Net, split: EncodedSplit) -> None:
    """torch.compile changes neither the loss nor the gradient, and leaves nothing behind on the net."""
    before = {name: set(vars(module)) for name, module in net.named_modules()}
    exact = loss_and_gradient(net, split, TrainConfig())
    net.zero_grad()

    compiled = loss_and_gradient(net, split, TrainConfig(compile=True))

    assert compiled == pytest.approx(exact, rel=1e-4)
    assert before == {name: set(vars(module)) for name, module in net.named_modules()}


@pytest.mark.parametrize("device", ["cuda:99", "tpu", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    """With the setting's name and what is there."""
    with pytest.raises(ConfigError, match=r"train\.device: found '.*', allowed: here one of cpu"):
        training_device(TrainConfig(device=device))
