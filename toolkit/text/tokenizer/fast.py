"""SentencePiece's model as a fast tokenizer with the same ids.

Both take the segmentation with the highest sum of scores, but SentencePiece adds up a whole text in single precision
and the fast tokenizer a word in double, so equal sums (`.` `!` `.!.` and `.!.` `!` `.`) came out unequal and not alike.
Here scores are rounded to multiples of 1/64: then all sums are exact on both sides, and since both break ties alike,
ids are equal by construction and not by luck.
"""

import json
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2 as model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from toolkit.text.tokenizer.base import WORD_START

SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
"""Their positions are their ids in tokenizers that are trained here: pad, unknown, start, end, mask."""
PAD, UNK, BOS, EOS, MASK = range(len(SPECIAL_TOKENS))
STEPS_PER_UNIT = 64
EXACT_SUM = 2**24 / STEPS_PER_UNIT
"""Below it, sums of such scores are exact in single precision."""

_Piece = model_pb2.ModelProto.SentencePiece


def round_scores(spiece: bytes) -> bytes:
    """Rounds the scores of a unigram model to multiples of 1/64; those of BPE are whole numbers already."""
    model = model_pb2.ModelProto.FromString(spiece)
    for piece in model.pieces:
        piece.score = round(piece.score * STEPS_PER_UNIT) / STEPS_PER_UNIT
    return model.SerializeToString()


def is_bpe(spiece: bytes) -> bool:
    """Whether it is byte-pair encoding; otherwise it is a unigram model."""
    model = model_pb2.ModelProto.FromString(spiece)
    return model.trainer_spec.model_type == model_pb2.TrainerSpec.BPE


def build_fast_tokenizer(spiece: bytes, normalizer: normalizers.Normalizer) -> PreTrainedTokenizerFast:
    """The fast tokenizer whose ids equal those of `spiece` on text that `normalizer` normalised."""
    model = model_pb2.ModelProto.FromString(spiece)
    backend = Tokenizer(_bpe(model) if is_bpe(spiece) else _unigram(model))
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
    start, end = SPECIAL_TOKENS[BOS], SPECIAL_TOKENS[EOS]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}",
        special_tokens=[(start, BOS), (end, EOS)],
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


def save_fast(fast: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes a fast tokenizer so that transformers 4 opens it too."""
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # Transformers 5 writes the name of its new base class here, which transformers 4 does not know.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _unigram(model: model_pb2.ModelProto) -> models.Unigram:
    # Only NORMAL pieces may be chosen; the others must stand in the list for the sake of their ids. Spelling
    # the longest of them in single characters must still score higher than the piece itself.
    longest = max(len(piece.piece) for piece in model.pieces)
    never = (longest + 1) * min(piece.score for piece in model.pieces) - 100
    vocabulary = [(piece.piece, piece.score if piece.type == _Piece.NORMAL else never) for piece in model.pieces]
    return models.Unigram(vocabulary, unk_id=model.trainer_spec.unk_id, byte_fallback=True)


def _bpe(model: model_pb2.ModelProto) -> models.BPE:
    """SentencePiece joins any two neighbours that make a piece, the best-scored first and of equals the leftmost; the
    fast tokenizer joins listed pairs, the first listed first. So each piece's splits are all listed, by its score."""
    vocabulary = {piece.piece: index for index, piece in enumerate(model.pieces)}
    normal = {piece.piece for piece in model.pieces if piece.type == _Piece.NORMAL}
    by_score = sorted((piece for piece in model.pieces if piece.piece in normal), key=lambda piece: -piece.score)
    merges = [
        (piece.piece[:cut], piece.piece[cut:])
        for piece in by_score
        for cut in range(1, len(piece.piece))
        if piece.piece[:cut] in normal and piece.piece[cut:] in normal
    ]
    unknown = model.pieces[model.trainer_spec.unk_id].piece
    return models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
