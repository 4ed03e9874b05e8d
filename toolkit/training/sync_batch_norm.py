"""Batch norm over the batch of all processes, on any device, and which layers depend on the batch at all."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.training.gather import gather_rows, num_processes


def batch_dependent_layers(module: nn.Module) -> list[str]:
    """Names of the layers whose output for one sample depends on the others of its batch: batch norms of any kind."""
    return [name for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)]


def convert_sync_batch_norm(module: nn.Module) -> nn.Module:
    """Makes every batch norm of `module` one over all processes, in place; parameters and state_dict keys stay.

    Between GPUs it becomes torch's, whose kernels are fused; call it when the process group stands.

    Returns:
        `module`.
    """
    between_gpus = dist.is_available() and dist.is_initialized() and "nccl" in dist.get_backend()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            # Same state, another forward: so an optimiser, a hook or a parent that holds the layer keeps it.
            layer.__class__ = nn.SyncBatchNorm if between_gpus else SyncBatchNorm
            layer.process_group = None  # type: ignore[assignment]  # all processes
    return module


class SyncBatchNorm(_BatchNorm):
    """torch's SyncBatchNorm for a CPU, where neither that class nor DistributedDataParallel accepts it.

    In training the statistics are those of the samples of all processes, each counted once however unequally they
    are shared out, and gradients flow through them (as in `gather_rows`). In evaluation, or alone, it is plain batch
    norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) normalised."""
        if not self.training or num_processes() == 1:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean_C, var_C, count = _statistics(wide)
        self._update(mean_C.detach(), var_C.detach(), count)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        out = (wide - mean_C.view(shape)) * torch.rsqrt(var_C + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions, as torch's."""

    @torch.no_grad()
    def _update(self, mean_C: Tensor, var_C: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased_C = var_C * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean_C.to(self.running_mean), momentum)
        self.running_var.lerp_(unbiased_C.to(self.running_var), momentum)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over all processes, (C,), and the number of values of a channel.

    Each process sends its count, means and centred sums of squares, which are then combined (Chan et al. 1983); sums of
    plain squares would cancel where the mean is large.
    """
    dims = [dim for dim in range(x.ndim) if dim != 1]
    own = x.new_tensor(float(x.numel() // x.shape[1]))
    mean_C = x.sum(dims) / own.clamp_min(1)
    centred = x - mean_C.view(1, -1, *[1] * (x.ndim - 2))
    sent = torch.cat([own[None], mean_C, centred.square().sum(dims)])
    all_PS = gather_rows(sent[None])
    count_P1, mean_PC, squares_PC = torch.split(all_PS, [1, x.shape[1], x.shape[1]], dim=1)
    count = count_P1.sum()
    mean_C = (count_P1 * mean_PC).sum(0) / count
    squares_C = (squares_PC + count_P1 * (mean_PC - mean_C).square()).sum(0)
    return mean_C, squares_C / count, count
