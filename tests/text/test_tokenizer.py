import json
import shutil
from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from transformers import AutoTokenizer

from toolkit.errors import CheckpointError, DataError
from toolkit.text import TokenizerConfig, load_tokenizer, train_tokenizer
from toolkit.text.certificate import ADVERSARIAL, CERTIFICATE, certify, write_certificate
from toolkit.text.tokenizer import (
    SPECIAL_TOKENS,
    SPIECE,
    TextTokenizer,
    build_normalizer,
    mark_periodic_unused,
)


@pytest.fixture
def folder(tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "copy")
    return tmp_path / "copy"


def test_ids_equal_sentencepiece_on_corpus_and_adversarial_strings(
    tokenizer: TextTokenizer, sample_texts: list[str]
) -> None:
    assert len(ADVERSARIAL) >= 27
    texts = [*sample_texts, *ADVERSARIAL, *(text * 40 for text in ADVERSARIAL)]
    assert tokenizer.fast(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode(texts)


@pytest.mark.parametrize("text", ADVERSARIAL)
def test_decoding_gives_back_the_normalised_text(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.fast(text)["input_ids"]
    assert tokenizer.fast.decode(ids[1:-1]) == tokenizer.normalize(text)


def test_normalising_keeps_what_is_visible() -> None:
    plain, folded = build_normalizer(lowercase=False), build_normalizer(lowercase=True)
    assert plain.normalize_str(" Ａ\u3000b\u200bc\x00▁d\n") == "A b c d"
    assert plain.normalize_str("Vie\u0323\u0302t") == "Việt"
    assert folded.normalize_str("Čaša") == "čaša"


def test_special_tokens_have_their_ids_and_text_cannot_forge_them(tokenizer: TextTokenizer) -> None:
    assert [tokenizer.fast.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    ids = tokenizer.fast("a <s> b </s> <mask> <pad>")["input_ids"]
    assert ids[0] == 2 and ids[-1] == 3
    assert min(ids[1:-1]) > 4


def test_auto_tokenizer_opens_the_folder_with_the_same_ids(
    folder: Path, tokenizer: TextTokenizer, sample_texts: list[str]
) -> None:
    opened = AutoTokenizer.from_pretrained(folder)
    texts = [*sample_texts, *ADVERSARIAL]
    assert opened(texts)["input_ids"] == tokenizer.fast(texts)["input_ids"]
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # the name that transformers 4 knows as well


def test_periodic_pieces_are_out_of_use(tokenizer: TextTokenizer) -> None:
    model = model_pb2.ModelProto()
    for piece in ("....", "haha", "ha", "a", "abab", "aba"):
        model.pieces.add(piece=piece, score=-1.0)
    marked = model_pb2.ModelProto.FromString(mark_periodic_unused(model.SerializeToString()))
    unused = {piece.piece for piece in marked.pieces if piece.type == model_pb2.ModelProto.SentencePiece.UNUSED}
    assert unused == {"....", "haha", "abab"}


def test_training_is_reproducible(tokenizer: TextTokenizer, sample_texts: list[str], tmp_path: Path) -> None:
    again = train_tokenizer(sample_texts, TokenizerConfig(vocab_size=700), tmp_path / "again")
    assert again.spiece == tokenizer.spiece


def test_lowercase_is_part_of_the_tokenizer(sample_texts: list[str], tmp_path: Path) -> None:
    folded = train_tokenizer(sample_texts, TokenizerConfig(vocab_size=500, lowercase=True), tmp_path / "folded")
    assert folded.fast("THE FILM")["input_ids"] == folded.fast("the film")["input_ids"]


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        train_tokenizer(["", " "], TokenizerConfig(vocab_size=500), tmp_path)


def test_certificate_counts_a_difference(tokenizer: TextTokenizer, sample_texts: list[str]) -> None:
    model = model_pb2.ModelProto.FromString(tokenizer.spiece)
    longest = max(model.pieces, key=lambda piece: len(piece.piece) * (piece.type == piece.NORMAL))
    longest.type = longest.UNUSED  # on one side only
    other = TextTokenizer(tokenizer.fast, model.SerializeToString())
    certificate = certify(other, sample_texts)
    assert certificate["differing"] > 0 and not any(text in str(certificate["examples"]) for text in sample_texts)
    first = certificate["examples"][0]
    row = int(first.split()[1])
    assert first.startswith("row ") and first.endswith(("(latin)", "(cjk)"))
    assert other.encode([sample_texts[row]]) != [other.fast(sample_texts[row], add_special_tokens=False)["input_ids"]]


def test_a_failed_certificate_is_refused(folder: Path, tokenizer: TextTokenizer) -> None:
    write_certificate(folder, tokenizer.certificate | {"differing": 2, "examples": ["row 7 (thai)"]})
    with pytest.raises(CheckpointError, match="differs from SentencePiece on 2 of 112 texts, such as row 7 \\(thai\\)"):
        load_tokenizer(folder)


def test_changed_files_are_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("Metaspace", "Whitespace", 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match="was changed after it was certified"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", [CERTIFICATE, SPIECE, "tokenizer.json"])
def test_missing_files_are_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_tokenizer(folder)


def test_a_broken_certificate_is_refused(folder: Path) -> None:
    (folder / CERTIFICATE).write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not a certificate"):
        load_tokenizer(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        load_tokenizer(folder)


def test_a_long_run_of_an_unused_piece_is_spelt_alike(tmp_path: Path) -> None:
    """Sixteen rare letters in a row score lower than any fixed distance below the minimum."""
    texts = [f"{word} goes home early" for word in ("anna", "bert", "carl", "dora")] * 30 + ["j" * 16, "q" * 16] * 20
    tokenizer = train_tokenizer([*texts, "j" * 200, "q" * 97], TokenizerConfig(vocab_size=400), tmp_path)
    for text in ("j" * 150, "q" * 33, "anna " + "j" * 64):
        assert tokenizer.fast.encode(text, add_special_tokens=False) == tokenizer.encode([text])[0]
