"""Networks trained on labels: they learn, they replay, and they leave what they were given as it was."""

import pickle

import numpy as np
import pytest
import torch

from tests.finetune.synthetic import TinyEncoder, scan_task, text_task
from toolkit.finetune.frozen import embed, weights_digest
from toolkit.finetune.task import Task
from toolkit.finetune.trained import FineTune, Scratch, TrainedConfig, _augmented, _batches, probe_head

CONFIG = TrainedConfig(min_steps=60, batch_size=16, lr=1e-2, head_lr=1e-2)


def _fit(method: Scratch | FineTune, task: Task, seed: int = 0) -> np.ndarray:
    return method.fit_predict(task.pool, task.pool_labels, task.test, task.num_classes, seed)


@pytest.mark.parametrize("task", [text_task(), scan_task()], ids=["text", "scans"])
@pytest.mark.parametrize("kind", ["scratch", "finetune"])
def test_they_learn_and_replay(task: Task, kind: str) -> None:
    encoder = TinyEncoder(1)
    before, state = weights_digest(encoder), torch.get_rng_state()
    method = Scratch(encoder, CONFIG) if kind == "scratch" else FineTune(encoder, "simclr", CONFIG)
    probabilities = _fit(pickle.loads(pickle.dumps(method)), task)
    assert probabilities.shape == (len(task.test), task.num_classes)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == task.test_labels) > 0.6
    assert np.array_equal(_fit(method, task), probabilities)
    assert not np.array_equal(_fit(method, task, seed=1), probabilities)
    assert weights_digest(encoder) == before and torch.equal(torch.get_rng_state(), state)


def test_fingerprints_follow_settings_and_weights() -> None:
    tuned = [FineTune(TinyEncoder(seed), "simclr", config) for seed in (0, 1) for config in (CONFIG, TrainedConfig())]
    assert len({method.fingerprint() for method in tuned}) == 4
    assert Scratch(TinyEncoder(0), CONFIG).fingerprint() == Scratch(TinyEncoder(1), CONFIG).fingerprint()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_head_starts_as_a_linear_probe(num_classes: int) -> None:
    task = text_task() if num_classes == 2 else scan_task()
    encoder = TinyEncoder(2)
    features = embed(encoder, task.pool)
    head = probe_head(features, task.pool_labels, num_classes)
    centred = features - features.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())
    from sklearn.linear_model import LogisticRegression

    expected = LogisticRegression(C=10.0, max_iter=300).fit(centred / scale, task.pool_labels)
    with torch.no_grad():
        ours = head(torch.from_numpy(features)).softmax(dim=1).numpy()
    assert np.allclose(ours, expected.predict_proba(centred / scale), atol=1e-4)


def test_a_class_without_labels_is_not_predicted() -> None:
    features = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    head = probe_head(features, np.tile([0, 2], 4), 3)
    with torch.no_grad():
        assert 1 not in head(torch.from_numpy(features)).argmax(dim=1)


def test_batches_are_full_and_take_each_sample_once_in_a_pass() -> None:
    stream = _batches(10, 4, np.random.default_rng(0))
    seen = np.concatenate([next(stream) for _ in range(5)])
    assert np.bincount(seen).tolist() == [2] * 10
    assert sorted(seen[:10]) == list(range(10))


def test_augmentation_shifts_and_mirrors_left_to_right_only() -> None:
    patch = np.zeros((1, 1, 9, 9, 9), dtype=np.float32)
    patch[0, 0, 1, 4, 6] = 1
    found = set()
    for seed in range(200):
        i, j, k = np.argwhere(_augmented(patch, 1, np.random.default_rng(seed))[0, 0])[0]
        found.add((i, j, k))
    assert {i for i, _, _ in found} == {0, 1, 2, 6, 7, 8}
    assert {j for _, j, _ in found} == {3, 4, 5} and {k for _, _, k in found} == {5, 6, 7}
