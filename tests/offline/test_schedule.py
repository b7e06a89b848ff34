"""The learning rate over a run."""

import math

import pytest

from model.schedule import rate_factor
from model.train_config import TrainConfig


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1] + [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]),
        ("exponential", [0.5, 1, 1, 1, 1, 0.3, 0.3, 0.3, 0.3, 0.3]),
    ],
)
def test_schedules_by_hand(schedule: str, factors: list[float]) -> None:
    """Two epochs of five steps, the first two of them warm-up."""
    config = TrainConfig(epochs=2, schedule=schedule, warmup_steps=2, epoch_decay=0.3)

    assert factors == pytest.approx([rate_factor(step, config=config, steps_per_epoch=5) for step in range(10)])
