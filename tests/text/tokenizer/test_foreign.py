"""Tokenizers from elsewhere, made here: WordPiece, byte-level BPE, and Unigram as XLM-R has it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from toolkit.errors import CheckpointError
from toolkit.text import load_tokenizer
from toolkit.text.tokenizer import ForeignTokenizer, load_foreign_tokenizer
from toolkit.text.tokenizer.certificate import CERTIFICATE

Make = Callable[[list[str]], PreTrainedTokenizerFast]
BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}


def wordpiece(texts: list[str]) -> PreTrainedTokenizerFast:
    """As BERT's: folds case, strips accents, has unused ids, knows no bytes."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    ids = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return _wrapped(backend, BERT)


def byte_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """As RoBERTa's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*ROBERTA.values()], initial_alphabet=alphabet)
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return _wrapped(backend, ROBERTA)


def unigram(texts: list[str]) -> PreTrainedTokenizerFast:
    """As XLM-R's: no bytes, the mask at the end."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens(["<mask>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _wrapped(backend, ROBERTA)


def _wrapped(backend: Tokenizer, roles: dict[str, str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{role}_token": token for role, token in roles.items()}
    )


KINDS: dict[str, Make] = {"wordpiece": wordpiece, "byte_level": byte_level, "unigram": unigram}


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, sample_texts: list[str], tmp_path: Path) -> ForeignTokenizer:
    KINDS[request.param](sample_texts).save_pretrained(tmp_path / "raw")
    return load_foreign_tokenizer(tmp_path / "raw", [(text, "xx") for text in sample_texts])


def test_ids_are_those_of_the_tokenizer(opened: ForeignTokenizer, sample_texts: list[str], tmp_path: Path) -> None:
    raw = Tokenizer.from_file(str(tmp_path / "raw" / "tokenizer.json"))
    assert opened.encode(sample_texts) == [raw.encode(text, add_special_tokens=False).ids for text in sample_texts]
    assert opened.certificate["other_than_file"] == 0


def test_special_ids_are_its_own(opened: ForeignTokenizer) -> None:
    with_special = opened.fast("film")["input_ids"]
    assert (opened.special.bos, opened.special.eos) == (with_special[0], with_special[-1])
    for name in ("pad", "unk", "mask"):
        assert getattr(opened.special, name) == getattr(opened.fast, f"{name}_token_id")
    assert not opened.maskable[opened.special_ids].any()
    ids = opened.encode([f"a {opened.fast.mask_token} b"])[0]
    assert opened.special.mask not in ids  # a name in a text is text


def test_pieces_are_spelt_as_sentencepiece_does(opened: ForeignTokenizer) -> None:
    ids = opened.encode(["The film, the book"])[0]
    spelt = "".join(opened.piece(index) for index in ids)
    assert spelt.replace("▁,", ",").lower().lstrip("▁") == "the▁film,▁the▁book"
    assert opened.word_starts[[index for index in ids if opened.piece(index).startswith("▁")]].all()


def test_reserved_ids_are_never_drawn(sample_texts: list[str]) -> None:
    tokenizer = ForeignTokenizer(wordpiece(sample_texts))
    reserved = tokenizer.fast.convert_tokens_to_ids(["[unused0]", "[unused1]"])
    assert np.flatnonzero(tokenizer.is_unused).tolist() == reserved
    assert not tokenizer.maskable[reserved].any()


def test_bytes_are_known(sample_texts: list[str]) -> None:
    tokenizer = ForeignTokenizer(byte_level(sample_texts))
    ids = tokenizer.encode(["\U00020000"])[0]
    assert "".join(map(tokenizer.piece, ids)) == "<0xF0><0xA0><0x80><0x80>"
    assert tokenizer.is_byte[ids].all()
    assert not tokenizer.is_byte[tokenizer.encode(["film"])[0]].any()


def test_the_certificate_says_what_is_lost(sample_texts: list[str], tmp_path: Path) -> None:
    found = {}
    for name, make in KINDS.items():
        make(sample_texts).save_pretrained(tmp_path / name)
        rows = [*((text, "xx") for text in sample_texts), ("čudovit Ωmega \U0001f9ff", "yy")]
        found[name] = load_foreign_tokenizer(tmp_path / name, rows).certificate
    assert found["byte_level"]["lossy"] == 0 < found["unigram"]["lossy"]
    assert found["byte_level"]["languages"]["yy"]["dropped_bytes"] == 0
    assert found["byte_level"]["languages"]["yy"]["byte_fallback_share"] > 0
    assert found["unigram"]["languages"]["yy"]["unknown_share"] > 0
    assert found["unigram"]["languages"]["yy"]["dropped_bytes"] >= 4  # the emoji
    assert found["wordpiece"]["languages"]["yy"]["dropped_bytes"] >= 4


def test_it_is_saved_with_its_certificate_and_opened_again(opened: ForeignTokenizer, tmp_path: Path) -> None:
    opened.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert isinstance(again, ForeignTokenizer)
    assert again.encode(["Ein film, <s> [MASK]"]) == opened.encode(["Ein film, <s> [MASK]"])
    assert again.special == opened.special and again.certificate["kind"] == "foreign"
    certificate = json.loads((tmp_path / "saved" / CERTIFICATE).read_text(encoding="utf-8"))
    assert certificate["languages"]["xx"]["texts"] == 112
    path = tmp_path / "saved" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(CheckpointError, match="was changed after it was certified"):
        load_tokenizer(tmp_path / "saved")


def test_what_cannot_be_used_is_refused(sample_texts: list[str], tmp_path: Path) -> None:
    for lacking in ("pad", "mask"):
        fast = unigram(sample_texts)
        setattr(fast, f"{lacking}_token", None)
        with pytest.raises(CheckpointError, match=f"has no {lacking} token"):
            ForeignTokenizer(fast, origin="there")
    fast = byte_level(sample_texts)
    fast.backend_tokenizer.post_processor = processors.ByteLevel()
    with pytest.raises(CheckpointError, match="there: its tokenizer puts 0 special tokens around a text"):
        ForeignTokenizer(fast, origin="there")
    with pytest.raises(CheckpointError, match="transformers opens no tokenizer there"):
        load_foreign_tokenizer(tmp_path)
