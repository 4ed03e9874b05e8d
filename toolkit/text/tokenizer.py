"""SentencePiece trained here, the same tokenizer as a `PreTrainedTokenizerFast`, and proof that they agree.

Text is normalised *outside* SentencePiece by the very normaliser that ships in the fast tokenizer, so the
model is trained with `identity`. Transformers' own conversions of a fresh `.model` give other ids; this one
is certified on the whole corpus each time (`certificate.py`), and a folder without a passed certificate is
refused.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from pydantic import Field
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from toolkit.config import Section
from toolkit.errors import CheckpointError, DataError
from toolkit.text.certificate import CERTIFICATE, certify, read_certificate, write_certificate

SPIECE = "sentencepiece.model"
WORD_START = "▁"
PAD, UNK, BOS, EOS, MASK = range(5)
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
"""Their positions are their ids: pad, unknown, start, end, mask."""
REQUIRED_CHARACTERS = "".join(sorted(set("".join(SPECIAL_TOKENS) + "<0x0123456789ABCDEF>")))
"""What special tokens and bytes are spelt with: a text that holds such a name must have other pieces to be
made of."""


class TokenizerConfig(Section):
    """How the vocabulary is learnt."""

    vocab_size: int = Field(16000, ge=400)
    """Pieces, special tokens and 256 bytes included; fewer where the corpus does not hold as many."""
    lowercase: bool = False
    """Fold case: fewer pieces for the same words where capitals carry no meaning for the task."""
    character_coverage: float = Field(0.9995, ge=0.9, le=1)
    """Share of the corpus's characters that get pieces of their own; the rest are spelt in bytes."""
    num_threads: int = Field(1, ge=1)
    """Threads of the trainer. The vocabulary depends on it, so it is part of the configuration."""


class TextTokenizer:
    """A SentencePiece model and the fast tokenizer that gives the same ids.

    Attributes:
        fast: For users and for `AutoTokenizer`; carries the normaliser.
        pieces: SentencePiece's processor: several times faster, wants normalised text.
        spiece: Serialised SentencePiece model.
        certificate: Proof that both agree (`certificate.py`); none while it is being made.
    """

    def __init__(self, fast: PreTrainedTokenizerFast, spiece: bytes, certificate: dict[str, Any] | None = None) -> None:
        self.fast = fast
        self.spiece = spiece
        self.certificate = certificate
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=spiece)

    def __len__(self) -> int:
        return len(self.fast)

    def normalize(self, text: str) -> str:
        """What the tokenizer sees of a text, and what decoding gives back."""
        return self.fast.backend_tokenizer.normalizer.normalize_str(text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text by SentencePiece, without start and end."""
        return self.pieces.encode([self.normalize(text) for text in texts])

    def save(self, folder: Path) -> None:
        """Writes what `AutoTokenizer.from_pretrained(folder)` and `load_tokenizer(folder)` open."""
        folder.mkdir(parents=True, exist_ok=True)
        self.fast.save_pretrained(folder)
        config_path = folder / "tokenizer_config.json"
        config = json.loads(config_path.read_text(encoding="utf-8"))
        # Transformers 5 writes the name of its new base class here, which transformers 4 does not know.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config_path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / SPIECE).write_bytes(self.spiece)
        if self.certificate:
            write_certificate(folder, self.certificate)


def train_tokenizer(texts: Sequence[str], config: TokenizerConfig, folder: Path) -> TextTokenizer:
    """Trains, converts, certifies on every one of `texts`, and writes all of it to `folder`.

    Args:
        texts: The corpus; sample it by language beforehand if languages should be balanced.
        config: Vocabulary.
        folder: Gets `tokenizer.json`, `tokenizer_config.json`, `sentencepiece.model` and the certificate.

    Raises:
        DataError: No texts, or too few to learn from.
        CheckpointError: The two sides differ on some text: the certificate says on which.
    """
    normalizer = build_normalizer(config.lowercase)
    lines = [line for line in (normalizer.normalize_str(text) for text in texts) if line]
    if not lines:
        raise DataError("the corpus is empty: no text to train a tokenizer on")
    spiece = mark_periodic_unused(train_sentencepiece(lines, config))
    tokenizer = TextTokenizer(build_fast_tokenizer(spiece, normalizer), spiece)
    tokenizer.certificate = certify(tokenizer, texts)
    tokenizer.save(Path(folder))
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Opens a folder that `train_tokenizer` or an encoder's `save_pretrained` wrote.

    Raises:
        CheckpointError: No tokenizer there, no certificate, or one that failed or belongs to other files.
    """
    folder = Path(folder)
    for name in ("tokenizer.json", SPIECE, CERTIFICATE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder}: has no {name}; a tokenizer must be one that fewlabel trained and certified"
            )
    certificate = read_certificate(folder)
    # split_special_tokens: a literal "<s>" in a user's text is text.
    fast = PreTrainedTokenizerFast.from_pretrained(folder, split_special_tokens=True)
    return TextTokenizer(fast, (folder / SPIECE).read_bytes(), certificate)


def build_normalizer(lowercase: bool) -> normalizers.Normalizer:
    """NFKC; white space, zero-width space, U+2581 and NUL runs to one space; strip; lower case if asked
    for."""
    steps = [normalizers.NFKC(), normalizers.Lowercase()] if lowercase else [normalizers.NFKC()]
    blanks = normalizers.Replace(Regex(r"[\s\u200b\u2581\x00]+"), " ")
    return normalizers.Sequence([*steps, blanks, normalizers.Strip()])


def train_sentencepiece(lines: Iterable[str], config: TokenizerConfig) -> bytes:
    """A unigram model (Kudo, 2018, arXiv:1804.10959) of lines that are normalised already.

    Raises:
        DataError: The lines do not suffice for a vocabulary.
    """
    lines = list(lines)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            byte_fallback=True,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            control_symbols=[SPECIAL_TOKENS[MASK]],
            required_chars=REQUIRED_CHARACTERS,
            max_sentence_length=max(len(line.encode()) for line in lines) + 1,  # in bytes; longer lines are dropped
            num_threads=config.num_threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"no vocabulary of {config.vocab_size} pieces from {len(lines)} texts: {reason}") from None
    return model.getvalue()


def mark_periodic_unused(spiece: bytes) -> bytes:
    """Takes pieces that repeat one unit (`....`, `haha`) out of use.

    `.. .` and `. ..` have the same score, and the two implementations break such ties differently.
    """
    model = model_pb2.ModelProto.FromString(spiece)
    for piece in model.pieces:
        repeats = piece.piece in (piece.piece * 2)[1:-1]  # a string is in its own double's inside if it is periodic
        if piece.type == model_pb2.ModelProto.SentencePiece.NORMAL and repeats:
            piece.type = model_pb2.ModelProto.SentencePiece.UNUSED
    return model.SerializeToString()


def build_fast_tokenizer(spiece: bytes, normalizer: normalizers.Normalizer) -> PreTrainedTokenizerFast:
    """The fast tokenizer whose ids equal those of `spiece` on text that `normalizer` normalised."""
    model = model_pb2.ModelProto.FromString(spiece)
    normal = model_pb2.ModelProto.SentencePiece.NORMAL
    # Only NORMAL pieces may be chosen; the others must stand in the list for the sake of their ids. Spelling
    # the longest of them in single characters must still score higher than the piece itself.
    longest = max(len(piece.piece) for piece in model.pieces)
    never = (longest + 1) * min(piece.score for piece in model.pieces) - 100
    vocabulary = [(piece.piece, piece.score if piece.type == normal else never) for piece in model.pieces]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=model.trainer_spec.unk_id, byte_fallback=True))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme="always", split=True)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(WORD_START, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    for index, token in enumerate(SPECIAL_TOKENS):
        assert backend.token_to_id(token) == index == [piece.piece for piece in model.pieces].index(token)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
