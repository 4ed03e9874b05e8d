"""Training inside Ray: its workers are processes that train together, as torchrun's are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.test_together import assert_same_run, samples, train

ray = pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_of_ray_train_what_one_process_trains(tmp_path: Path, local_ray: None) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    train(tmp_path / "one")
    TorchTrainer(
        train,
        train_loop_config=tmp_path / "two",
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="two", storage_path=str(tmp_path / "ray")),
    ).fit()
    assert len(list(tmp_path.glob("two-asked-*.jsonl"))) == 2
    assert_same_run(tmp_path, "one", "two")
    assert samples(tmp_path, "one") == samples(tmp_path, "two")
