"""The certificate sees what differs, and a folder without a passed one is refused."""

import shutil
from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from tokenizers import decoders

from toolkit.errors import CheckpointError
from toolkit.text import TokenizerConfig, load_tokenizer, train_tokenizer
from toolkit.text.tokenizer import SPIECE, SentencePieceTokenizer
from toolkit.text.tokenizer.certificate import CERTIFICATE, certify, script_of, write_certificate
from toolkit.text.tokenizer.strings import ADVERSARIAL


@pytest.fixture
def folder(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "copy")
    return tmp_path / "copy"


def test_it_counts_what_was_compared(either: SentencePieceTokenizer, sample_texts: list[str]) -> None:
    certificate = certify(either, sample_texts, num_generated=300)
    assert certificate["differing"] == certificate["lossy"] == 0
    in_other_forms = sum(not text.isascii() for text in sample_texts)
    assert len(sample_texts) <= certificate["texts"] <= len(sample_texts) + in_other_forms
    assert certificate["adversarial"] == len(ADVERSARIAL) and certificate["generated"] == 300
    assert sum(certificate["scripts"].values()) == certificate["texts"] + len(ADVERSARIAL) + 300
    assert len(certificate["scripts"]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_a_hundred_thousand_generated_strings(
    model: str, lowercase: bool, sample_texts: list[str], tmp_path: Path
) -> None:
    config = TokenizerConfig(model=model, vocab_size=1000, lowercase=lowercase, num_generated=100_000)
    certificate = train_tokenizer([*sample_texts, *ADVERSARIAL], config, tmp_path, seed=1).certificate
    assert certificate is not None and certificate["generated"] == 100_000
    assert certificate["differing"] == certificate["lossy"] == 0, certificate["examples"]


def test_a_difference_is_counted_and_named_without_its_text(
    either: SentencePieceTokenizer, sample_texts: list[str]
) -> None:
    model = model_pb2.ModelProto.FromString(either.spiece)
    longest = max(model.pieces, key=lambda piece: len(piece.piece) * (piece.type == piece.NORMAL))
    longest.type = longest.UNUSED  # on one side only
    other = SentencePieceTokenizer(either.fast, model.SerializeToString())
    certificate = certify(other, sample_texts)
    assert certificate["differing"] > 0 and not any(text in str(certificate["examples"]) for text in sample_texts)
    first = next(example for example in certificate["examples"] if example.startswith("row "))
    row = int(first.split()[1])
    assert first.endswith(f"({script_of(sample_texts[row])})")
    assert other.encode([sample_texts[row]]) != [other.fast(sample_texts[row], add_special_tokens=False)["input_ids"]]


def test_a_loss_in_decoding_is_counted(sample_texts: list[str], folder: Path) -> None:
    opened = load_tokenizer(folder)
    opened.fast.backend_tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    assert certify(opened, sample_texts)["lossy"] > 100


def test_a_failed_certificate_is_refused(folder: Path, tokenizer: SentencePieceTokenizer) -> None:
    failed = tokenizer.certificate | {"texts": 112, "differing": 2, "examples": ["row 7 (thai)"]}
    write_certificate(folder, failed)
    with pytest.raises(CheckpointError, match="differs from SentencePiece on 2 of 112 texts, such as row 7 \\(thai\\)"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", SPIECE])
def test_changed_files_are_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"film", b"flim", 1))
    with pytest.raises(CheckpointError, match="was changed after it was certified"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", [CERTIFICATE, "tokenizer.json"])
def test_missing_files_are_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_tokenizer(folder)


def test_a_missing_model_is_refused(folder: Path) -> None:
    (folder / SPIECE).unlink()
    with pytest.raises(CheckpointError, match=rf"{SPIECE}: was changed after it was certified"):
        load_tokenizer(folder)


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"kind": "trained", "sha256": {}}'])
def test_a_broken_certificate_is_refused(folder: Path, content: str) -> None:
    (folder / CERTIFICATE).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not a certificate"):
        load_tokenizer(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        load_tokenizer(folder)
