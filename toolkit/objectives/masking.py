"""What masked methods share: which cells of a volume are hidden, and how well they were guessed."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from toolkit.config import Section
from toolkit.errors import ConfigError
from toolkit.objectives import references
from toolkit.objectives.base import Objective
from toolkit.objectives.certify import Claim
from toolkit.training import Step
from toolkit.training.alarms import Limit

Sides = tuple[int, int, int]
_GOLDEN, _MIX1, _MIX2 = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Reconstruction(NamedTuple):
    """The hidden cells of each of B samples, M of each, with V values (channels and voxels) each."""

    predicted_BMV: Tensor
    target_BMV: Tensor
    pooled_BD: Tensor
    """Means of the features over what was visible."""


def reconstruction_loss(
    predicted: Tensor, target: Tensor, *, normalize_targets: bool = True, gather: bool = False
) -> Tensor:
    """Mean squared error of hidden cells (He et al. 2022, arXiv:2111.06377, section 3; Tian et al. 2023, section 3.3).

    The gradient reaches both. Normalised, each cell's target has its own mean taken away and is divided by its own
    deviation (of the unbiased variance plus 1e-6, as in MAE's code): contrast within cells counts, and not how bright
    they are. A cell of one value then has a target of 0. Noisy air is no such cell: its noise, the scanner's or that of
    views, is made as large as anatomy, and since nobody can guess it, such a cell adds about 1 to the loss for ever.

    Args:
        predicted: What was guessed of N hidden cells, (N, V).
        target: What they hold, (N, V), V > 1 where normalised.
        normalize_targets: Whether targets are normalised.
        gather: Of no effect: cells are not compared with each other.

    Returns:
        Mean over the N cells and their V values, a scalar, computed at least in float32. A guess of 0 comes to
        (V - 1) / V where targets are normalised and no cell is of one value.

    When to use:
        In `mae`, `spark` and `hybrid`, on hidden cells alone: on visible ones a copy would do.

    Relations:
        `mlm_loss` guesses hidden tokens among a vocabulary.
    """
    assert predicted.shape == target.shape and predicted.ndim == 2
    return cell_errors(predicted, target, normalize_targets=normalize_targets).mean()


def cell_errors(predicted: Tensor, target: Tensor, *, normalize_targets: bool) -> Tensor:
    """The mean squared error of each cell, (..., V) to (...); see `reconstruction_loss`."""
    with torch.autocast(predicted.device.type, enabled=False):
        at_least = torch.promote_types(predicted.dtype, torch.float32)
        predicted, target = predicted.to(at_least), target.to(at_least)
        if normalize_targets:
            variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
            target = (target - mean) * (variance + 1e-6).rsqrt()
        return (predicted - target).square().mean(dim=-1)


class Reconstructor(nn.Module):
    """Base of what hides cells from an encoder and guesses them; thrown away after training."""

    def forward(self, encoder: nn.Module, views_BCIJK: Tensor, draws_B: Tensor) -> Reconstruction:
        """Guesses of the hidden cells, which follow from `draws_B`; see `split_cells`."""
        raise NotImplementedError

    def refuse_sides(self, sides: Sequence[int]) -> None:
        """Raises ConfigError where patches of these sides have no cells to hide."""
        raise NotImplementedError


class MaskedObjective(Objective):
    """Base of methods that guess hidden cells of one view of each sample.

    Batches hold `view0`, (B, C, I, J, K), and `draws`, (B,) int64, from which the cells that are hidden follow.

    Args:
        config: With `normalize_targets`.
        encoder: The network that is kept.
        reconstructor: What hides and guesses.
    """

    modality: ClassVar[Literal["scans", "text"]] = "scans"
    num_views: ClassVar[int] = 1
    # Nothing here asks pooled features to spread, and nothing draws them together.
    alarm_limits: ClassVar[Mapping[str, Limit]] = {"embedding_std": Limit(), "effective_rank": Limit()}
    claims: ClassVar[tuple[Claim, ...]] = (
        Claim(reconstruction_loss, references.reconstruction, {"normalize_targets": True}, inputs=references.two_views),
    )

    def __init__(self, config: Section, encoder: nn.Module, reconstructor: Reconstructor) -> None:
        super().__init__(config, encoder)
        self.config: Any = config
        self.reconstructor = reconstructor

    def refuse_sides(self, sides: Sequence[int]) -> None:
        """Raises ConfigError where patches of these sides have no cells to hide; asked before the first step."""
        self.reconstructor.refuse_sides(sides)

    def forward(self, batch: dict[str, Any]) -> Step:
        """The loss over all hidden cells, whose number is the count, and the pooled features of what was visible."""
        found: Reconstruction = self.reconstructor(self.encoder, batch["view0"], batch["draws"])
        predicted, target, pooled = found
        errors_BM = cell_errors(predicted, target, normalize_targets=self.config.normalize_targets)
        return Step(loss_sum=errors_BM.sum(), count=errors_BM.numel(), embeddings=pooled.detach())


def split_cells(draws_B: Tensor, num_cells: int, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Which cells of each sample are hidden, (B, M) int64, and which are visible, (B, num_cells - M).

    A function of each sample's number alone, by counting (splitmix64: Steele, Lea & Flood 2014, "Fast splittable
    pseudorandom number generators"), so that portions of a batch, processes and devices agree.

    Args:
        draws_B: A number for each sample, int64.
        num_cells: How many there are.
        mask_ratio: The share that is hidden; at least one cell is, and one is not.

    Raises:
        ConfigError: There is one cell only.
    """
    if num_cells < 2:
        raise ConfigError("views.patch_size: a patch is a single cell, of which nothing can be hidden; make it larger")
    num_hidden = min(max(round(num_cells * mask_ratio), 1), num_cells - 1)
    cells_N = torch.arange(1, num_cells + 1, device=draws_B.device)
    order_BN = _mixed(_mixed(draws_B)[:, None] + cells_N * _GOLDEN).argsort(dim=1, stable=True)
    return order_BN[:, :num_hidden], order_BN[:, num_hidden:]


def to_cells(volumes_BCIJK: Tensor, cell: Sides) -> Tensor:
    """Volumes cut into cells in C order, (B, cells, C * voxels of a cell)."""
    b, c, *sides = volumes_BCIJK.shape
    (gi, gj, gk), (ci, cj, ck) = (side // size for side, size in zip(sides, cell, strict=True)), cell
    parts = volumes_BCIJK.reshape(b, c, gi, ci, gj, cj, gk, ck).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return parts.reshape(b, gi * gj * gk, c * ci * cj * ck)


def of_cells(values_BNV: Tensor, cells_BM: Tensor) -> Tensor:
    """The values of some cells of each sample, (B, M, V)."""
    return values_BNV.gather(1, cells_BM[:, :, None].expand(-1, -1, values_BNV.shape[2]))


def _mixed(numbers: Tensor) -> Tensor:
    """64 bits of each of which half turn around when one bit of the number does; int64 wraps around."""
    for shift, factor in ((30, _MIX1), (27, _MIX2), (31, 1)):
        numbers = (numbers ^ ((numbers >> shift) & (2 ** (64 - shift) - 1))) * factor
    return numbers
