"""What is refused before the data are prepared."""

import pytest

from tests.training.test_loop import Regression
from toolkit.errors import ConfigError
from toolkit.training import TrainingConfig, preflight


@pytest.mark.parametrize(
    ("values", "trackers", "message"),
    [
        (
            {"micro_batch_size": 4},
            (),
            r"training\.micro_batch_size: 1 batch norms \(net\.1, \.\.\.\).*encoder\.norm: group",
        ),
        ({}, ("mlflow",), r"trackers: mlflow is not installed; pip install 'fewlabel\[mlflow\]'"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(
    values: dict[str, int], trackers: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=message):
        preflight(TrainingConfig(batch_size=16, **values), trackers, Regression())


def test_a_batch_that_the_launched_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"training\.batch_size 16 is not a multiple of the 3 processes"):
        preflight(TrainingConfig(batch_size=16), ())


def test_what_works_passes() -> None:
    preflight(TrainingConfig(batch_size=16), ("tensorboard",), Regression())
    preflight(TrainingConfig(batch_size=16, micro_batch_size=4), ())  # what depends on the method is not known yet
