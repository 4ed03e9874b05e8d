"""Random numbers by counting equal NumPy's Philox with the same key and counter."""

import numpy as np
import pytest

from toolkit.scans.views.draws import Stream, uniform


@pytest.mark.parametrize(("seed", "epoch", "view"), [(0, 0, 0), (3, 7, 1), (2**63 + 5, 2, 9), (-1, 0, 1)])
def test_numbers_are_those_of_numpys_philox(seed: int, epoch: int, view: int) -> None:
    samples = np.array([0, 5, 2**40 + 1])
    found = uniform(seed, epoch, samples, view, Stream.ELASTIC, 11)
    for row, sample in zip(found, samples, strict=True):
        counter, key = np.array([0, sample, view, Stream.ELASTIC]), np.array([seed % 2**64, epoch], np.uint64)
        generator = np.random.Philox(counter=counter, key=key)
        np.testing.assert_array_equal(row, np.random.Generator(generator).random(11))


def test_each_number_of_the_key_matters() -> None:
    def draw(seed: int = 1, epoch: int = 2, sample: int = 3, view: int = 0, stream: Stream = Stream.ZOOM) -> float:
        return float(uniform(seed, epoch, np.array([sample]), view, stream, 1)[0, 0])

    others = [draw(seed=2), draw(epoch=3), draw(sample=4), draw(view=1), draw(stream=Stream.FLIP)]
    assert len({draw(), *others}) == 6


def test_more_numbers_begin_with_the_same_ones() -> None:
    few, many = (uniform(0, 0, np.arange(3), 0, Stream.BLUR, count) for count in (2, 50))
    np.testing.assert_array_equal(many[:, :2], few)


def test_streams_have_their_own_numbers() -> None:
    assert len(set(map(int, Stream))) == len(Stream)
