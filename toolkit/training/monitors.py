"""Numbers that show collapse, which the loss alone cannot (negative cosine is at its optimum when all collapses)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def embedding_std(embeddings_ND: Tensor) -> Tensor:
    """Mean over dimensions of the standard deviation of L2-normalised embeddings, times sqrt(D).

    1 for embeddings spread evenly over the sphere, 0 when all are equal (Chen & He 2021, SimSiam, figure 2).
    """
    normalised_ND = F.normalize(embeddings_ND.double(), dim=1)
    return normalised_ND.std(dim=0, unbiased=False).mean() * embeddings_ND.shape[1] ** 0.5


def effective_rank(embeddings_ND: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values of the centred embeddings.

    Between 1 and min(N, D) (Roy & Vetterli 2007); 0 when all embeddings are equal.
    """
    centred_ND = embeddings_ND.double() - embeddings_ND.double().mean(dim=0)
    values = torch.linalg.svdvals(centred_ND)
    if values.sum() <= 1e-12 * embeddings_ND.abs().max().double():
        return values.new_zeros(())
    share = values / values.sum()
    return torch.exp(-(share * torch.log(share.clamp_min(1e-300))).sum())


def alignment(view0_ND: Tensor, view1_ND: Tensor) -> Tensor:
    """Mean squared distance of the two normalised views of a sample; 0 is perfect (Wang & Isola 2020)."""
    return (F.normalize(view0_ND, dim=1) - F.normalize(view1_ND, dim=1)).square().sum(dim=1).mean()


def uniformity(embeddings_ND: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential of all pairs of normalised embeddings (Wang & Isola 2020).

    0 at collapse; lower is more uniform.
    """
    distances = torch.pdist(F.normalize(embeddings_ND, dim=1)).square()
    return torch.logsumexp(-t * distances, dim=0) - torch.log(torch.tensor(float(len(distances))))
