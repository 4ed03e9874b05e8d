"""Finding translations: is a text's translation nearer than all other texts of that language?"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from toolkit.embeddings.measurements import measurements
from toolkit.errors import DataError
from toolkit.text import Corpus

TASK = "translations"
MIN_PAIRS = 20
"""Fewer make a search that chance solves."""

Vectors = np.ndarray | sp.csr_matrix
Embed = Callable[[list[str]], Vectors]


def found_translations(a_ND: Vectors, b_ND: Vectors) -> np.ndarray:
    """Whether row i of `b_ND` is the nearest to row i of `a_ND` by cosine, as in Tatoeba's test.

    Source: Artetxe & Schwenk, 2019, arXiv:1812.10464, section 4.3.

    Args:
        a_ND: Vectors of N texts.
        b_ND: Vectors of their translations, among which each is looked for.

    Returns:
        (N,) 1 where it is, 0 where another is nearer, and one over their number where several are equally near.
    """
    similarity_NN = normalize(a_ND) @ normalize(b_ND).T
    similarity_NN = np.asarray(similarity_NN.toarray() if sp.issparse(similarity_NN) else similarity_NN, dtype=float)
    own_N = similarity_NN.diagonal()
    tolerance = 1e-6  # equal texts are equally near, whatever the order of the sums
    is_nearest_N = own_N >= similarity_NN.max(axis=1) - tolerance
    num_equal_N = (similarity_NN >= own_N[:, None] - tolerance).sum(axis=1)
    return np.where(is_nearest_N, 1 / num_equal_N, 0.0)


def translated_groups(corpus: Corpus, pivot: str, languages: Sequence[str] = ()) -> dict[str, list[str]]:
    """Groups that a language shares with the pivot, of each language with `MIN_PAIRS` of them; all when empty."""
    of = {language: dict.fromkeys(part["group"]) for language, part in corpus.frame.groupby("language", sort=True)}
    others = [one for one in of if one != pivot and (not languages or one in languages)]
    shared = {one: [group for group in of[one] if group in of.get(pivot, ())] for one in others}
    return {language: groups for language, groups in shared.items() if len(groups) >= MIN_PAIRS}


def translation_accuracy(
    embed: Embed, corpus: Corpus, site: str, pivot: str = "en", languages: Sequence[str] = ()
) -> pd.DataFrame:
    """Searches translations between one language and each other, in both directions.

    Args:
        embed: Texts to vectors (N, D).
        corpus: Texts that pretraining never saw; translations share a group, of several texts in one the first counts.
        site: Name of the card, for the column of that name.
        pivot: The language that all others are paired with.
        languages: These others; all when empty.

    Returns:
        Measurements: language `sl-en`, metric `accuracy` over both directions, a group a message.

    Raises:
        DataError: No language has `MIN_PAIRS` translations of texts in the pivot's.
    """
    shared = translated_groups(corpus, pivot, languages)
    if not shared:
        raise DataError(f"{site}: no language has {MIN_PAIRS} held-out texts that translate one in {pivot!r}")
    frame = corpus.frame[np.isin(corpus.languages, [pivot, *shared])].drop_duplicates(["language", "group"])
    vectors = embed(frame["text"].tolist())
    row_of = {key: row for row, key in enumerate(zip(frame["language"], frame["group"], strict=True))}
    tables = []
    for language, groups in shared.items():
        ours, theirs = (vectors[[row_of[one, group] for group in groups]] for one in (language, pivot))
        hits = found_translations(ours, theirs) + found_translations(theirs, ours)
        tables.append(measurements(TASK, f"{language}-{pivot}", site, "accuracy", groups, hits, 2))
    return pd.concat(tables, ignore_index=True)


def character_tfidf(texts: list[str]) -> sp.csr_matrix:
    """The baseline: n-grams of 1 to 5 characters within words, weighted on these texts. It finds names and cognates."""
    weighting = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, dtype=np.float32)
    return weighting.fit_transform(texts)
