"""Learning-rate schedules: a factor per step, nothing remembered."""

import math

from model.train_config import TrainConfig


def rate_factor(step: int, *, config: TrainConfig, steps_per_epoch: int) -> float:
    """What the learning rate is multiplied by in `step`, counted from 0.

    Warm-up rises linearly, the first step taking 1 / warmup_steps. `linear` and `cosine` then fall and reach 0 just
    after the last step of the last epoch; `exponential` is epoch_decay ** (whole epochs passed), as in the public DIEN
    code (`train.py`, lr *= 0.5 per epoch).
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    falling = max(config.epochs * steps_per_epoch - config.warmup_steps, 1)
    gone = min((step - config.warmup_steps) / falling, 1.0)
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - gone
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * gone))
        case "exponential":
            return float(config.epoch_decay ** (step // steps_per_epoch))
