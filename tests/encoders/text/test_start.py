import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

import toolkit
from tests.encoders.text.foreign import KINDS
from toolkit.encoders import save_encoder
from toolkit.encoders.text import (
    PoolingConfig,
    StartFrom,
    TextEncoder,
    TextEncoderConfig,
    open_encoder,
    start_from,
)
from toolkit.errors import CheckpointError, ConfigError, DataError, FetchError
from toolkit.splits import refuse_seen
from toolkit.text.tokenizer import ForeignTokenizer, TextTokenizer

Make = Callable[..., Path]


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_checkpoint_computes_what_transformers_does(kind: str, make_foreign: Make, texts: list[str]) -> None:
    folder = make_foreign(kind)
    encoder = toolkit.load_encoder(folder)
    assert isinstance(encoder, TextEncoder) and isinstance(encoder.tokenizer, ForeignTokenizer)
    assert encoder.max_length == 40 and encoder.embedding_size == (8 if kind == "electra" else 16)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    ours = encoder.collate(texts)
    assert torch.equal(ours["input_ids"], batch["input_ids"])
    assert torch.equal(ours["attention_mask"], batch["attention_mask"])
    with torch.no_grad():
        theirs = model(**ours, output_hidden_states=True)
        features = encoder(ours)
    for layer, expected in zip(features.hidden_states, theirs.hidden_states, strict=True):
        assert torch.equal(layer, expected)
    assert encoder.lm_head is not None
    logits = encoder.lm_head.logits(features.last, encoder.token_embeddings)
    torch.testing.assert_close(logits, theirs.logits, rtol=1e-5, atol=1e-5)
    mean = (features.last * ours["attention_mask"][..., None])[0, 1 : ours["attention_mask"][0].sum() - 1].mean(0)
    np.testing.assert_allclose(encoder.embed(texts[:1])[0], mean / mean.norm(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_for_fewlabel_and_for_transformers(
    kind: str, make_foreign: Make, texts: list[str], tmp_path: Path
) -> None:
    encoder = open_encoder(make_foreign(kind))
    encoder.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    again = toolkit.load_encoder(tmp_path / "saved")
    np.testing.assert_array_equal(again.embed(texts), encoder.embed(texts))
    batch = encoder.collate(texts)
    headed, loading = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    plain, loading = AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    with torch.no_grad():
        features = encoder(batch)
        assert torch.equal(plain.eval()(**batch).last_hidden_state, features.last)
        logits = again.lm_head.logits(features.last, again.token_embeddings)
        torch.testing.assert_close(headed.eval()(**batch).logits, logits, rtol=1e-5, atol=1e-5)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "saved")(texts[0])["input_ids"]
        == batch["input_ids"][0].tolist()[: int(batch["attention_mask"][0].sum())]
    )


def test_a_checkpoint_without_a_head_has_none(make_foreign: Make, texts: list[str]) -> None:
    folder = make_foreign("bert")
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    encoder = open_encoder(folder)
    assert encoder.lm_head is None
    expected = AutoModel.from_pretrained(folder).eval()(**encoder.collate(texts)).last_hidden_state
    assert torch.equal(encoder(encoder.collate(texts)).last, expected)


@pytest.mark.parametrize(
    ("change", "words"), [("missing", "1 missing"), ("unexpected", "unexpected"), ("shape", "of another shape")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_are_refused_by_name(kind: str, change: str, words: str, make_foreign: Make) -> None:
    folder = make_foreign(kind)
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if "1." in key and weights[key].ndim == 2)
    if change == "missing":
        del weights[name]
    elif change == "shape":
        weights[name] = weights[name][:-1].clone()
    else:
        name = name.replace("1.", "7.", 1)
        weights[name] = torch.zeros(2, 2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=words) as caught:
        open_encoder(folder)
    assert "\n" not in str(caught.value) and name.split(".")[-2] in str(caught.value)


def test_heads_of_other_tasks_are_left_out(make_foreign: Make) -> None:
    folder = make_foreign("bert")
    weights = load_file(folder / "model.safetensors") | {"cls.seq_relationship.weight": torch.zeros(2, 16)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert open_encoder(folder).lm_head is not None


class Runs:
    """What a pickle could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_in_torchs_own_format_are_opened_and_nothing_is_run(
    make_foreign: Make, texts: list[str], tmp_path: Path
) -> None:
    folder = make_foreign("xlm-roberta")
    expected = open_encoder(folder).embed(texts)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    np.testing.assert_array_equal(open_encoder(folder).embed(texts), expected)
    torch.save(weights | {"more": Runs(tmp_path / "was-run")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        open_encoder(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(tmp_path / "was-run")))
    with pytest.raises(CheckpointError):
        open_encoder(folder)
    assert not (tmp_path / "was-run").exists()


def test_a_tokenizer_that_does_not_fit_is_refused_with_the_remedy(make_foreign: Make) -> None:
    folder = make_foreign("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["unheard", "of"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="vocabulary: replace"):
        open_encoder(folder)


def test_code_in_a_checkpoint_is_not_run(make_foreign: Make, tmp_path: Path) -> None:
    folder = make_foreign("bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    auto = {"AutoConfig": "own.Config", "AutoModelForMaskedLM": "own.Model"}
    (folder / "own.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": auto}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="transformers"):
        open_encoder(folder)
    assert not (tmp_path / "was-run").exists()


def test_a_name_that_the_hub_does_not_know_is_one_line() -> None:
    with pytest.raises(FetchError, match="start_from: no such folder! is no folder") as caught:
        open_encoder("no such folder!")
    assert "\n" not in str(caught.value)


def test_a_start_keeps_what_the_checkpoint_computes(make_foreign: Make, texts: list[str]) -> None:
    started = start_from(StartFrom(path=str(make_foreign("xlm-roberta"))))
    before = started.encoder(started.encoder.collate(texts)).last
    tokenizer, rng = started.encoder.tokenizer, np.random.default_rng(0)
    weights = rng.random(len(tokenizer)).astype(np.float32)
    spectral = rng.normal(size=(len(tokenizer), 6)).astype(np.float32)
    encoder, report = started.adapted(
        tokenizer,
        tokenizer.encode(texts),
        ["en"] * len(texts),
        TextEncoderConfig(max_length=30),
        variants={"both": PoolingConfig(static=True)},
        token_weights=weights,
        spectral=spectral,
    )
    assert report is None and encoder.max_length == 30 and encoder.embed_dim == 16 + 6
    assert encoder.lm_head is started.encoder.lm_head is not None
    assert torch.equal(encoder(encoder.collate(texts)).last, before)
    special = [*tokenizer.special]
    assert not encoder.token_weights[[special[0], *special[2:]]].any() and encoder.token_weights[10] == weights[10]


def test_more_tokens_than_positions_are_refused(make_foreign: Make, texts: list[str]) -> None:
    started = start_from(StartFrom(path=str(make_foreign("xlm-roberta"))))
    tokenizer = started.encoder.tokenizer
    for length in (40, 41):
        config = TextEncoderConfig(max_length=length, attn_implementation="eager")
        if length == 41:
            with pytest.raises(ConfigError, match="41 is more than the 40 positions"):
                started.adapted(tokenizer, [], [], config)
        else:
            encoder, _ = started.adapted(tokenizer, [], [], config)
            assert np.isfinite(encoder.embed([" ".join(texts)])).all()
            assert encoder.model.config._attn_implementation == "eager"


def test_a_section_that_sets_what_the_checkpoint_settles_is_refused() -> None:
    start = StartFrom(path="x")
    start.refuse(TextEncoderConfig(max_length=64, attn_implementation="eager"))
    with pytest.raises(ValueError, match=r"encoder.hidden_size: .* leave out hidden_size, num_layers"):
        start.refuse(TextEncoderConfig(num_layers=2, hidden_size=64))


def test_what_it_saw_is_said_by_its_record_or_unknown(
    make_foreign: Make, tokenizer: TextTokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = TextEncoder.from_scratch(TextEncoderConfig(num_layers=1, hidden_size=16, num_heads=2), tokenizer)
    save_encoder(own, tmp_path / "first", ["group-1"])
    second = start_from(StartFrom(path=str(tmp_path / "first")))
    assert second.encoder.variants == own.variants and not isinstance(second.encoder.tokenizer, ForeignTokenizer)
    save_encoder(second.encoder, tmp_path / "second", ["group-2"], second)
    with pytest.raises(DataError, match="group-1"):
        refuse_seen(tmp_path / "second", ["group-1"])
    foreign = start_from(StartFrom(path=str(make_foreign("bert"))))
    save_encoder(foreign.encoder, tmp_path / "third", ["group-2"], foreign)
    refuse_seen(tmp_path / "third", ["group-1"])
    assert str(foreign) == f"foreign-bert {foreign.digest}" and len(foreign.digest) == 16


def test_a_name_on_the_hub_is_opened_at_its_revision(
    make_foreign: Make, tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's client leaves it on the disk; without a network it takes that."""
    folder, commit = make_foreign("bert"), "c0ffee" * 6 + "c0ff"
    cached = tmp_path / "hub" / "models--someone--tiny"
    (cached / "snapshots").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "v1").write_text(commit, encoding="utf-8")
    folder.rename(cached / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = start_from(StartFrom(path="someone/tiny", revision="v1"))
    assert started.folder == cached / "snapshots" / commit and started.encoder.embed(texts).shape == (25, 16)
    assert str(started) == f"someone/tiny {started.digest}"
    (started.folder / "optimizer.pt").write_bytes(b"of a training")
    assert started.start.digest() == started.digest
    (started.folder / "config.json").write_text("{}", encoding="utf-8")
    assert started.start.digest() != started.digest
    with pytest.raises(FetchError, match="someone/tiny is no folder, and the hub does not give it"):
        open_encoder("someone/tiny", "v2")
