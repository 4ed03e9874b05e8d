"""Learning-rate schedules: functions of the step, so that a resumed run needs nothing but its number."""

import math
from typing import Literal

Schedule = Literal["cosine", "wsd", "constant"]


def learning_rate_factor(
    step: int, num_steps: int, *, schedule: Schedule, warmup_fraction: float, decay_fraction: float = 0.2
) -> float:
    """What the peak learning rate is multiplied by.

    Args:
        step: Steps that are done, from 0.
        num_steps: Steps in all.
        schedule: After a linear warm-up: `cosine`, half a cosine to 0 (Loshchilov & Hutter 2017, arXiv:1608.03983);
            `wsd`, level and then down to 0 as 1 - sqrt (warm-up, stable, decay; Hägele et al. 2024, arXiv:2405.18392,
            who find it at least as good as a cosine, and any step before the decay a place to go on from); `constant`.
        warmup_fraction: Share of the steps over which the rate rises.
        decay_fraction: Share of the steps over which `wsd` falls.

    Returns:
        A factor in [0, 1].
    """
    warmup = max(1, round(warmup_fraction * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))
    if schedule == "wsd":
        num_decay = min(max(1, round(decay_fraction * num_steps)), num_steps - warmup)
        into = step - (num_steps - num_decay)
        return 1.0 if into < 0 else 1 - math.sqrt(into / max(1, num_decay))
    return 1.0
