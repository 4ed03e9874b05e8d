"""Where metrics go besides metrics.jsonl: TensorBoard, MLflow, Weights & Biases, behind one small protocol.

A tracker is a convenience: one that cannot be reached is given up with a warning, and the run goes on.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from toolkit.console import log
from toolkit.errors import ConfigError


class Tracker(Protocol):
    """Takes the values of a logged step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values after `step` steps."""
        ...

    def close(self) -> None:
        """Sends what is left."""
        ...


def open_trackers(
    names: Sequence[str], folder: Path, run_name: str, config: Mapping[str, Any], first_step: int = 0
) -> list[Tracker]:
    """Opens the trackers that a configuration names.

    Args:
        names: Among "tensorboard", "mlflow" and "wandb". The latter two heed their own environment variables
            (MLFLOW_TRACKING_URI, WANDB_MODE, ...).
        folder: Of the run. TensorBoard writes to `tensorboard/` in it; `trackers.json` remembers the ids of the others'
            runs, so that a resumed run goes on in them.
        run_name: How they call the run.
        config: Values that they show beside it.
        first_step: Where a resumed run goes on: what TensorBoard has of later steps is dropped.

    Raises:
        ConfigError: A package is missing; the message says how to get it.
    """
    trackers: list[Tracker] = []
    for name in names:
        opened = _OPENERS[name](_module(name), folder, run_name, config, first_step)
        trackers.append(_Careful(name, *opened))
    return trackers


class _Careful:
    """Gives up for good at the first error of what it wraps."""

    def __init__(self, name: str, write: Callable[[int, Mapping[str, float]], None], close: Callable[[], None]) -> None:
        self._name, self._write, self._close, self._alive = name, write, close, True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self._write(step, values))

    def close(self) -> None:
        self._try(self._close)

    def _try(self, act: Callable[[], None]) -> None:
        if not self._alive:
            return
        try:
            act()
        except Exception as error:  # of somebody else's server: nothing that it can say is worth the run
            self._alive = False
            log.warning("%s: given up (%s); metrics.jsonl has all", self._name, str(error).partition("\n")[0])


_Opened = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], None]]


def _tensorboard(module: Any, folder: Path, run_name: str, config: Mapping[str, Any], first_step: int) -> _Opened:
    writer = module.SummaryWriter(str(folder / "tensorboard" / run_name), purge_step=first_step + 1)

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return write, writer.close


def _mlflow(module: Any, folder: Path, run_name: str, config: Mapping[str, Any], first_step: int) -> _Opened:
    client = module.MlflowClient()
    run_id = _remembered(folder, f"mlflow/{run_name}")
    if run_id is None:
        experiment = client.get_experiment_by_name("fewlabel")
        experiment_id = experiment.experiment_id if experiment else client.create_experiment("fewlabel")
        run_id = client.create_run(experiment_id, run_name=run_name).info.run_id
        for key, value in config.items():
            client.log_param(run_id, key, value)
        _remember(folder, f"mlflow/{run_name}", run_id)

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            client.log_metric(run_id, name, value, step=step)

    return write, lambda: client.set_terminated(run_id)


def _wandb(module: Any, folder: Path, run_name: str, config: Mapping[str, Any], first_step: int) -> _Opened:
    run = module.init(
        project="fewlabel",
        name=run_name,
        config=dict(config),
        dir=str(folder),
        id=_remembered(folder, f"wandb/{run_name}"),
        resume="allow",
        settings=module.Settings(console="off", host="fewlabel", disable_git=True, save_code=False),
    )
    _remember(folder, f"wandb/{run_name}", run.id)
    return lambda step, values: run.log(dict(values), step=step), run.finish


_OPENERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
_MODULES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


def _module(name: str) -> Any:
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError:
        package = name if name == "tensorboard" else f"'fewlabel[{name}]'"
        raise ConfigError(f"trackers: {name} is not installed; pip install {package}, or take it out") from None


def _remembered(folder: Path, key: str) -> str | None:
    path = folder / "trackers.json"
    return json.loads(path.read_text(encoding="utf-8")).get(key) if path.exists() else None


def _remember(folder: Path, key: str, run_id: str) -> None:
    path = folder / "trackers.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | {key: run_id}) + "\n", encoding="utf-8")
