"""Are our losses those of others? Value and gradient beside lightly's and solo-learn's, in float64.

    pip install --no-deps --target peers lightly==1.5.22 solo-learn==1.0.2
    python -m benchmarks.peers peers

Prints the second table of docs/certificates.md. Of both packages only the files of the losses are run: the rest of them
needs torchvision and Lightning, which do not belong beside fewlabel. The folder is read from and goes nowhere else.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.report import refuse_without

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from toolkit.objectives.barlow_twins import barlow_twins_loss
    from toolkit.objectives.moco import info_nce_loss
    from toolkit.objectives.simclr import nt_xent_loss
    from toolkit.objectives.simsiam import negative_cosine_similarity
    from toolkit.objectives.swav import sinkhorn, swapped_prediction_loss
    from toolkit.objectives.vicreg import vicreg_loss
except ModuleNotFoundError as missing:
    refuse_without(missing)

NUM_SAMPLES, NUM_FEATURES, QUEUE_SIZE, NUM_PROTOTYPES = 32, 16, 50, 12
TEMPERATURE, EPSILON, LAMBDA = 0.2, 0.05, 5e-3
PACKAGES = (
    "lightly",
    "lightly.loss",
    "lightly.utils",
    "lightly.models",
    "lightly.models.modules",
    "solo",
    "solo.losses",
)

Loss = Callable[[Tensor, Tensor], Tensor]


class Pair(NamedTuple):
    """A line of the table: two losses of two arrays, which they may meet times `scale`."""

    name: str
    peer: str
    ours: Loss
    theirs: Loss
    scale: float = 1.0
    scores: bool = False


def open_packages(folder: Path) -> None:
    """Lets the files of the losses be imported without what stands in their packages' `__init__`."""
    if not (folder / "lightly/loss").is_dir() or not (folder / "solo/losses").is_dir():
        sys.exit(f"benchmarks: {folder}: holds no lightly and no solo-learn; benchmarks.peers says how to install them")
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    operators = ModuleType("torchvision.ops")
    operators.StochasticDepth = None  # type: ignore[attr-defined]  # imported beside a loss, used by none
    sys.modules |= {"torchvision": ModuleType("torchvision"), "torchvision.ops": operators}


def of(module: str, name: str) -> Any:
    """Something of a module of theirs."""
    return getattr(importlib.import_module(module), name)


def pairs(queue: Tensor) -> list[Pair]:
    """Ours beside theirs; what differs in form, not in the loss, is put right here."""
    nt_xent, vicreg = of("lightly.loss.ntx_ent_loss", "NTXentLoss"), of("lightly.loss.vicreg_loss", "VICRegLoss")
    barlow, swav = of("lightly.loss.barlow_twins_loss", "BarlowTwinsLoss"), of("lightly.loss.swav_loss", "SwaVLoss")
    cosine = of("lightly.loss.negative_cosine_similarity", "NegativeCosineSimilarity")
    solo = {
        name: of(f"solo.losses.{name}", f"{name}_loss_func") for name in ("barlow", "byol", "moco", "simsiam", "vicreg")
    }

    def lightly_moco(query: Tensor, key: Tensor) -> Tensor:
        loss = nt_xent(TEMPERATURE, memory_bank_size=tuple(queue.shape))
        loss.memory_bank.bank, loss.memory_bank.bank_ptr = queue.clone(), torch.zeros(1, dtype=torch.long)
        return loss(query, key.detach())

    def solo_moco(query: Tensor, key: Tensor) -> Tensor:
        return solo["moco"](F.normalize(query), F.normalize(key.detach()), queue.T, temperature=TEMPERATURE)

    def solo_barlow(a: Tensor, b: Tensor) -> Tensor:
        return solo["barlow"](a, b, lamb=LAMBDA, scale_loss=1.0)

    def our_moco(query: Tensor, key: Tensor) -> Tensor:
        return info_nce_loss(query, key.detach(), queue, TEMPERATURE)

    def our_barlow(a: Tensor, b: Tensor) -> Tensor:
        return barlow_twins_loss(a, b, LAMBDA)

    def our_vicreg(a: Tensor, b: Tensor, mu_param: float = 25) -> Tensor:
        return vicreg_loss(a, b, 25, mu_param, 1)

    def our_simsiam(p: Tensor, z: Tensor) -> Tensor:
        return negative_cosine_similarity(p, z.detach())

    def our_swav(a: Tensor, b: Tensor) -> Tensor:
        codes_a, codes_b = (sinkhorn(scores.detach(), EPSILON) for scores in (a, b))
        return (swapped_prediction_loss(a, codes_b, 0.1) + swapped_prediction_loss(b, codes_a, 0.1)) / 2

    def lightly_swav(a: Tensor, b: Tensor) -> Tensor:
        return swav(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=EPSILON)([a, b], [])

    moco, barlow_name = f"info_nce_loss, queue of {QUEUE_SIZE}", "barlow_twins_loss"
    stopped = "negative_cosine_similarity, target detached"
    return [
        Pair("nt_xent_loss", "lightly", lambda a, b: nt_xent_loss(a, b, TEMPERATURE), nt_xent(TEMPERATURE)),
        Pair(moco, "lightly", our_moco, lightly_moco),
        Pair(moco, "solo-learn", our_moco, solo_moco),
        Pair("negative_cosine_similarity", "lightly", negative_cosine_similarity, cosine()),
        Pair(stopped, "solo-learn (SimSiam)", our_simsiam, solo["simsiam"]),
        Pair(f"2 + 2 {stopped}", "solo-learn (BYOL)", lambda p, z: 2 + 2 * our_simsiam(p, z), solo["byol"]),
        Pair(barlow_name, "lightly", our_barlow, barlow()),
        Pair(barlow_name, "solo-learn", our_barlow, solo_barlow),
        Pair(f"{barlow_name}, features times 10,000", "lightly", our_barlow, barlow(), 1e4),
        Pair(f"{barlow_name}, features times 10,000", "solo-learn", our_barlow, solo_barlow, 1e4),
        Pair("vicreg_loss", "lightly", our_vicreg, vicreg()),
        Pair("vicreg_loss with `mu_param` doubled", "solo-learn", partial(our_vicreg, mu_param=50), solo["vicreg"]),
        Pair("swapped_prediction_loss with `sinkhorn`", "lightly", our_swav, lightly_swav, scores=True),
    ]  # fmt: skip


def differences(pair: Pair, arrays: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Of the values and of the gradients, relative to theirs."""
    found = []
    for loss in (pair.ours, pair.theirs):
        inputs = [(pair.scale * array).requires_grad_() for array in arrays]
        value = loss(*inputs)
        found.append((value.detach(), torch.cat(torch.autograd.grad(value, inputs, materialize_grads=True))))
    (value, gradient), (their_value, their_gradient) = found
    apart = (gradient - their_gradient).abs().max() / their_gradient.abs().max()
    return float((value - their_value).abs() / their_value.abs()), float(apart)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="the folder that pip installed into")
    folder = parser.parse_args().packages
    open_packages(folder)
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(NUM_SAMPLES, NUM_FEATURES, generator=generator)
    arrays = views, views + 0.5 * torch.randn(NUM_SAMPLES, NUM_FEATURES, generator=generator)
    queue = F.normalize(torch.randn(QUEUE_SIZE, NUM_FEATURES, generator=generator))
    scores0, scores1 = 2 * torch.rand(2, NUM_SAMPLES, NUM_PROTOTYPES, generator=generator) - 1
    print("| loss | against | value | gradient |\n|---|---|---:|---:|")
    for pair in pairs(queue):
        value, gradient = differences(pair, (scores0, scores1) if pair.scores else arrays)
        print(f"| {pair.name} | {pair.peer} | {value:.0e} | {gradient:.0e} |".replace("0e+00", "0"))
    found = {one.name: one.version for one in distributions(path=[str(folder)])}
    print(f"\ntorch {torch.__version__}, lightly {found['lightly']}, solo-learn {found['solo-learn']}")


if __name__ == "__main__":
    main()
