"""Words in context: does the vector of an ambiguous word (`bank`) tell its senses apart?"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from toolkit.embeddings.measurements import measurements
from toolkit.encoders.text import TextEncoder
from toolkit.errors import DataError
from toolkit.text import Corpus
from toolkit.text.scripts import is_spaceless

TASK = "words in context"


def find_word(text: str, word: str, row: int | None = None) -> tuple[int, int]:
    """Where the word stands in the text: its first character and the one after its last.

    Args:
        text: A sentence.
        word: As it stands there.
        row: Number of the sentence from 0, for the error, which does not show the text.

    Raises:
        DataError: It does not stand there exactly once, as a whole word where words have spaces between.
    """
    free = "" if is_spaceless(word[0]) else r"(?<!\w)"
    found = [match.span() for match in re.finditer(f"{free}{re.escape(word)}{free.replace('<', '')}", text)]
    if len(found) != 1:
        where = "its sentence" if row is None else f"sentence {row + 1}"
        raise DataError(f"words in context: {word!r} must stand exactly once in {where}, not {len(found)} times")
    return found[0]


@torch.inference_mode()
def word_vectors(
    encoder: TextEncoder, texts: Sequence[str], words: Sequence[str], layer: int = -1, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Vectors of one word in each text, and of what stands around it.

    Args:
        encoder: Its tokenizer must give offsets.
        texts: N texts; of one beyond `max_length` the encoder sees as much to both sides of the word.
        words: The word of each.
        layer: Hidden state to take: 0 the embeddings, -1 the last layer.
        batch_size: Texts at a time.

    Returns:
        (N, H) by name: `contextual`, the mean over the word's tokens of the layer; `static`, that of their token
        embeddings, which know nothing of the sentence; `context`, the sum of the token embeddings of the sentence's
        other tokens, a bag of words in the encoder's own space.

    Raises:
        DataError: A word does not stand exactly once in its text, or alone is longer than the encoder takes.
    """
    embeddings_VE = encoder.token_embeddings
    parts: dict[str, list[np.ndarray]] = {"contextual": [], "static": [], "context": []}
    was_training = encoder.training
    encoder.eval()
    tokens = [_tokens(encoder, *pair, row) for row, pair in enumerate(zip(texts, words, strict=True))]
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size]
        hidden_BTH = encoder(encoder.padded([ids for ids, _ in batch])).hidden_states[layer]
        for row, (ids, word) in enumerate(batch):
            vectors_TE = embeddings_VE[torch.tensor(ids, device=embeddings_VE.device)]
            found = {
                "contextual": hidden_BTH[row, 1 + word.start : 1 + word.stop].mean(dim=0),  # after the start token
                "static": vectors_TE[word].mean(dim=0),
                "context": vectors_TE.sum(dim=0) - vectors_TE[word].sum(dim=0),
            }
            for name, vector in found.items():
                parts[name].append(vector.float().cpu().numpy())
    encoder.train(was_training)
    return {name: np.stack(rows) for name, rows in parts.items()}


def _tokens(encoder: TextEncoder, text: str, word: str, row: int) -> tuple[list[int], slice]:
    """The tokens of a text, as many around the word as the encoder takes, and which of them are the word's."""
    first, end = find_word(text, word, row)
    encoded = encoder.tokenizer.fast(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    inside = [place for place, (a, b) in enumerate(spans) if a < end and b > first]
    room = encoder.max_length - 2
    if not inside or len(inside) > room:
        raise DataError(f"words in context: {word!r} has {len(inside)} tokens, and the encoder takes 1 to {room}")
    spare = room - len(inside)
    cut = max(0, min(inside[0] - spare // 2, len(ids) - room))
    return ids[cut : cut + room], slice(inside[0] - cut, inside[-1] + 1 - cut)


def bag_of_context_words(texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """The baseline: TF-IDF of what stands around the word, weighted on these texts, (N, V).

    Terms are words; where there are no spaces, single characters and pairs of them.
    """
    spans = [find_word(*pair, row) for row, pair in enumerate(zip(texts, words, strict=True))]
    contexts = [f"{text[:first]} {text[end:]}" for text, (first, end) in zip(texts, spans, strict=True)]
    weighting = TfidfVectorizer(analyzer=_terms, sublinear_tf=True)
    return weighting.fit_transform(contexts).toarray()


def _terms(context: str) -> list[str]:
    terms = []
    for run in re.findall(r"\w+", context.casefold()):
        if is_spaceless(run[0]):
            terms += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        else:
            terms.append(run)
    return terms


def sense_auc(vectors_ND: np.ndarray, senses_N: np.ndarray) -> float:
    """How surely two sentences of one sense are nearer than two of different senses, by cosine.

    Args:
        vectors_ND: A vector of the same word in each of N sentences.
        senses_N: Its sense there.

    Returns:
        Area under the ROC curve over all pairs of sentences (Mann & Whitney, 1947); .5 is chance, and what vectors that
        are all alike get, since a tie counts half.
    """
    unit_ND = normalize(np.asarray(vectors_ND, dtype=float))
    one, other = np.triu_indices(len(unit_ND), k=1)
    # Rounding is not information: equal vectors are equally near, whatever the order of the sums.
    ranks = rankdata((unit_ND @ unit_ND.T)[one, other].round(6))
    same = np.asarray(senses_N)[one] == np.asarray(senses_N)[other]
    num_same, num_other = int(same.sum()), int((~same).sum())
    return float((ranks[same].sum() - num_same * (num_same + 1) / 2) / (num_same * num_other))


def sense_measurements(vectors_ND: np.ndarray, corpus: Corpus, site: str) -> pd.DataFrame:
    """The AUC of each word, one word a group.

    Args:
        vectors_ND: A vector of each sentence's word.
        corpus: N sentences; the label is the sense, the source the word.
        site: Name of the card.

    Raises:
        DataError: A word has fewer than two senses of two sentences.
    """
    frame, tables = corpus.frame, []
    for (language, word), rows in frame.groupby(["language", "source"], sort=True).indices.items():
        senses = frame["label"].to_numpy()[rows]
        if (np.unique(senses, return_counts=True)[1] >= 2).sum() < 2:
            raise DataError(f"{site}: {word!r} ({language}) needs two senses of two sentences each")
        tables.append(measurements(TASK, language, site, "auc", [word], sense_auc(vectors_ND[rows], senses), 1))
    return pd.concat(tables, ignore_index=True)
