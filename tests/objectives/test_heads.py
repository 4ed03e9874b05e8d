import pytest
import torch

from toolkit.objectives.heads import HeadNorm, mlp_head
from toolkit.training.sync_batch_norm import batch_dependent_layers


def test_keys_of_a_head_with_one_hidden_layer() -> None:
    """Those of checkpoints made before all methods shared it."""
    assert [key for key in mlp_head(6, [8], 4).state_dict() if "running" not in key] == [
        "0.weight", "1.weight", "1.bias", "1.num_batches_tracked", "3.weight",
    ]  # fmt: skip


@pytest.mark.parametrize(("norm", "independent"), [("batch", False), ("layer", True), ("none", True)])
@pytest.mark.parametrize("norm_last", [False, True])
def test_a_sample_depends_on_others_by_batch_norm_only(norm: HeadNorm, independent: bool, norm_last: bool) -> None:
    torch.manual_seed(0)
    head = mlp_head(6, [8, 9], 4, norm, norm_last=norm_last).double()
    x = torch.randn(10, 6, dtype=torch.float64)
    whole, half = head(x), head(x[:5])
    assert whole.shape == (10, 4)
    assert torch.allclose(whole[:5], half, atol=1e-12) == independent == (not batch_dependent_layers(head))


def test_a_last_norm_has_no_weights_and_levels_the_output() -> None:
    torch.manual_seed(0)
    x = torch.randn(500, 6)
    for norm, dim in (("batch", 0), ("layer", 1)):
        plain, head = (mlp_head(6, [8], 4, norm, norm_last=last) for last in (False, True))  # type: ignore[arg-type]
        assert len(list(head.parameters())) == len(list(plain.parameters()))
        torch.testing.assert_close(
            head(x).std(dim, unbiased=False), torch.ones(4 if dim == 0 else 500), rtol=0.02, atol=0
        )
