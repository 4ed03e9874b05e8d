"""The baselines: each finds an easy signal, and learns nothing from the test."""

from dataclasses import replace

import numpy as np
import pytest

from tests.finetune.synthetic import TinyEncoder, scan_task, text_task
from toolkit.finetune.baselines import (
    ExternalText,
    KMeansFeatures,
    NearestPosition,
    PrincipalComponents,
    Raw,
    block_means,
)
from toolkit.finetune.frozen import FrozenEncoder, embed, random_encoder, weights_digest
from toolkit.finetune.task import Task, select

METHODS = [Raw(), PrincipalComponents(), KMeansFeatures(num_centres=16)]


def _accuracy(method: object, task: Task) -> float:
    variants = method.features(task)
    labelled, test = ({name: pair[side] for name, pair in variants.items()} for side in (0, 1))
    probabilities = method.classifier.fit_predict(labelled, task.pool_labels, test, task.num_classes)
    return float(np.mean(probabilities.argmax(axis=1) == task.test_labels))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("task", [text_task(), scan_task()], ids=["text", "scans"])
def test_they_find_an_easy_signal(method: object, task: Task) -> None:
    assert _accuracy(method, task) > 0.85


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("task", [text_task(), scan_task()], ids=["text", "scans"])
def test_nothing_is_learnt_from_the_test(method: object, task: Task) -> None:
    half = np.arange(len(task.test) // 2)
    smaller = replace(
        task,
        test=select(task.test, half),
        test_labels=task.test_labels[half],
        test_groups=task.test_groups[half],
    )
    for name, (pool, test) in method.features(task).items():
        other_pool, other_test = method.features(smaller)[name]
        dense = [x.toarray() if hasattr(x, "toarray") else x for x in (pool, test[half], other_pool, other_test)]
        assert np.allclose(dense[0], dense[2], atol=1e-5) and np.allclose(dense[1], dense[3], atol=1e-5)


def test_position_is_the_nearest_labelled_sample() -> None:
    labelled, test = np.array([[0.0, 0, 0], [10, 0, 0]]), np.array([[1.0, 1, 1], [9, 0, 1], [4, 0, 0]])
    probabilities = NearestPosition().fit_predict({"": labelled}, np.array([2, 0]), {"": test}, 3)
    assert probabilities.argmax(axis=1).tolist() == [2, 0, 2]
    assert _accuracy(NearestPosition(), scan_task()) == 1


def test_block_means_are_means_of_blocks() -> None:
    patches = np.arange(2 * 12**3, dtype=np.float32).reshape(2, 1, 12, 12, 12)
    means = block_means(patches, 6)
    assert means.shape == (2, 216) and means[0, 0] == patches[0, 0, :2, :2, :2].mean()


@pytest.mark.parametrize("task", [text_task(), scan_task()], ids=["text", "scans"])
def test_a_frozen_encoder_stays_as_it_is(task: Task) -> None:
    encoder = TinyEncoder(1)
    before = weights_digest(encoder)
    variants = FrozenEncoder(encoder, "simclr").features(task)
    assert list(variants) == ["", "standardised"]
    assert variants[""][0].shape == (len(task.pool), 16) and weights_digest(encoder) == before
    random = random_encoder(encoder, seed=5)
    assert (random.name, random.pretraining) == ("random", "none")
    assert random.fingerprint() == random_encoder(encoder, seed=5).fingerprint() != before


def test_embedding_keeps_the_order_of_texts() -> None:
    encoder, texts = TinyEncoder(), ["zzzz a", "b", "cc dd ee"]
    assert np.allclose(embed(encoder, texts, 2), np.concatenate([embed(encoder, [text]) for text in texts]), atol=1e-6)


@pytest.mark.skipif(not ExternalText.is_installed(), reason="needs the extra `external`")
def test_the_public_encoder_embeds() -> None:
    task = text_task(num_pool=20)
    pool, _ = ExternalText().features(task)[""]
    assert pool.shape == (20, 384) and np.isfinite(pool).all()
    assert _accuracy(ExternalText(), task) > 0.8
