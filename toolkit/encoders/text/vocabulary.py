"""Another vocabulary for a trained encoder: rows that it has are copied, the others are mixed of their like.

FOCUS (Dobler & de Melo 2023, arXiv:2305.14481): a new piece gets the weighted mean of the vectors of those pieces that
both vocabularies have, weighted by how like they are in a space that the new corpus itself gives. Here this space is
that of `toolkit.text.spectral`, counted in a minute, where the paper trains fastText.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from transformers import PretrainedConfig

from toolkit.console import log, track
from toolkit.encoders.text.architecture import build_model, first_position, position_table
from toolkit.encoders.text.encoder import TextEncoder
from toolkit.encoders.text.head import LMHead
from toolkit.encoders.text.pooling import PoolingConfig
from toolkit.text.spectral import SpectralConfig, spectral_embeddings, term_counts
from toolkit.text.tokenizer import TextTokenizer

MAX_COSINES = 2**24
"""Cosines in memory at a time: 64 MB of them."""
MAX_SUPPORT = 64
"""Shared pieces that a new one is made of, at most; sparsemax of the highest scores is that of all where it gives no
more than these a part."""


@dataclass(frozen=True)
class VocabularyReport:
    """Where the rows of a new vocabulary come from.

    Attributes:
        special: Taken over by their role: padding, unknown, start, end, mask.
        copied: Pieces that both vocabularies have.
        mixed: Means of copied rows.
        drawn: Drawn at random, since the corpus tells nothing of the piece.
        dropped: Rows of the old vocabulary that the new one has no place for.
    """

    special: int
    copied: int
    mixed: int
    drawn: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{self.copied + self.special} rows copied, {self.mixed} mixed of their like, {self.drawn} drawn at "
            f"random, {self.dropped} dropped"
        )


def sparsemax(scores_NK: np.ndarray) -> np.ndarray:
    """The point of the simplex nearest to each row of scores (Martins & Astudillo 2016, arXiv:1602.02068).

    Args:
        scores_NK: Scores.

    Returns:
        (N, K) weights, zero or more, that add up to 1 in each row; most of them are exactly 0.
    """
    sorted_NK = -np.sort(-scores_NK, axis=1)
    through_NK = np.cumsum(sorted_NK, axis=1)
    counts_K = np.arange(1, scores_NK.shape[1] + 1)
    support_N = (1 + counts_K * sorted_NK > through_NK).sum(axis=1)
    threshold_N = (through_NK[np.arange(len(scores_NK)), support_N - 1] - 1) / support_N
    return np.maximum(scores_NK - threshold_N[:, None], 0)


def likeness_weights(vectors_VS: np.ndarray, new_N: np.ndarray, known_K: np.ndarray) -> sp.csr_matrix:
    """What each new piece is to be mixed of: sparsemax of its cosines with the known pieces.

    Args:
        vectors_VS: Vectors of all pieces in one space; zero where nothing is known of a piece.
        new_N: Ids of the pieces to mix.
        known_K: Ids of the pieces to mix them of.

    Returns:
        (N, K); a row adds up to 1, or is empty where the piece or all known ones have no vector.
    """
    lengths = np.linalg.norm(vectors_VS, axis=1, keepdims=True)
    unit_VS = (vectors_VS / np.maximum(lengths, 1e-12)).astype(np.float32)
    seen = lengths[:, 0] > 0
    columns = np.flatnonzero(seen[known_K])
    rows = np.flatnonzero(seen[new_N])
    parts = []
    if len(columns):
        known_SK = unit_VS[known_K[columns]].T
        at_once = max(1, MAX_COSINES // len(columns))
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            cosines = unit_VS[new_N[part]] @ known_SK
            support = min(MAX_SUPPORT, len(columns))
            best = np.argpartition(-cosines, support - 1, axis=1)[:, :support]
            weights = sparsemax(np.take_along_axis(cosines, best, axis=1).astype(np.float64))
            parts.append((weights.ravel(), np.repeat(part, best.shape[1]), columns[best].ravel()))
    data, row, column = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else ([], [], [])
    weights = sp.csr_matrix((data, (row, column)), shape=(len(new_N), len(known_K)))
    weights.eliminate_zeros()
    return weights


def focus_weights(
    ids: Sequence[Sequence[int]],
    languages: Sequence[str] | np.ndarray,
    vocab_size: int,
    new_N: np.ndarray,
    known_K: np.ndarray,
    config: SpectralConfig,
    seed: int,
) -> sp.csr_matrix:
    """`likeness_weights` in each language's own space, averaged by how often a language has the piece.

    Args:
        ids: The corpus in the new vocabulary, without special tokens.
        languages: Of each text.
        vocab_size: V.
        new_N: Ids of the pieces to mix.
        known_K: Ids of the pieces to mix them of.
        config: Of the space.
        seed: Of its factorisation.

    Returns:
        (N, K); a row adds up to 1, or is empty where the corpus tells nothing of the piece.
    """
    languages = np.asarray(languages, dtype=object)
    total = sp.csr_matrix((len(new_N), len(known_K)))
    for language in track(sorted(set(languages)), "likeness of new pieces"):
        own = [ids[row] for row in np.flatnonzero(languages == language)]
        vectors = spectral_embeddings(own, [language] * len(own), vocab_size, config, seed)
        frequency = np.asarray(term_counts(own, vocab_size).sum(axis=0)).ravel()
        total = total + sp.diags(frequency[new_N]) @ likeness_weights(vectors, new_N, known_K)
    sums = np.asarray(total.sum(axis=1)).ravel()
    return (sp.diags(1 / np.where(sums > 0, sums, 1)) @ total).tocsr()


def matching_pieces(source: TextTokenizer, target: TextTokenizer) -> tuple[np.ndarray, np.ndarray, int]:
    """Which tokens of two vocabularies are the same.

    Args:
        source: The old tokenizer.
        target: The new one.

    Returns:
        Their ids in the new and in the old vocabulary, and how many of them are special: those come first, by role.
    """
    roles = list(zip(target.special, source.special, strict=True))
    special = (set(source.special_ids.tolist()), set(target.special_ids.tolist()))
    old_of = {source.piece(index): index for index in range(len(source)) if index not in special[0]}
    old_of.pop("", None)  # ids that stand for nothing
    pairs = [
        (index, old_of[piece])
        for index in range(len(target))
        if index not in special[1] and (piece := target.piece(index)) in old_of
    ]
    new, old = np.array([*roles, *pairs], dtype=np.int64).reshape(-1, 2).T
    return new, old, len(roles)


def replace_vocabulary(
    encoder: TextEncoder,
    tokenizer: TextTokenizer,
    ids: Sequence[Sequence[int]],
    languages: Sequence[str] | np.ndarray,
    *,
    method: Literal["focus", "random"] = "focus",
    config: SpectralConfig | None = None,
    seed: int = 0,
) -> tuple[TextEncoder, VocabularyReport]:
    """A trained encoder with another tokenizer; its blocks stay as they are.

    Args:
        encoder: Trained with its own tokenizer.
        tokenizer: The new one.
        ids: The corpus in the new vocabulary, without special tokens.
        languages: Of each text.
        method: "random" draws the rows of new pieces, which FOCUS is measured against.
        config: Of the space in which pieces are compared.
        seed: Of that space, and of what is drawn.

    Returns:
        A new encoder that pools the mean of its last layer, and where its rows come from.
    """
    num_tokens, rng = len(tokenizer), np.random.default_rng([seed])
    new_K, old_K, num_special = matching_pieces(encoder.tokenizer, tokenizer)
    fresh_N = np.setdiff1d(np.arange(num_tokens), new_K)
    weights = sp.csr_matrix((len(fresh_N), len(new_K) - num_special))
    if method == "focus" and len(fresh_N):
        known = new_K[num_special:]
        weights = focus_weights(ids, languages, num_tokens, fresh_N, known, config or SpectralConfig(), seed)
    drawn = np.diff(weights.indptr) == 0

    def rows(source_RE: Tensor) -> Tensor:
        old_RE = source_RE.detach().float().cpu().numpy()
        new_VE = np.empty((num_tokens, *old_RE.shape[1:]), np.float32)
        new_VE[new_K] = old_RE[old_K]
        new_VE[fresh_N] = weights @ old_RE[old_K[num_special:]]
        used = old_RE[: len(encoder.tokenizer)]  # further ones are there to fill up, and were never trained
        new_VE[fresh_N[drawn]] = rng.normal(used.mean(axis=0), used.std(axis=0), (drawn.sum(), *old_RE.shape[1:]))
        return torch.from_numpy(new_VE)

    model_config = _with_tokens(encoder, tokenizer)
    with torch.random.fork_rng(devices=[]):  # the random weights do not last
        model = build_model(model_config)
    state = dict(encoder.model.state_dict())
    state[_name_of(encoder, encoder.token_embeddings)] = rows(encoder.token_embeddings)
    old_positions, positions = position_table(encoder.model), position_table(model)
    if old_positions is not None and positions is not None:  # the same ones, counted from another padding id
        moved = positions.weight.detach().clone()
        moved[first_position(model) :] = old_positions.weight[encoder.first_position :]
        state[_name_of(encoder, old_positions.weight)] = moved
    model.load_state_dict(state)
    lm_head = None
    if encoder.lm_head is not None:
        lm_head = LMHead.like(model_config)
        kept = encoder.lm_head.state_dict()
        lm_head.load_state_dict(kept | {"bias": rows(kept["bias"])})
    report = VocabularyReport(
        special=num_special,
        copied=len(new_K) - num_special,
        mixed=int((~drawn).sum()),
        drawn=int(drawn.sum()),
        dropped=len(encoder.tokenizer) - len(np.unique(old_K)),
    )
    log.info("vocabulary of %d instead of %d: %s", num_tokens, len(encoder.tokenizer), report)
    variants = {"last": PoolingConfig()}
    replaced = type(encoder)(model, tokenizer, variants=variants, max_length=encoder.max_length, lm_head=lm_head)
    return replaced.train(encoder.training), report


def _with_tokens(encoder: TextEncoder, tokenizer: TextTokenizer) -> PretrainedConfig:
    """The encoder's configuration with the tokenizer's size and special ids."""
    config, special = deepcopy(encoder.model.config), tokenizer.special
    if encoder.first_position:
        config.max_position_embeddings += special.pad + 1 - encoder.first_position
    config.vocab_size = len(tokenizer)
    roles = {"pad": special.pad, "bos": special.bos, "eos": special.eos, "cls": special.bos, "sep": special.eos}
    for role, index in roles.items():
        if getattr(config, f"{role}_token_id", None) is not None:
            setattr(config, f"{role}_token_id", index)
    return config


def _name_of(encoder: TextEncoder, wanted: Tensor) -> str:
    return next(name for name, parameter in encoder.model.named_parameters() if parameter is wanted)
