"""How long, how fast and in what portions to train."""

from typing import Literal

from pydantic import Field, model_validator

from toolkit.config import Section


class KeepBest(Section):
    """Which weights are saved at the end, if not the last ones."""

    metric: str = "effective_rank"
    """A value of metrics.jsonl. effective_rank needs no labels (RankMe: Garrido et al. 2023, arXiv:2210.02885);
    knn_accuracy needs `evaluate_every` and a few."""
    mode: Literal["max", "min"] = "max"
    """Whether high or low is good."""
    after: float = Field(0.5, ge=0, lt=1)
    """Share of the training before which no step counts. On the demo brains the effective rank of ten methods was
    highest at the first look, 10 steps in, where neighbours' votes were worst; only later do both rise together."""


class TrainingConfig(Section):
    """How long, how fast and in what portions."""

    num_steps: int = Field(1000, gt=0)
    """Optimiser steps in all, where neither `num_epochs` nor `num_tokens` says how long."""
    num_epochs: float | None = Field(None, gt=0)
    """Passes over the data instead of `num_steps`."""
    num_tokens: int | None = Field(None, gt=0)
    """Tokens to see, padding not counted, instead of `num_steps`. Text only."""
    batch_size: int = Field(64, gt=1)
    """Samples a step, over all processes: the result does not depend on their number."""
    micro_batch_size: int | None = Field(None, gt=1)
    """Samples that a process puts through the network at once; the whole of its share when empty. Smaller ones
    need less memory and give the same gradients: sums are accumulated, contrastive losses use gradient caching.
    Batch norm depends on its batch and is refused; see `encoder.norm` and `objective.head_norm`."""
    optimizer: Literal["adamw", "lars"] = "adamw"
    """LARS serves batches of thousands (`lr` then is about 0.3 * batch_size / 256)."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = Field(1e-4, ge=0)
    """Decay of matrices and kernels; biases and norms have none."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After the warm-up: half a cosine to 0, or level and then down to 0 (warm-up, stable, decay), or level."""
    warmup_fraction: float = Field(0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises from 0."""
    decay_fraction: float = Field(0.2, ge=0, le=1)
    """Share of the steps over which `wsd` falls to 0."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Keep a moving average of the weights, and save that one at the end: 0.999 averages about 1000 steps."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    gradient_checkpointing: bool = False
    """Forget activations and compute them again in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the encoder with torch.compile; needs a compiler (CPU) or Triton (GPU)."""
    checkpoint_every: int = Field(100, gt=0)
    """Steps between checkpoints: the most that a kill can cost."""
    keep_checkpoints: int = Field(2, gt=0)
    """How many of the newest checkpoints stay on the disk."""
    log_every: int = Field(10, gt=0)
    """Steps between rows of metrics.jsonl."""
    evaluate_every: int | None = Field(None, gt=0)
    """Steps between looks at a small labelled set, where the recipe has one; never when empty."""
    keep_best: KeepBest | None = None
    """Save the encoder of the logged step at which a value was best; empty saves the last one. With `ema_decay` it is
    the average's. Checkpoints grow by the encoder's weights."""
    on_collapse: Literal["stop", "warn"] = "warn"
    """What to do when the embeddings collapse."""
    num_workers: int = Field(0, ge=0)
    """Processes that prepare batches ahead; 0 prepares them in the loop."""
    worker_timeout_s: float = Field(600, ge=0)
    """Seconds without a batch after which a worker is taken for dead; 0 waits for ever."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingConfig":
        if self.num_epochs is not None and self.num_tokens is not None:
            raise ValueError("num_epochs and num_tokens are both given; keep one")
        if self.keep_best and self.keep_best.metric == "knn_accuracy" and self.evaluate_every is None:
            raise ValueError("keep_best.metric: knn_accuracy needs evaluate_every; give it, or take effective_rank")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        return self
