"""Held-out text: how well each language is predicted, in numbers that encoders with other tokenizers have too."""

import numpy as np
import pandas as pd

from toolkit.embeddings.measurements import measurements
from toolkit.encoders.text import TextEncoder
from toolkit.encoders.text.likelihood import score_texts
from toolkit.splits import thin
from toolkit.text import Corpus

TASK = "held-out text"


def held_out_measurements(
    encoder: TextEncoder, corpus: Corpus, site: str, max_texts: int, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """Scores held-out texts of each language, see `score_texts`.

    Args:
        encoder: With a head.
        corpus: Texts that pretraining never saw.
        site: Name of the card.
        max_texts: So many of each language, at random.
        seed: Of their choice; the same for all encoders.
        progress: Show how far it is.

    Returns:
        Measurements: metric `bits_per_character`; `loss` in nats a token, which only encoders of one tokenizer have in
        common; `lossless`, the share of texts that the tokenizer gives back.

    Raises:
        CheckpointError: The encoder has no head.
    """
    names, codes = np.unique(corpus.languages, return_inverse=True)
    chosen = corpus.take(thin(codes, max_texts, seed=seed))
    scores = score_texts(encoder, chosen.texts, progress=progress)
    tables = []
    for language in names:
        rows = chosen.languages == language
        columns = {
            "bits_per_character": (scores.bits, scores.characters),
            "loss": (scores.loss, scores.tokens),
            "lossless": (scores.is_lossless, np.ones(len(chosen))),
        }
        for metric, (total, count) in columns.items():
            tables.append(measurements(TASK, language, site, metric, chosen.groups[rows], total[rows], count[rows]))
    return pd.concat(tables, ignore_index=True)
