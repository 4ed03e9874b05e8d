import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import toolkit
from toolkit.encoders.text import PoolingConfig, TextEncoder, TextEncoderConfig
from toolkit.errors import CheckpointError, DataError
from toolkit.text.tokenizer import TextTokenizer

VARIANTS = {
    "both": PoolingConfig(layers=(1, -1), static=True),
    "last": PoolingConfig(),
    "mean": PoolingConfig(token_weights=False),
    "spectral": PoolingConfig(layers=(), static=True),
}

ARCHITECTURES = ("bert", "xlm-roberta", "modernbert", "electra")


def encoder_of(tokenizer: TextTokenizer, architecture: str = "bert") -> TextEncoder:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    narrow = {"embedding_size": 8} if architecture == "electra" else {}
    config = TextEncoderConfig(
        architecture=architecture, num_layers=2, hidden_size=16, num_heads=2, max_length=24, **narrow
    )
    spectral = rng.normal(size=(len(tokenizer), 6)).astype(np.float32)
    spectral[:5] = 0
    weights = rng.random(len(tokenizer)).astype(np.float32)
    return TextEncoder.from_scratch(
        config, tokenizer, variants=VARIANTS, token_weights=weights, spectral=spectral
    ).eval()


@pytest.fixture(params=ARCHITECTURES)
def encoder(request: pytest.FixtureRequest, tokenizer: TextTokenizer) -> TextEncoder:
    return encoder_of(tokenizer, request.param)


def test_embedding_is_float32_in_order_and_independent_of_batches(encoder: TextEncoder, texts: list[str]) -> None:
    together = encoder.embed(texts)
    assert together.dtype == np.float32 and together.shape == (25, encoder.embed_dim) == (25, 16 + 16 + 6)
    alone = np.concatenate([encoder.embed([text], batch_size=1) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_variants_are_parts_of_one_pass(encoder: TextEncoder, texts: list[str]) -> None:
    all_of_them = encoder.embed_variants(texts)
    assert list(all_of_them) == list(VARIANTS)
    np.testing.assert_array_equal(all_of_them["both"], encoder.embed(texts))
    np.testing.assert_array_equal(all_of_them["both"][:, -6:], all_of_them["spectral"])
    np.testing.assert_allclose(np.linalg.norm(all_of_them["last"], axis=1), 1, atol=1e-5)


def test_pooling_is_the_weighted_mean_of_the_texts_own_tokens(encoder: TextEncoder, texts: list[str]) -> None:
    ids = encoder.tokenizer.fast(texts[3], return_tensors="pt")
    hidden = encoder.model(ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state[0, 1:-1]
    weights = encoder.token_weights[ids["input_ids"][0, 1:-1]]
    expected = (weights[:, None] * hidden).sum(0)
    got = torch.from_numpy(encoder.embed_variants([texts[3]], names=["last"])["last"][0])
    torch.testing.assert_close(got, expected.detach() / expected.norm().detach(), atol=2e-6, rtol=0)


def test_round_trip(encoder: TextEncoder, texts: list[str], tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    opened = toolkit.load_encoder(tmp_path / "encoder")
    assert opened.variants == VARIANTS and opened.max_length == 24
    np.testing.assert_array_equal(opened.embed(texts), encoder.embed(texts))
    opened.save_pretrained(tmp_path / "again")
    for path in (tmp_path / "encoder").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_umask_says_who_may_load_it(encoder: TextEncoder, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        encoder.save_pretrained(tmp_path / "saved")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").rglob("*.*")} == {0o640}


def test_plain_transformers_open_the_folder(encoder: TextEncoder, texts: list[str], tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    model, loading = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    model.eval()
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        ours = encoder(batch).last
    assert torch.equal(theirs, ours)


def test_long_and_empty_texts(encoder: TextEncoder, texts: list[str]) -> None:
    embedded = encoder.embed([" ".join(texts), "", " ".join(texts * 50)])
    assert np.isfinite(embedded).all()
    assert not embedded[1].any()
    np.testing.assert_allclose(embedded[0], embedded[2], atol=2e-6)  # both cut to their first 22 tokens
    assert encoder.embed([]).shape == (0, encoder.embed_dim)


@pytest.mark.parametrize("wrong", ["a text", [1, 2], [None]])
def test_what_is_not_a_list_of_strings_is_refused(encoder: TextEncoder, wrong: object) -> None:
    with pytest.raises(DataError, match="a list of strings"):
        encoder.embed(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_encoder_repeats_the_spectral_vectors(
    tokenizer: TextTokenizer, texts: list[str], architecture: str
) -> None:
    encoder = encoder_of(tokenizer, architecture)
    start = encoder.model.get_input_embeddings().weight.detach()
    assert np.corrcoef(start[5:, :6].flatten(), encoder.static_vectors[5:].flatten())[0, 1] > 0.9999
    features = encoder(encoder.collate(texts))
    first, *others = features.hidden_states
    if architecture == "modernbert":  # the larger epsilon of its norms leaves short vectors a little shorter
        first, *others = (torch.nn.functional.normalize(layer, dim=-1) for layer in (first, *others))
    for layer in others:
        torch.testing.assert_close(layer, first, atol=1e-4, rtol=1e-4)
    assert features.last.std().item() == pytest.approx(1, abs=0.01)


def test_embedding_leaves_the_mode_as_it_was(tokenizer: TextTokenizer, texts: list[str]) -> None:
    encoder = encoder_of(tokenizer).train()
    np.testing.assert_array_equal(encoder.embed(texts), encoder.embed(texts))  # no dropout
    assert encoder.training


@pytest.mark.parametrize("name", ["pooling.safetensors", "model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_or_broken_file_is_refused(tokenizer: TextTokenizer, tmp_path: Path, name: str) -> None:
    encoder_of(tokenizer).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"{broken")
    with pytest.raises(CheckpointError) as caught:
        TextEncoder.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError):
        TextEncoder.from_pretrained(tmp_path)


def test_weights_of_another_size_are_refused(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    encoder_of(tokenizer).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not a text encoder that fits"):
        TextEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpointing_changes_no_bit_of_gradients(
    tokenizer: TextTokenizer, texts: list[str], architecture: str, recwarn: pytest.WarningsRecorder
) -> None:
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        encoder = encoder_of(tokenizer, architecture).train()
        blocks = encoder.model.layers if architecture == "modernbert" else encoder.model.encoder.layer
        if checkpointing:
            encoder.set_gradient_checkpointing(True)
            part = blocks[0].attn if architecture == "modernbert" else blocks[0].intermediate
            part.register_forward_hook(lambda *_: passes.append(1))
        torch.manual_seed(5)
        features = encoder(encoder.collate(texts))
        assert len(features.hidden_states) == 3
        encoder.pooled(features).square()[:, :8].sum().backward()
        assert len(features.hidden_states) == 3
        np.testing.assert_array_equal(encoder.embed(texts[:2]), encoder_of(tokenizer, architecture).embed(texts[:2]))
        return {name: parameter.grad for name, parameter in encoder.named_parameters() if parameter.grad is not None}

    passes: list[int] = []
    plain, checkpointed = gradients(False), gradients(True)
    assert len(passes) == 3  # forward, again in the backward pass, and in `embed`
    assert plain.keys() == checkpointed.keys() and len(plain) > 10
    for name, gradient in plain.items():
        assert torch.equal(gradient, checkpointed[name]), name
    assert not [warning for warning in recwarn if "checkpoint" in str(warning.message)]
