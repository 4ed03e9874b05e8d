"""Alarms: what the monitors say is wrong, the likely cause, and what to do about it."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from toolkit.console import log
from toolkit.errors import TrainingError


@dataclass(frozen=True)
class Limit:
    """Where a monitor is in order: from `low` to `high`; None is no limit."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Alarm:
    """One trouble, when it was found."""

    kind: str
    step: int
    message: str


@dataclass(frozen=True)
class Trouble:
    """What lies beyond a limit.

    Attributes:
        kind: Its name in alarms.jsonl.
        advice: Likely cause and remedy.
        patience: Checks in a row beyond the limit before it counts.
        is_collapse: `on_collapse` is about it.
    """

    kind: str
    advice: str
    patience: int = 3
    is_collapse: bool = False


DEFAULT_LIMITS: dict[str, Limit] = {
    # Where negative cosine without stop-gradient collapses it falls to 0.03 within 100 steps. Real pretrainings were
    # never below 0.25 with a contrastive loss, and start there too; pooled vectors of masked modelling come to 0.11.
    "embedding_std": Limit(low=0.1),
    # Absolute: a line or a simple curve has about the same rank at any width. Views that share one trait alone come to
    # 1.2 without a decorrelating term and to 2.5 under SimCLR; healthy ones have 5 in a batch of 8, 30 to 110 in 128.
    "effective_rank": Limit(low=3.0),
    # With a million weights, Adam's eps of 1e-8 outweighs their gradients below 1e-5.
    "grad_norm": Limit(low=1e-6),
    "data_wait": Limit(high=0.3),
    "padding": Limit(high=0.5),
}
"""Of contrastive embeddings of at least 8 samples. A method's own `alarm_limits` go before these; `Limit()` is none."""

TROUBLES: dict[tuple[str, str], Trouble] = {
    ("embedding_std", "low"): Trouble(
        "collapse",
        "all samples get nearly the same embedding; mostly the rate is too high: lower training.lr or raise "
        "training.warmup_fraction; a contrastive method also gains by a larger training.batch_size, one without "
        "negatives needs its stop-gradient, predictor or centring",
        is_collapse=True,
    ),
    ("effective_rank", "low"): Trouble(
        "dimensional_collapse",
        "the embeddings lie along a line or curve; mostly one cheap trait tells all samples apart, such as brightness, "
        "or two views have nothing else in common: strengthen views.brightness and views.contrast, or weaken "
        "views.shift_voxels and views.zoom; then lower training.lr or raise objective.temperature",
        is_collapse=True,
    ),
    ("uniformity", "high"): Trouble(
        "collapse",
        "the embeddings crowd together on the sphere; lower training.lr or objective.temperature",
        is_collapse=True,
    ),
    ("feature_std", "low"): Trouble(
        "collapse",
        "all samples get nearly the same features; raise objective.mu_param, which keeps them apart, or lower "
        "training.lr",
        is_collapse=True,
    ),
    ("teacher_entropy", "low"): Trouble(
        "teacher_collapse",
        "the teacher is certain of every sample; raise its temperature, and lower training.lr",
        is_collapse=True,
    ),
    ("teacher_entropy", "high"): Trouble(
        "teacher_collapse",
        "the teacher spreads every sample over all outputs and teaches nothing; lower its temperature, weaken its "
        "centring, and lower training.lr",
        is_collapse=True,
    ),
    ("teacher_mean_entropy", "low"): Trouble(
        "teacher_collapse",
        "the teacher gives all samples the same output; strengthen its centring, raise its temperature, and lower "
        "training.lr",
        is_collapse=True,
    ),
    ("grad_norm", "low"): Trouble(
        "vanishing_gradient",
        "nothing is learnt any more; mostly the embeddings have collapsed, or a softmax is saturated: raise "
        "objective.temperature; with fp16 the gradients may underflow: set training.precision to bf16",
    ),
    ("data_wait", "high"): Trouble(
        "starved",
        "the device waits for data; raise training.num_workers as far as there are cores, or make samples cheaper, "
        "such as by a smaller views.patch_size",
    ),
    ("padding", "high"): Trouble(
        "padding",
        "most of what is computed is padding; batch texts of like length together, as TextSampler does, or lower "
        "encoder.max_length so that long ones are cut up",
    ),
}
"""By monitor and by side of its limit."""

SPIKE = Trouble(
    "loss_spike",
    "a few odd samples, or the rate is too high: if it does not come back, lower training.lr or training.clip_norm, or "
    "raise training.warmup_fraction",
    patience=1,
)
EXPLOSION = Trouble(
    "gradient_explosion",
    "the rate is too high for where the weights are now; lower training.lr or raise training.warmup_fraction; a "
    "contrastive method may need a higher objective.temperature",
)

WINDOW, MIN_WINDOW = 50, 10
"""Logged values that a spike is measured against, and the fewest."""
SPIKE_DEVIATIONS = 6.0
"""A loss this many robust standard deviations above the median is a spike. The demo's own runs have none even at 4."""
MIN_DEVIATION = 0.01
"""Of the median: the least standard deviation, so that a very smooth loss may move a little."""
EXPLOSION_FACTOR = 10.0
"""A gradient norm this many times the median has exploded."""
EASE = 0.2
"""An alarm ends where its monitor is back by this share of the limit, so that it does not flicker."""
SETTLING_CHECKS = 7
"""More checks that a network gets which has never been above its collapse limit. One whose embeddings begin with a
large part in common, as those of language models do, had a spread of 0.02 and took 90 steps to get above 0.1."""


class Alarms:
    """Looks at the monitors of a run at each logged step.

    An alarm is given once, when its monitor has been beyond its limit for some checks in a row, and again only after it
    had come back. Everything but `check_clocks` is a function of the values, so a resumed run alarms as an undisturbed
    one.

    Args:
        limits: Of the method, by monitor.
        on_collapse: Whether collapse ends the run.
    """

    def __init__(self, limits: Mapping[str, Limit], on_collapse: Literal["stop", "warn"]) -> None:
        self.limits = DEFAULT_LIMITS | dict(limits)
        self.on_collapse = on_collapse
        self._watches: dict[str, _Watch] = {}
        self._clock_watches: dict[str, _Watch] = {}
        self._recent = {name: deque[float](maxlen=WINDOW) for name in ("loss", "grad_norm")}

    def check_values(self, step: int, values: Mapping[str, float]) -> list[Alarm]:
        """Alarms of what training computed.

        Args:
            step: Steps done.
            values: By monitor; unknown ones are passed over.

        Raises:
            TrainingError: Collapse, where `on_collapse` is "stop".
        """
        found = [*self._spike(step, values), *self._explosion(step, values)]
        found += self._beyond_limits(step, values, self._watches)
        for name, recent in self._recent.items():
            if math.isfinite(value := values.get(name, math.nan)):
                recent.append(value)
        return found

    def check_clocks(self, step: int, values: Mapping[str, float]) -> list[Alarm]:
        """Alarms of what depends on the machine, such as `data_wait` and `padding`. They never end a run."""
        return self._beyond_limits(step, values, self._clock_watches)

    def state_dict(self) -> dict[str, Any]:
        """What the next alarms depend on, in plain types; clocks are left out, as they differ from run to run."""
        return {
            "watches": {key: [watch.count, watch.ringing] for key, watch in self._watches.items()},
            "recent": {name: list(values) for name, values in self._recent.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave; an empty state is that of a new run."""
        self._watches = {key: _Watch(*watch) for key, watch in state.get("watches", {}).items()}
        for name, recent in self._recent.items():
            recent.clear()
            recent.extend(state.get("recent", {}).get(name, ()))

    def _beyond_limits(self, step: int, values: Mapping[str, float], watches: "dict[str, _Watch]") -> list[Alarm]:
        found = []
        for name, limit in self.limits.items():
            for side, bound, sign in (("low", limit.low, -1), ("high", limit.high, 1)):
                if bound is None or name not in values:
                    continue
                trouble = TROUBLES.get((name, side)) or Trouble(f"{name}_{side}", "see the method's own docs")
                watch = watches.setdefault(f"{name} {side}", _Watch(-SETTLING_CHECKS if trouble.is_collapse else 0))
                excess = sign * (values[name] - bound)
                if watch.rings(trouble, excess > 0, excess <= -EASE * abs(bound)):
                    measured = f"{name} is {values[name]:.3g}, {'below' if side == 'low' else 'above'} {bound:g}"
                    found.append(self._alarm(step, trouble, measured))
        return found

    def _spike(self, step: int, values: Mapping[str, float]) -> list[Alarm]:
        recent, loss = self._recent["loss"], values.get("loss", math.nan)
        if len(recent) < MIN_WINDOW:
            return []
        middle = median(recent)
        deviation = max(1.4826 * median(abs(value - middle) for value in recent), MIN_DEVIATION * abs(middle))
        limit = middle + SPIKE_DEVIATIONS * deviation
        watch = self._watches.setdefault(SPIKE.kind, _Watch())
        if not watch.rings(SPIKE, loss > limit, loss <= limit - SPIKE_DEVIATIONS / 2 * deviation):
            return []
        measured = f"loss is {loss:.4g}, above {limit:.4g}, with a median of {middle:.4g} before"
        return [self._alarm(step, SPIKE, measured)]

    def _explosion(self, step: int, values: Mapping[str, float]) -> list[Alarm]:
        recent, norm = self._recent["grad_norm"], values.get("grad_norm", math.nan)
        if len(recent) < MIN_WINDOW:
            return []
        limit = EXPLOSION_FACTOR * median(recent)
        watch = self._watches.setdefault(EXPLOSION.kind, _Watch())
        if not watch.rings(EXPLOSION, norm > limit, norm <= limit / 2):
            return []
        return [self._alarm(step, EXPLOSION, f"grad_norm is {norm:.3g}, above {limit:.3g}, ten times its median")]

    def _alarm(self, step: int, trouble: Trouble, measured: str) -> Alarm:
        lasting = f" at {trouble.patience} checks in a row" if trouble.patience > 1 else ""
        message = f"step {step}: {measured}{lasting}: {trouble.advice}"
        if trouble.is_collapse and self.on_collapse == "stop":
            raise TrainingError(f"{message}; or set training.on_collapse to warn to go on all the same")
        log.warning("%s: %s", trouble.kind, message)
        return Alarm(trouble.kind, step, message)


@dataclass
class _Watch:
    """How often in a row a monitor was beyond its limit, and whether its alarm was given."""

    count: int = 0
    ringing: bool = False

    def rings(self, trouble: Trouble, beyond: bool, back: bool) -> bool:
        """Takes in one check; whether it gives the alarm."""
        if self.ringing:
            self.ringing = not back
            self.count = 0
            return False
        self.count = self.count + 1 if beyond else 0
        self.ringing = self.count >= trouble.patience
        return self.ringing


def nan_message(step: int, shards: Sequence[Sequence[int]]) -> str:
    """What to say, and to advise, when the loss is not finite.

    Args:
        step: Number of the global batch, from 0.
        shards: Sample ids of each of its parts; empty where the data do not know them.
    """
    ids = [number for shard in shards for number in shard]
    samples = f" (samples {', '.join(map(str, ids[:3]))}{', ...' if len(ids) > 3 else ''})" if ids else ""
    return (
        f"the loss is not finite at step {step + 1}{samples}; mostly the rate is too high: lower training.lr or "
        "training.clip_norm; with fp16 set training.precision to bf16; else look at the samples: "
        f"batches.batch({step}) makes them again"
    )
