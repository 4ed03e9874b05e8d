"""What encoders know without training on labels: held-out text, translations, senses of words; in one form."""

from toolkit.embeddings.candidates import Candidate
from toolkit.embeddings.evaluation import (
    BASELINES,
    EvaluationTexts,
    measure_baselines,
    measure_encoder,
    parallel_corpora,
)
from toolkit.embeddings.measurements import remembered, summarise

__all__ = [
    "BASELINES",
    "Candidate",
    "EvaluationTexts",
    "measure_baselines",
    "measure_encoder",
    "parallel_corpora",
    "remembered",
    "summarise",
]
