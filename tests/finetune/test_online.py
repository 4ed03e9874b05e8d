"""The neighbours' vote against scikit-learn, and that it looks at the pool alone."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import DataError
from toolkit.finetune.online import LabelledScans, ScanVote, neighbour_accuracy
from toolkit.scans import PatchBatches, Preprocessing, ViewConfig, Volume
from toolkit.scans.store import VolumeStore


def test_the_vote_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    x = rng.normal(size=(60, 5)) + labels[:, None]
    classifier = KNeighborsClassifier(
        7, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / 0.07)
    )
    expected = (cross_val_predict(classifier, x, labels, cv=LeaveOneOut()) == labels).mean()
    assert neighbour_accuracy(x, labels, 7, 0.07) == expected
    assert 0.4 < expected < 1


def test_a_sample_does_not_vote_for_itself() -> None:
    assert neighbour_accuracy(np.eye(2), np.array([0, 1])) == 0


def test_nobody_of_ones_own_group_votes() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 3)
    labels = groups % 2
    x = rng.normal(size=(60, 5)) + 3 * rng.normal(size=(20, 5))[groups]  # alike within a subject, not within a class
    expected = []
    for row in range(60):
        others = groups != groups[row]
        classifier = KNeighborsClassifier(
            7, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / 0.07)
        )
        expected.append(classifier.fit(x[others], labels[others]).predict(x[[row]])[0] == labels[row])
    assert neighbour_accuracy(x, labels, 7, 0.07, groups=groups.tolist()) == np.mean(expected) < 0.7
    assert neighbour_accuracy(x, labels, 7, 0.07) >= 0.9


LABELS = ["a", "", "b", "a", "b", "b", "c", ""]
SUBJECTS = ["s1", "s2", "s3", "s4", "s5", "s3", "s6", "s7"]


def test_labels_of_one_subject_alone_and_scans_without_one_are_left_out() -> None:
    scans = LabelledScans(LABELS, SUBJECTS)
    assert scans.rows.tolist() == [0, 2, 3, 4, 5] and scans.labels.tolist() == [0, 1, 0, 1, 1]
    assert scans.subjects == ["s1", "s3", "s4", "s5", "s3"]
    assert np.bincount(LabelledScans(LABELS, SUBJECTS, per_class=2).labels).tolist() == [2, 2]


@pytest.mark.parametrize("labels", [[""] * 8, ["a"] * 8, ["a", "b", *[""] * 6], ["a", "a", "b", *[""] * 5]])
def test_labels_that_nobody_can_vote_on_are_refused(labels: list[str]) -> None:
    with pytest.raises(DataError, match=r"training\.evaluate_every.*two subjects each.*--link.*leave it empty"):
        LabelledScans(labels, SUBJECTS)


def test_scans_are_judged_by_those_of_other_subjects(tmp_path: Path) -> None:
    """Bright and dark heads; the encoder is untrained, and brightness survives that."""
    store, rng = VolumeStore(tmp_path), np.random.default_rng(0)
    labels = ["bright", "dark", "bright", "dark", "", "dark"]
    volumes = []
    for number, label in enumerate(labels):
        array = rng.uniform(0.1, 0.3, (1, 20, 20, 20)).astype(np.float32) + 0.6 * (label == "bright")
        volumes.append(store.put(f"{number}", Volume(array, np.eye(4))))
    batches = PatchBatches(volumes, ViewConfig(patch_size=8), 4, 0)
    encoder = ScanEncoder(ScanEncoderConfig(patch_size=8, width=4), Preprocessing()).untrained(0)
    assert ScanVote(encoder, batches, LabelledScans(labels, range(6)))() == {"knn_accuracy": 1.0}
    wrong = ["bright", "bright", "dark", "dark", "", "dark"]
    assert ScanVote(encoder, batches, LabelledScans(wrong, range(6)))()["knn_accuracy"] < 1.0
