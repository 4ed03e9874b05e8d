"""How well an encoder with a head predicts texts: loss, and bits per character that tokenizers have in common."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import BatchEncoding

from toolkit.console import track
from toolkit.encoders.text.encoder import TextEncoder
from toolkit.errors import CheckpointError
from toolkit.text.units import character_units, token_units

NUM_FOLDS = 7
"""Each unit is hidden once, with every seventh of its text: a share of .14, about what pretraining hides."""
MAX_LOGITS = 2**24
"""Logits in memory at a time: 64 MB of them."""


@dataclass(frozen=True)
class Likelihood:
    """What an encoder makes of N texts; sums over texts are to be divided by sums.

    Attributes:
        bits: (N,) to spell the text out, see `score_texts`.
        characters: (N,) Unicode characters of its composed form (NFC), runs of white space counted as one.
        loss: (N,) in nats, summed over tokens: with all of a hidden word's tokens hidden, as in pretraining, or of the
            next token where the encoder is causal.
        tokens: (N,) how many.
        is_lossless: (N,) whether decoding gives the text back, compatibility forms (NFKC) and white space aside.
    """

    bits: np.ndarray
    characters: np.ndarray
    loss: np.ndarray
    tokens: np.ndarray
    is_lossless: np.ndarray


class _Row(NamedTuple):
    """One sequence for the model, and what is read off it."""

    text: int
    ids: np.ndarray
    """(T,) without start and end."""
    places: np.ndarray
    """(M,) where hidden states are taken, the start counted as 0."""
    targets: np.ndarray
    """(M,) what is to be predicted there."""
    in_loss: np.ndarray
    """(M,) whether it counts in the loss."""
    in_bits: np.ndarray
    """(M,) whether it counts in the bits."""


def score_texts(encoder: TextEncoder, texts: Sequence[str], batch_size: int = 64, progress: bool = False) -> Likelihood:
    """Loss and bits of texts. Nothing is random, and every token is asked for exactly once.

    A causal encoder gives the true code length: the sum of -log2 p(token | all before it), the end included.

    For a masked one the text is cut into units that no tokenizer has a say in (`toolkit.text.units`): words, or four
    characters where there are no spaces. Every seventh is hidden at a time, seven times over, so that each is hidden
    once. A hidden unit is spelt out from left to right, each token given those before it in its unit and all that is
    not hidden (Kauf & Ivanova, 2023, arXiv:2305.10588, with several units at a time, which show their tokens in step).
    What is summed is -log2 q(hidden units | the rest, and how many tokens each unit has) of a proper distribution, so
    many small pieces are charged like few large ones, but for the little that their number gives away. It is less than
    a code length, since a unit is told what follows it: compare with other masked encoders only.

    An unknown token is charged the bytes that it stands for on top, 8 bits each: to forget is not to predict. A
    tokenizer that folds case or drops accents codes less than the text; `is_lossless` tells. A text beyond `max_length`
    is scored in windows, and an encoder sees no further than its own.

    Args:
        encoder: With a head.
        texts: N texts.
        batch_size: Sequences at a time, of like length; a masked encoder sees each text about ten times.
        progress: Show how far it is.

    Raises:
        CheckpointError: It has no head.
    """
    if encoder.lm_head is None:
        raise CheckpointError(
            "the encoder has no language-model head, so it predicts no token; take one that mlm or clm pretrained"
        )
    encoded = [encoder.tokenizer.fast(t, add_special_tokens=False, return_offsets_mapping=True) for t in texts]
    units = [token_units(character_units(t), e["offset_mapping"]) for t, e in zip(texts, encoded, strict=True)]
    rows = [row for i, e in enumerate(encoded) for row in _rows(encoder, i, np.array(e["input_ids"]), units[i])]
    order = np.argsort([len(row.ids) for row in rows], kind="stable")
    batches = [[rows[i] for i in order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    bits, loss, tokens = (np.zeros(len(texts)) for _ in range(3))
    was_training = encoder.training
    encoder.eval()
    for batch in track(batches, "scoring texts") if progress else batches:
        for row, nats in zip(batch, _nats(encoder, batch), strict=True):
            bits[row.text] += nats[row.in_bits].sum() / np.log(2)
            loss[row.text] += nats[row.in_loss].sum()
            tokens[row.text] += row.in_loss.sum()
    encoder.train(was_training)
    return Likelihood(
        bits=bits + [8.0 * _num_unknown_bytes(encoder, t, e) for t, e in zip(texts, encoded, strict=True)],
        characters=np.array([len(unicodedata.normalize("NFC", " ".join(text.split()))) for text in texts], dtype=float),
        loss=loss,
        tokens=tokens,
        is_lossless=np.array([_is_given_back(encoder, t, e) for t, e in zip(texts, encoded, strict=True)], dtype=bool),
    )


@torch.inference_mode()
def _nats(encoder: TextEncoder, rows: Sequence[_Row]) -> list[np.ndarray]:
    """-log p of each row's targets, (M,) float64."""
    batch = encoder.padded([row.ids.tolist() for row in rows])
    ids_BT = batch["input_ids"]
    flat = np.concatenate([number * ids_BT.shape[1] + row.places for number, row in enumerate(rows)])
    targets_M = torch.from_numpy(np.concatenate([row.targets for row in rows])).to(ids_BT.device)
    hidden_MH = encoder(batch).last.flatten(0, 1)[torch.from_numpy(flat).to(ids_BT.device)]
    nats = _minus_log_p(encoder, hidden_MH, targets_M).cpu().numpy()
    return np.split(nats, np.cumsum([len(row.places) for row in rows])[:-1])


def _minus_log_p(encoder: TextEncoder, hidden_MH: Tensor, targets_M: Tensor) -> Tensor:
    """(M,) float64, a few positions at a time: a large vocabulary has many logits."""
    embeddings_VE = encoder.token_embeddings
    chunk = max(1, MAX_LOGITS // len(embeddings_VE))
    parts = []
    for start in range(0, len(hidden_MH), chunk):
        logits_MV = encoder.lm_head.logits(hidden_MH[start : start + chunk], embeddings_VE).float()
        of_target_M = logits_MV.gather(1, targets_M[start : start + chunk, None])[:, 0]
        parts.append((logits_MV.logsumexp(dim=1) - of_target_M).double())
    return torch.cat(parts)


def _rows(encoder: TextEncoder, text: int, ids: np.ndarray, units: np.ndarray) -> Iterator[_Row]:
    for start, end in _windows(units, encoder.max_length - 2):
        if encoder.is_causal:
            yield _causal_row(encoder, text, ids[start:end], is_last=end == len(ids))
        else:
            yield from _masked_rows(encoder, text, ids[start:end], units[start:end])


def _causal_row(encoder: TextEncoder, text: int, ids: np.ndarray, is_last: bool) -> _Row:
    targets = np.r_[ids, encoder.tokenizer.special.eos] if is_last else ids
    every = np.ones(len(targets), dtype=bool)
    return _Row(text, ids, np.arange(len(targets)), targets, every, every)


def _masked_rows(encoder: TextEncoder, text: int, ids: np.ndarray, units: np.ndarray) -> Iterator[_Row]:
    """In each fold one row a step: in step j the hidden units' first j tokens are shown, and token j counts."""
    first = np.flatnonzero(np.r_[True, units[1:] != units[:-1]])
    rank = np.arange(len(ids)) - np.repeat(first, np.diff(np.r_[first, len(ids)]))  # in its unit
    for fold in np.unique(units % NUM_FOLDS):
        in_fold = units % NUM_FOLDS == fold
        for step in range(rank[in_fold].max() + 1):
            hidden = in_fold & (rank >= step)
            asked = np.flatnonzero(hidden if step == 0 else hidden & (rank == step))
            shown = np.where(hidden, encoder.tokenizer.special.mask, ids)
            in_loss = np.full(len(asked), step == 0)
            yield _Row(text, shown, asked + 1, ids[asked], in_loss, rank[asked] == step)


def _windows(units: np.ndarray, room: int) -> Iterator[tuple[int, int]]:
    """Cuts tokens into stretches of at most `room`, between units where that can be."""
    start = 0
    while start < len(units):
        end = min(start + room, len(units))
        if end < len(units):
            between = int(np.searchsorted(units, units[end]))
            end = between if between > start else end
        yield start, end
        start = end


def _num_unknown_bytes(encoder: TextEncoder, text: str, encoded: BatchEncoding) -> int:
    """Bytes of the text that became unknown tokens."""
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    spans = {tuple(span) for index, span in pairs if index == encoder.tokenizer.special.unk}
    return sum(len(text[start:end].encode("utf-8", "surrogatepass")) for start, end in spans)


def _is_given_back(encoder: TextEncoder, text: str, encoded: BatchEncoding) -> bool:
    """Whether decoding gives the text, compatibility forms and white space aside."""
    both = (encoder.tokenizer.decode(encoded["input_ids"]), text)
    decoded, given = ("".join(unicodedata.normalize("NFKC", one).split()) for one in both)
    return decoded == given
