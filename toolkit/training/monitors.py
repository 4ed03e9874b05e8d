"""Numbers that show collapse, which the loss alone cannot (negative cosine is at its optimum when all collapses)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROWS = 512
"""Rows that spread, rank and uniformity look at: more would cost as much as a step, and change little."""


def embedding_std(embeddings_ND: Tensor) -> Tensor:
    """Mean over dimensions of the standard deviation of L2-normalised embeddings, times sqrt(D).

    About 1 for embeddings spread evenly over the sphere, 0 when all are equal (Chen & He 2021, SimSiam, figure 2).

    Args:
        embeddings_ND: Of any float type, on any device; the result is float64 on the CPU.
    """
    normalised_ND = F.normalize(_rows(embeddings_ND), dim=1)
    spread: Tensor = normalised_ND.std(dim=0, unbiased=False).mean()
    return spread * math.sqrt(embeddings_ND.shape[1])


def effective_rank(embeddings_ND: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values of the centred embeddings.

    Between 1 and min(N, D) (Roy & Vetterli 2007); 0 when all embeddings are equal but for rounding, of which the
    rank would be high.

    Args:
        embeddings_ND: Of any float type, on any device; the result is float64 on the CPU.
    """
    rows_ND = _rows(embeddings_ND)
    centred_ND = rows_ND - rows_ND.mean(dim=0)
    if centred_ND.norm() <= 4 * torch.finfo(embeddings_ND.dtype).eps * rows_ND.norm():
        return rows_ND.new_zeros(())
    # The smaller Gram matrix: 5 times faster than singular values at 512 x 2048. What it loses is below 1e-8 of the
    # largest value, less than float32 embeddings hold.
    gram = centred_ND @ centred_ND.T if len(rows_ND) <= rows_ND.shape[1] else centred_ND.T @ centred_ND
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    entropy: Tensor = torch.special.entr(values / values.sum()).sum()
    return entropy.exp()


def alignment(view0_ND: Tensor, view1_ND: Tensor) -> Tensor:
    """Mean squared distance of the two normalised views of a sample; 0 is perfect (Wang & Isola 2020).

    Computed at least in float32 where the views are: methods ask for it at each step, and must not wait for the GPU.
    """
    at_least = torch.promote_types(view0_ND.dtype, torch.float32)
    view0_ND, view1_ND = (F.normalize(view.to(at_least), dim=1) for view in (view0_ND, view1_ND))
    return (view0_ND - view1_ND).square().sum(dim=1).mean()


def uniformity(embeddings_ND: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential of all pairs of normalised embeddings (Wang & Isola 2020).

    0 at collapse, and of a single embedding; lower is more uniform.

    Args:
        embeddings_ND: Of any float type, on any device; the result is float64 on the CPU.
        t: How fast the potential falls with the distance.
    """
    distances = torch.pdist(F.normalize(_rows(embeddings_ND), dim=1)).square()
    if not len(distances):
        return distances.new_zeros(())
    return torch.logsumexp(-t * distances, dim=0) - math.log(len(distances))


class TeacherEntropy(NamedTuple):
    """Entropies as shares of the largest, ln K."""

    of_samples: Tensor
    """Mean entropy of a sample's distribution. Near 1, each sample is spread over all outputs: one kind of collapse."""
    of_mean: Tensor
    """Entropy of the mean distribution. Near 0, all samples fall on one output: the other kind."""


def teacher_entropy(probabilities_NK: Tensor) -> TeacherEntropy:
    """How decided a teacher is on each sample, and how evenly it uses its outputs (Caron et al. 2021, DINO, figure 7).

    A healthy teacher is low in the first and high in the second. A method logs them as `teacher_entropy` and
    `teacher_mean_entropy`.

    Args:
        probabilities_NK: Teacher's distributions or assignments, (N, K) with K > 1; rows add up to 1.

    Returns:
        Two scalars between 0 and 1, float32 or better, on the same device.
    """
    wide_NK = probabilities_NK.detach().to(torch.promote_types(probabilities_NK.dtype, torch.float32))
    largest = math.log(wide_NK.shape[1])
    of_samples = torch.special.entr(wide_NK).sum(dim=1).mean() / largest
    return TeacherEntropy(of_samples, torch.special.entr(wide_NK.mean(dim=0)).sum() / largest)


def _rows(embeddings_ND: Tensor) -> Tensor:
    """At most `MAX_ROWS` of them in float64 on the CPU, which every machine has, and where sums repeat bit for bit.

    They are evenly spaced: a batch may be sorted, such as by length.
    """
    num_rows = len(embeddings_ND)
    if num_rows > MAX_ROWS:
        kept = torch.arange(MAX_ROWS, device=embeddings_ND.device) * num_rows // MAX_ROWS
        embeddings_ND = embeddings_ND[kept]
    return embeddings_ND.detach().cpu().double()
