"""How fast to learn, as a function of the step."""

import math

# Share of all steps over which the learning rate rises.
WARMUP = 0.05


def lr_factor(step: int, total_steps: int) -> float:
    """Share of the peak learning rate at a step: a linear warm-up, then half a cosine down to 0."""
    warmup = max(1, round(WARMUP * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
