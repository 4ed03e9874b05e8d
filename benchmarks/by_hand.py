"""The methods as one writes them by hand from their papers: one process, one device, no monitors, no portions.

Each copies the networks and the state of an objective of fewlabel, so that both start alike and can be held against
each other; its loss and its update are its own. `forward(batch)` gives the mean loss, `after(progress)` follows a step.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.encoders.networks.vit import sine_cosine_positions
from toolkit.objectives.masking import split_cells

Batch = dict[str, Tensor]


class ByHand(nn.Module):
    """An encoder and a projection head."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.config: Any = ours.config
        for name, child in ours.named_children():
            if name != "momentum":
                setattr(self, name, copy.deepcopy(child))

    def project(self, views: Tensor) -> Tensor:
        """(B, D)."""
        return self.head(self.encoder.pooled(self.encoder(views)))

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Projections of both views."""
        z0, z1 = self.project(torch.cat([batch["view0"], batch["view1"]])).chunk(2)
        return z0, z1

    def after(self, progress: float) -> None:
        """What follows a step."""


class WithCopy(ByHand):
    """And a slow copy of both."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__(ours)
        self.slow_encoder, self.slow_head = copy.deepcopy(self.encoder), copy.deepcopy(self.head)
        for parameter in [*self.slow_encoder.parameters(), *self.slow_head.parameters()]:
            parameter.requires_grad = False

    @torch.no_grad()
    def slow(self, views: Tensor) -> Tensor:
        """The copy's projections."""
        return self.slow_head(self.slow_encoder.pooled(self.slow_encoder(views)))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Moves the copy."""
        for slow, fast in ((self.slow_encoder, self.encoder), (self.slow_head, self.head)):
            for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
                p.mul_(momentum).add_(q, alpha=1 - momentum)

    def rising(self, progress: float) -> float:
        """From the configured momentum to 1."""
        return 1 - (1 - self.config.momentum) * (math.cos(math.pi * progress) + 1) / 2


class SimCLR(ByHand):
    """NT-Xent."""

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        z = F.normalize(torch.cat(self.pair(batch)))
        logits = (z @ z.T / self.config.temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
        return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))


class MoCo(WithCopy):
    """A queue of keys."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__(ours)
        self.register_buffer("queue", ours.queue.clone())
        self.oldest = 0

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        query, self.keys = F.normalize(self.project(batch["view0"])), F.normalize(self.slow(batch["view1"]))
        positive = (query * self.keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, query @ self.queue.T], dim=1) / self.config.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))

    def after(self, progress: float) -> None:
        """Moves the copy and fills the queue."""
        self.follow(self.config.momentum)
        end = self.oldest + len(self.keys)
        self.queue[self.oldest : end] = self.keys
        self.oldest = end % len(self.queue)


class MoCoV3(WithCopy):
    """Keys of the batch."""

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        views = torch.cat([batch["view0"], batch["view1"]])
        query0, query1 = F.normalize(self.predictor(self.project(views))).chunk(2)
        key0, key1 = F.normalize(self.slow(views)).chunk(2)
        own, temperature = torch.arange(len(key0)), self.config.temperature
        loss0 = F.cross_entropy(query0 @ key1.T / temperature, own)
        return (loss0 + F.cross_entropy(query1 @ key0.T / temperature, own)) / 2

    def after(self, progress: float) -> None:
        """Moves the copy."""
        self.follow(self.rising(progress))


class BYOL(WithCopy):
    """Predictions of the copy's projections."""

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        views = torch.cat([batch["view0"], batch["view1"]])
        p0, p1 = self.predictor(self.project(views)).chunk(2)
        z0, z1 = self.slow(views).chunk(2)
        return 2 - F.cosine_similarity(p0, z1).mean() - F.cosine_similarity(p1, z0).mean()

    def after(self, progress: float) -> None:
        """Moves the copy."""
        self.follow(self.rising(progress))


class SimSiam(ByHand):
    """Predictions of the other view's projection."""

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        z0, z1 = self.pair(batch)
        p0, p1 = self.predictor(torch.cat([z0, z1])).chunk(2)
        similarity = F.cosine_similarity(p0, z1.detach()).mean() + F.cosine_similarity(p1, z0.detach()).mean()
        return -similarity / 2


class BarlowTwins(ByHand):
    """Cross-correlation."""

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        z0, z1 = ((z - z.mean(dim=0)) / z.std(dim=0, unbiased=False) for z in self.pair(batch))
        correlation = z0.T @ z1 / len(z0)
        on_diagonal = (correlation.diagonal() - 1).square().sum()
        return on_diagonal + self.config.lambda_param * off_diagonal(correlation).square().sum()


class VICReg(ByHand):
    """Variance, invariance, covariance."""

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        z0, z1 = self.pair(batch)
        loss = self.config.lambda_param * F.mse_loss(z0, z1)
        for z in (z0, z1):
            z = z - z.mean(dim=0)
            loss = loss + self.config.mu_param * F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() / 2
            covariance = z.T @ z / (len(z) - 1)
            loss = loss + self.config.nu_param * off_diagonal(covariance).square().sum() / z.shape[1]
        return loss


class SwAV(ByHand):
    """Swapped predictions of prototypes."""

    frozen = True

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        weight = self.prototypes.weight.detach() if self.frozen else self.prototypes.weight
        scores0, scores1 = (F.normalize(z) @ weight.T for z in self.pair(batch))
        codes0, codes1 = self.codes(scores0), self.codes(scores1)
        log_p0, log_p1 = (F.log_softmax(scores / self.config.temperature, dim=1) for scores in (scores0, scores1))
        return -((codes1 * log_p0).sum(dim=1).mean() + (codes0 * log_p1).sum(dim=1).mean()) / 2

    @torch.no_grad()
    def codes(self, scores: Tensor) -> Tensor:
        """Sinkhorn's, (B, K)."""
        q = torch.exp(scores / self.config.epsilon).T
        q /= q.sum()
        for _ in range(self.config.sinkhorn_iterations):
            q /= q.sum(dim=1, keepdim=True) * len(q)
            q /= q.sum(dim=0, keepdim=True) * q.shape[1]
        return (q * q.shape[1]).T

    @torch.no_grad()
    def after(self, progress: float) -> None:
        """Prototypes go back to the sphere."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight))
        self.frozen = progress < self.config.freeze_fraction


class MAE(ByHand):
    """Hidden tokens of a transformer, guessed among all tokens."""

    def forward(self, batch: Batch) -> Tensor:
        """The mean error of hidden tokens."""
        return self.guess(batch["view0"], batch["draws"])[0].mean()

    def guess(self, views: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The mean error of each sample's hidden tokens (B,), and the pooled features of what was visible."""
        network, decoder = self.encoder.network, self.reconstructor
        x = network.tokens(views)
        hidden, visible = split_cells(draws, x.shape[1], decoder.mask_ratio)  # the same tokens as ours
        latent = network.transformed(x.gather(1, visible[:, :, None].expand(-1, -1, x.shape[2])))
        shown = decoder.embedding(latent)
        order = torch.cat([visible, hidden], dim=1).argsort(dim=1)[:, :, None].expand(-1, -1, shown.shape[2])
        x = torch.cat([shown, decoder.token.expand(*hidden.shape, -1)], dim=1).gather(1, order)
        grid = [side // cell for side, cell in zip(views.shape[2:], decoder.cell, strict=True)]
        guess = decoder.voxels(decoder.norm(decoder.blocks(x + sine_cosine_positions(grid, x.shape[2]))))
        return masked_error(guess, cells(views, decoder.cell), hidden), latent.mean(dim=1)


class SparK(ByHand):
    """Hidden cells of a convolutional network, masked at every layer as the authors' code does it."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__(ours)
        for layer in self.encoder.modules():
            if isinstance(layer, nn.Conv3d):
                layer.register_forward_hook(lambda _, x, out: out * self.at(out.shape[2:]))
            elif isinstance(layer, nn.BatchNorm3d):
                layer.forward = partial(self.norm_of_visible, layer)

    def forward(self, batch: Batch) -> Tensor:
        """The mean error of hidden cells."""
        return self.guess(batch["view0"], batch["draws"])[0].mean()

    def guess(self, views: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The mean error of each sample's hidden cells (B,), and the pooled features of what was visible."""
        decoder = self.reconstructor
        cell = decoder.cell(views.shape[2:])
        grid = [side // size for side, size in zip(views.shape[2:], cell, strict=True)]
        hidden, _ = split_cells(draws, math.prod(grid), decoder.mask_ratio)  # the same cells as ours
        self.visible = torch.ones(len(views), math.prod(grid)).scatter(1, hidden, 0).view(-1, 1, *grid)
        maps = self.encoder(views * self.at(views.shape[2:]))
        x = None
        for level, one in zip(decoder.levels, reversed(maps), strict=True):
            seen = self.at(one.shape[2:])
            x = level(one, seen.bool(), x)
        guess = unfold(decoder.voxels(x), decoder.strides[0])
        seen = self.at(maps[-1].shape[2:])
        pooled = (maps[-1] * seen).sum(dim=(2, 3, 4)) / seen.sum(dim=(2, 3, 4))
        return masked_error(cells(guess, cell), cells(views, cell), hidden), pooled

    def at(self, sides: Sequence[int]) -> Tensor:
        """The mask at a map's resolution."""
        if all(side % cells == 0 for side, cells in zip(sides, self.visible.shape[2:], strict=True)):
            return F.interpolate(self.visible, tuple(sides))
        return F.adaptive_max_pool3d(self.visible, tuple(sides))

    def norm_of_visible(self, layer: nn.BatchNorm3d, x: Tensor) -> Tensor:
        """Batch norm of the visible places alone."""
        active = self.at(x.shape[2:])[:, 0].bool()
        rows = x.permute(0, 2, 3, 4, 1)
        normed = F.batch_norm(
            rows[active],
            layer.running_mean,
            layer.running_var,
            layer.weight,
            layer.bias,
            True,
            layer.momentum,
            layer.eps,
        )
        out = torch.zeros_like(rows)
        out[active] = normed
        return out.permute(0, 4, 1, 2, 3)


class Hybrid(SparK):
    """SparK on both views, and NT-Xent of what was visible."""

    def forward(self, batch: Batch) -> Tensor:
        """The weighted sum of both means."""
        views, draws = torch.cat([batch["view0"], batch["view1"]]), batch["draws"]
        errors, pooled = self.guess(views, torch.cat([draws, ~draws]))
        z = F.normalize(self.head(pooled))
        logits = (z @ z.T / self.config.temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
        contrast = F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))
        return self.config.contrast_weight * contrast + self.config.reconstruction_weight * errors.mean()


def cells(volumes: Tensor, cell: Sequence[int]) -> Tensor:
    """Volumes in cells, (B, N, voxels)."""
    for dim, side in zip((2, 3, 4), cell, strict=True):
        volumes = volumes.unfold(dim, side, side)
    return volumes.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(1, 3).flatten(2)


def unfold(values: Tensor, stride: Sequence[int]) -> Tensor:
    """Channels that hold a place's voxels, to voxels."""
    b, _, i, j, k = values.shape
    parts = values.view(b, -1, *stride, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, -1, i * stride[0], j * stride[1], k * stride[2])


def masked_error(guess: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """The mean squared error of hidden cells against normalised targets, of each sample (B,)."""
    mean, variance = target.mean(dim=2, keepdim=True), target.var(dim=2, keepdim=True)
    errors = (guess - (target - mean) / (variance + 1e-6).sqrt()).square().mean(dim=2)
    return errors.gather(1, hidden).mean(dim=1)


def off_diagonal(matrix: Tensor) -> Tensor:
    """All entries but the diagonal's."""
    size = len(matrix)
    return matrix.flatten()[:-1].view(size - 1, size + 1)[:, 1:].flatten()


BY_HAND: dict[str, type[ByHand]] = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "hybrid": Hybrid,
    "mae": MAE,
    "moco": MoCo,
    "moco_v3": MoCoV3,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "spark": SparK,
    "swav": SwAV,
    "vicreg": VICReg,
}
