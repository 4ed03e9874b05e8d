"""More pieces for a tokenizer that is there: its ids stay what they are, those of new pieces follow."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as model_pb2
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from toolkit.errors import CheckpointError
from toolkit.text.tokenizer.base import WORD_START, TextTokenizer
from toolkit.text.tokenizer.certificate import certify
from toolkit.text.tokenizer.fast import build_fast_tokenizer, is_bpe, round_scores
from toolkit.text.tokenizer.foreign import ForeignTokenizer
from toolkit.text.tokenizer.foreign_certificate import certify_foreign
from toolkit.text.tokenizer.loading import load_tokenizer
from toolkit.text.tokenizer.sampling import sample_lines
from toolkit.text.tokenizer.sentencepiece import SentencePieceTokenizer
from toolkit.text.tokenizer.training import TokenizerConfig, train_sentencepiece

ROLES = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")

_Piece = model_pb2.ModelProto.SentencePiece


def extend_tokenizer(
    tokenizer: TextTokenizer,
    texts: Iterable[str] | Iterable[tuple[str, ...]],
    config: TokenizerConfig,
    folder: Path,
    seed: int = 0,
) -> TextTokenizer:
    """Adds the pieces that a vocabulary of the corpus would have and `tokenizer` lacks.

    A unigram piece keeps the score that it has in the corpus; both are log-probabilities, so a frequent new piece wins
    against its spelling in old ones. New pieces of BPE are joined after the old ones.

    Args:
        tokenizer: Of fewlabel, or one from elsewhere whose model is unigram or WordPiece.
        texts: The corpus, read once from front to back: texts, or rows of text and language, so that all languages
            are heard.
        config: Of the vocabulary whose pieces are added; `model` and `lowercase` are the old tokenizer's.
        folder: Gets the new tokenizer.
        seed: Of the sample that is learnt from.

    Raises:
        CheckpointError: Pieces cannot be added to a tokenizer of this kind, or the two sides of the new one differ.
        DataError: The texts do not suffice for a vocabulary.
    """
    rows = ((row, "und") if isinstance(row, str) else row[:2] for row in texts)
    lines = sample_lines(rows, config.max_characters, seed).lines
    known = {tokenizer.piece(index) for index in range(len(tokenizer))}
    if isinstance(tokenizer, SentencePieceTokenizer):
        model = model_pb2.ModelProto.FromString(tokenizer.spiece)
        kind = config.model_copy(update={"model": "bpe" if is_bpe(tokenizer.spiece) else "unigram"})
        new = _new_pieces(tokenizer, lines, kind, known)
        lowest = min(piece.score for piece in model.pieces)
        for rank, piece in enumerate(new, start=1):
            model.pieces.append(_Piece(piece=piece.piece, score=lowest - rank if kind.model == "bpe" else piece.score))
        spiece = round_scores(model.SerializeToString())
        normalizer = tokenizer.fast.backend_tokenizer.normalizer
        extended: TextTokenizer = SentencePieceTokenizer(build_fast_tokenizer(spiece, normalizer), spiece)
        training = {"config": kind.model_dump(mode="json"), "seed": seed, "added": len(new)}
        extended.certificate = certify(extended, lines, config.num_generated, seed) | {"training": training}
    else:
        new = _new_pieces(tokenizer, lines, config.model_copy(update={"model": "unigram"}), known)
        extended = ForeignTokenizer(_extended_fast(tokenizer.fast, new))
        extended.certificate = certify_foreign(extended)
    assert [extended.piece(index) for index in range(len(tokenizer))] == [*map(tokenizer.piece, range(len(tokenizer)))]
    extended.save(Path(folder))
    return load_tokenizer(folder)


def _new_pieces(
    tokenizer: TextTokenizer, lines: list[str], config: TokenizerConfig, known: set[str]
) -> list[model_pb2.ModelProto.SentencePiece]:
    trained = model_pb2.ModelProto.FromString(train_sentencepiece(tokenizer.normalize_all(lines), config))
    return [piece for piece in trained.pieces if piece.type == _Piece.NORMAL and piece.piece not in known]


def _extended_fast(
    fast: PreTrainedTokenizerFast, new: list[model_pb2.ModelProto.SentencePiece]
) -> PreTrainedTokenizerFast:
    state: dict[str, Any] = json.loads(fast.backend_tokenizer.to_str())
    model, num_tokens = state["model"], len(fast)
    # Added tokens that lie behind the model's own would lose their ids to the new pieces.
    if len(model.get("vocab", ())) < num_tokens or model["type"] not in ("Unigram", "WordPiece"):
        raise CheckpointError(
            f"start_from.vocabulary: a {model['type']} vocabulary of {num_tokens} tokens cannot be extended; replace it"
        )
    if model["type"] == "Unigram":
        model["vocab"] += [[piece.piece, piece.score] for piece in new]
    else:
        prefix = model["continuing_subword_prefix"]
        for piece in new:
            opens = piece.piece.startswith(WORD_START)
            text = piece.piece[1:] if opens else prefix + piece.piece
            if text and text not in model["vocab"]:
                model["vocab"][text] = len(model["vocab"])
    named = {f"{role}_token": getattr(fast, f"{role}_token") for role in ROLES}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=fast.model_max_length,
        **{role: token for role, token in named.items() if token is not None},
    )
