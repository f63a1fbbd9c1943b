"""What happens when in a training: which rows make which batch, and how fast to learn; functions of seed and step."""

import math

import numpy as np

# Share of all steps over which the learning rate rises.
WARMUP = 0.05


def epoch_batches(rows: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Shuffle the training rows into batches, the same way for the same seed and epoch.

    Returns:
        (steps, batch_size) row numbers. The rows that fill no batch sit this epoch out: every batch has the same
        size, on which the rank losses depend.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    steps = len(rows) // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size)


def lr_factor(step: int, total_steps: int) -> float:
    """Share of the peak learning rate at a step: a linear warm-up, then half a cosine down to 0."""
    warmup = max(1, round(WARMUP * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
