"""Rows of all processes, and the gradient of the sum of the processes' losses."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from toolkit.training.gather import gather_rows, num_processes, process_rank

LOCAL = torch.arange(24, dtype=torch.float64).reshape(2, 4, 3)
WEIGHTS = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    local = LOCAL[rank].T.contiguous().T.clone().requires_grad_()  # rows that do not lie together
    other = torch.zeros(8, 3, dtype=torch.float64, requires_grad=True)
    doubled = other * 2  # comes before, so its backward comes after, and must not see a sum over processes
    ((gather_rows(local) + doubled) * WEIGHTS[rank]).sum().backward()
    gathered = gather_rows(local).detach()
    torch.save([gathered, local.grad, other.grad, process_rank(), num_processes()], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_each_process_has_all_rows_and_the_gradient_of_all_losses(tmp_path: Path) -> None:
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        gathered, gradient, other, own_rank, world = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(gathered, LOCAL.flatten(0, 1))
        torch.testing.assert_close(gradient, WEIGHTS.sum(0)[4 * rank : 4 * rank + 4])
        torch.testing.assert_close(other, 2 * WEIGHTS[rank])  # what is not gathered keeps its own gradient
        assert (own_rank, world) == (rank, 2)


def test_alone_it_is_the_tensor_itself() -> None:
    assert gather_rows(LOCAL) is LOCAL and (process_rank(), num_processes()) == (0, 1)
