"""MAE: leaving tokens out equals hiding them from attention, and guesses lie where their cells do."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.objectives.examples import example_batch
from toolkit.encoders.networks.vit import ViTConfig
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import ConfigError, DataError
from toolkit.objectives import build_objective
from toolkit.objectives.mae import MAEConfig
from toolkit.objectives.masking import of_cells, split_cells, to_cells
from toolkit.scans import Preprocessing


def encoder(**options: Any) -> ScanEncoder:
    config = ViTConfig(**{"hidden_size": 24, "num_layers": 3, "num_heads": 2, **options})
    return ScanEncoder(config, Preprocessing()).untrained(0)


def mae(**options: Any) -> Any:
    return build_objective(MAEConfig(decoder_width=12, decoder_layers=1, decoder_heads=2), encoder(**options))


def attended(network: Any, tokens_BND: Tensor, visible_BN: Tensor) -> Tensor:
    """All tokens through the blocks, in float64 by the formula, where none attends to a hidden one."""
    x = tokens_BND
    for block in network.blocks:
        heads = block.attn.num_heads
        normed = F.layer_norm(x, x.shape[2:], block.norm1.weight, block.norm1.bias)
        projected = F.linear(normed, block.attn.qkv.weight, block.attn.qkv.bias)
        query, key, value = projected.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        weights = scores.masked_fill(~visible_BN[:, None, None], float("-inf")).softmax(dim=3)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, block.attn.out_proj.weight, block.attn.out_proj.bias)
        normed = F.layer_norm(x, x.shape[2:], block.norm2.weight, block.norm2.bias)
        wide = F.gelu(F.linear(normed, block.mlp.linear1.weight, block.mlp.linear1.bias))
        x = x + F.linear(wide, block.mlp.linear2.weight, block.mlp.linear2.bias)
    return F.layer_norm(x, x.shape[2:], network.norm.weight, network.norm.bias)


def test_leaving_tokens_out_equals_hiding_them_from_attention() -> None:
    network: Any = encoder().network.double().eval()
    tokens = network.tokens(torch.randn(3, 1, 24, 24, 24, dtype=torch.float64))
    _, visible = split_cells(torch.arange(3), 27, 0.75)
    seen = torch.zeros(3, 27, dtype=torch.bool).scatter_(1, visible, True)
    expected = of_cells(attended(network, tokens, seen), visible)
    torch.testing.assert_close(network.transformed(of_cells(tokens, visible)), expected, rtol=1e-9, atol=1e-9)


def test_the_encoder_sees_a_quarter_of_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, batch, seen = mae(class_token=True), example_batch("scans"), []
    network = objective.encoder.network
    transformed = network.transformed
    monkeypatch.setattr(network, "transformed", lambda tokens: seen.append(tokens) or transformed(tokens))
    step = objective(batch)
    _, visible = split_cells(batch["draws"], 27, 0.75)
    torch.testing.assert_close(seen[0], of_cells(network.tokens(batch["view0"]), visible))
    assert seen[0].shape == (8, 7, 24) and step.count == 8 * 20
    assert step.embeddings.shape == (8, 24)


def test_guesses_follow_from_what_is_visible_alone() -> None:
    objective, batch = mae(), example_batch("scans")
    x = batch["view0"].requires_grad_()
    predicted, target, pooled = objective.reconstructor(objective.encoder, x, batch["draws"])
    (gradient,) = torch.autograd.grad(predicted.square().sum() + pooled.square().sum(), x)
    hidden, visible = split_cells(batch["draws"], 27, 0.75)
    size = to_cells(gradient, (8, 8, 8)).abs().sum(dim=2)
    assert (size.gather(1, hidden) == 0).all() and (size.gather(1, visible) > 0).all()
    torch.testing.assert_close(target, of_cells(to_cells(x, (8, 8, 8)), hidden))
    assert predicted.shape == target.shape == (8, 20, 512)


def test_what_each_token_becomes_goes_back_to_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder's input: visible tokens at their own positions, the learnt token at all others."""
    objective, batch, seen = mae(), example_batch("scans"), []
    module = objective.reconstructor
    monkeypatch.setattr(module.blocks, "forward", lambda x: seen.append(x) or x)
    module(objective.encoder, batch["view0"], batch["draws"])
    network = objective.encoder.network
    hidden, visible = split_cells(batch["draws"], 27, 0.75)
    latent = module.embedding(network.transformed(of_cells(network.tokens(batch["view0"]), visible)))
    positions = seen[0] - module.token  # where hidden
    for row in range(8):
        places = seen[0][row, visible[row]] - latent[row]
        for other in range(8):  # a place has one position in all samples
            both = [n for n, cell in enumerate(visible[row].tolist()) if cell in hidden[other].tolist()]
            torch.testing.assert_close(places[both], positions[other, visible[row][both]])


def test_another_kind_of_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective\.name: mae cannot train a cnn; set encoder\.name: vit"):
        build_objective(MAEConfig(), ScanEncoder(ScanEncoderConfig(width=4), Preprocessing()))


def test_a_patch_of_one_token_is_refused_before_the_first_step() -> None:
    with pytest.raises(ConfigError, match=r"^views\.patch_size: a patch is a single cell"):
        build_objective(MAEConfig(), encoder(), sides=(8, 8, 8))
    build_objective(MAEConfig(), encoder(), sides=(8, 8, 16))


def test_patches_that_tokens_do_not_part_are_refused() -> None:
    with pytest.raises(DataError, match="multiples of 8"):
        mae()({"view0": torch.rand(2, 1, 28, 28, 28), "draws": torch.arange(2)})
