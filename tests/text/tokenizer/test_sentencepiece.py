"""Both models, unigram and BPE: ids, decoding, what is saved."""

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from transformers import AutoTokenizer

from toolkit.encoders.text import TextEncoderConfig
from toolkit.encoders.text.architecture import transformers_config
from toolkit.text import load_tokenizer
from toolkit.text.tokenizer import SPECIAL_TOKENS, SPIECE, SentencePieceTokenizer
from toolkit.text.tokenizer.fast import STEPS_PER_UNIT
from toolkit.text.tokenizer.strings import ADVERSARIAL, generated_string

REPEATED = [text * 40 for text in ADVERSARIAL]


def test_ids_equal_sentencepiece_on_corpus_and_adversarial_strings(
    either: SentencePieceTokenizer, sample_texts: list[str]
) -> None:
    texts = [*sample_texts, *ADVERSARIAL, *REPEATED]
    alone = sentencepiece.SentencePieceProcessor(model_proto=either.spiece)
    expected = [alone.encode(either.fast.backend_tokenizer.normalizer.normalize_str(text)) for text in texts]
    assert either.fast(texts, add_special_tokens=False)["input_ids"] == expected == either.encode(texts)


def test_a_text_of_any_length_has_the_fast_tokenizers_ids(either: SentencePieceTokenizer) -> None:
    """In one piece, SentencePiece's sums would be rounded."""
    longest = min(either._exact_characters, 10_000)  # byte-pair encoding has no limit
    spaced, unspaced = "a film ...!..!.. ha haha hahaha ", "这本书写得很好，我非常喜欢。...!..!.."
    texts = [spaced * 2000, unspaced * 2000, spaced * 400 + unspaced * 2000 + spaced * 300, "x " + "好" * longest]
    assert all(len(text) > longest for text in texts)
    for text, ids in zip(texts, either.encode(texts), strict=True):
        assert ids == either.fast(text, add_special_tokens=False)["input_ids"]


def test_scores_can_be_added_up_without_rounding(either: SentencePieceTokenizer) -> None:
    scores = np.array([either.pieces.get_score(index) for index in range(len(either))])
    assert np.array_equal(scores * STEPS_PER_UNIT, np.round(scores * STEPS_PER_UNIT))


def test_the_number_of_threads_changes_nothing(either: SentencePieceTokenizer, sample_texts: list[str]) -> None:
    one, three = (either.encode_arrays(sample_texts, num_threads=number) for number in (1, 3))
    assert all(map(np.array_equal, one, three))
    assert one[0].dtype == np.int32


@pytest.mark.parametrize("text", ADVERSARIAL)
def test_decoding_gives_back_the_normalised_text(either: SentencePieceTokenizer, text: str) -> None:
    assert either.decode(either.fast(text)["input_ids"][1:-1]) == either.normalize(text)


def test_special_tokens_have_their_ids_and_text_cannot_forge_them(either: SentencePieceTokenizer) -> None:
    assert [either.fast.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert either.special == (0, 1, 2, 3, 4) and either.special_ids.tolist() == [0, 1, 2, 3, 4]
    ids = either.fast("a <s> b </s> <mask> <pad>")["input_ids"]
    assert ids[0] == 2 and ids[-1] == 3
    assert min(ids[1:-1]) > 4


def test_what_masking_must_know_of_pieces(either: SentencePieceTokenizer) -> None:
    assert either.maskable.sum() == len(either) - 5 and not either.maskable[either.special_ids].any()
    assert either.is_byte.sum() == 256 and either.piece(int(np.flatnonzero(either.is_byte)[65])) == "<0x41>"
    starts = [either.piece(index) for index in np.flatnonzero(either.word_starts)]
    assert starts and all(piece.startswith("▁") for piece in starts)
    assert not either.is_unused.any()


@pytest.mark.parametrize("architecture", ["", "bert", "xlm-roberta", "modernbert", "electra"])
def test_auto_tokenizer_opens_the_folder_with_the_same_ids(
    either: SentencePieceTokenizer, architecture: str, tmp_path: Path
) -> None:
    """Alone, and beside the config.json of a model whose own tokenizer is another."""
    if architecture:
        config = transformers_config(TextEncoderConfig(architecture=architecture), len(either), either.special)
        config.save_pretrained(tmp_path)
    either.save(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*ADVERSARIAL, *(generated_string(7, number) for number in range(200))]
    assert opened(texts)["input_ids"] == either.fast(texts)["input_ids"]
    assert opened.mask_token_id == 4 and opened.pad_token_id == 0
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"  # the name that transformers 4 knows as well


def test_the_digest_is_of_what_decides_ids(either: SentencePieceTokenizer, tmp_path: Path) -> None:
    either.save(tmp_path)
    assert load_tokenizer(tmp_path).digest == either.digest
    assert (tmp_path / SPIECE).read_bytes() == either.spiece
