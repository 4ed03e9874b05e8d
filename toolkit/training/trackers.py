"""Where metrics go besides metrics.jsonl: TensorBoard, MLflow, Weights & Biases, behind one small protocol.

A tracker is a convenience: one that cannot be reached is given up with a warning, and the run goes on. What is sent is
metrics and the configuration without its paths and addresses: no path, host or user of this machine.
"""

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol
from unittest.mock import patch

from toolkit.console import log
from toolkit.errors import ConfigError
from toolkit.files import write_atomically


class Tracker(Protocol):
    """Takes the values of a logged step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values after `step` steps."""
        ...

    def flush(self) -> None:
        """Sees to it that what was taken outlasts a kill; called before each checkpoint."""
        ...

    def close(self) -> None:
        """Sends what is left, and says that the run is finished."""
        ...


def open_trackers(
    names: Sequence[str], folder: Path, run_name: str, config: Mapping[str, Any], first_step: int = 0
) -> list[Tracker]:
    """Opens the trackers that a configuration names, as far as they can be reached. For the main process only.

    Args:
        names: Among "tensorboard", "mlflow" and "wandb". The latter two heed their own environment variables
            (MLFLOW_TRACKING_URI, WANDB_MODE, ...); without them their files go to `folder`.
        folder: Of the run. TensorBoard writes to `tensorboard/` in it; `trackers.json` remembers the ids of the others'
            runs, so that a resumed run goes on in them.
        run_name: How they call the run.
        config: Values that they show beside it; paths and addresses among them are left out.
        first_step: Steps that are done. What TensorBoard has of later ones is dropped; MLflow and W&B keep what they
            have of them, and skip what comes again.

    Raises:
        ConfigError: A package is missing; the message says how to get it.
    """
    trackers: list[Tracker] = []
    for name in names:
        module = _module(name)
        try:
            trackers.append(_Careful(name, *_OPENERS[name](module, folder, run_name, config, first_step)))
        except Exception as error:
            _give_up(name, error)
    return trackers


def require_trackers(names: Sequence[str]) -> None:
    """Imports what the trackers need.

    Raises:
        ConfigError: A package is missing; the message says how to get it.
    """
    for name in names:
        _module(name)


class _Careful:
    """Gives up for good at the first error of what it wraps."""

    def __init__(
        self,
        name: str,
        write: Callable[[int, Mapping[str, float]], None],
        close: Callable[[], None],
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._write, self._close, self._flush, self._alive = name, write, close, flush, True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self._write(step, values))

    def flush(self) -> None:
        self._try(self._flush)

    def close(self) -> None:
        self._try(self._close)

    def _try(self, act: Callable[[], None]) -> None:
        if not self._alive:
            return
        try:
            act()
        except Exception as error:  # of somebody else's server: nothing that it can say is worth the run
            self._alive = False
            _give_up(self._name, error)


def _give_up(name: str, error: Exception) -> None:
    reason = str(error).partition("\n")[0] or type(error).__name__
    log.warning("%s: given up (%s); metrics.jsonl has all", name, reason)


_Opened = tuple[Callable[..., None], ...]
"""Of `_Careful`: write, close and, where there is something to flush, flush."""


def _tensorboard(module: Any, folder: Path, run_name: str, config: Mapping[str, Any], first_step: int) -> _Opened:
    # The file's name would have the host's name in it, and run folders are handed on.
    with patch("socket.gethostname", return_value="fewlabel"):
        place = str(folder / "tensorboard" / run_name)
        writer = module.SummaryWriter(place, purge_step=first_step + 1, flush_secs=10)

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return write, writer.close, writer.flush  # which waits for a thread: 17 ms, too much for each logged step


_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is gone would hold a step up for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3.17 refuses it otherwise; a data base would need more packages
}


def _mlflow(module: Any, folder: Path, run_name: str, config: Mapping[str, Any], first_step: int) -> _Opened:
    for variable, default in _MLFLOW_DEFAULTS.items():
        os.environ.setdefault(variable, default)
    # The client and not `mlflow.start_run`, which sends the user's name and the script's path.
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").absolute().as_uri()
    client = module.MlflowClient(uri)
    run_id = _remembered(folder, f"mlflow/{run_name}")
    logged: dict[str, int] = {}
    if run_id is None:
        run_id = client.create_run(_experiment(client), run_name=run_name).info.run_id
        _remember(folder, f"mlflow/{run_name}", run_id)
        for key, value in _shareable(config):
            client.log_param(run_id, key, str(value)[:500])
    else:
        client.update_run(run_id, status="RUNNING")
        for name in client.get_run(run_id).data.metrics:  # MLflow would keep a step twice
            logged[name] = max(metric.step for metric in client.get_metric_history(run_id, name))

    def write(step: int, values: Mapping[str, float]) -> None:
        now_ms = int(time.time() * 1000)
        new = [(name, value) for name, value in values.items() if step > logged.get(name, -1)]
        client.log_batch(run_id, [module.entities.Metric(name, float(value), now_ms, step) for name, value in new])

    return write, lambda: client.set_terminated(run_id)


def _experiment(client: Any) -> str:
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fewlabel")
    experiment = client.get_experiment_by_name(name)
    found: str = experiment.experiment_id if experiment else client.create_experiment(name)
    return found


def _wandb(module: Any, folder: Path, run_name: str, config: Mapping[str, Any], first_step: int) -> _Opened:
    run = module.init(
        project=os.environ.get("WANDB_PROJECT", "fewlabel"),
        name=run_name,
        config=dict(_shareable(config)),
        dir=os.environ.get("WANDB_DIR", str(folder)),
        id=_remembered(folder, f"wandb/{run_name}"),
        resume="allow",
        settings=module.Settings(
            x_disable_meta=True,  # host, user, program, command line
            x_disable_machine_info=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            console="off",
            host="fewlabel",
            silent=True,
        ),
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


def _shareable(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`values` flattened to dotted keys, without those that hold a path or an address."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _shareable(value, f"{prefix}{key}.")
        elif not any(_is_private(item) for item in (value if isinstance(value, list | tuple) else [value])):
            yield f"{prefix}{key}", value


def _is_private(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, os.PathLike)
    absolute = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return absolute or value.startswith("~") or "://" in value


def _remembered(folder: Path, key: str) -> str | None:
    path = folder / "trackers.json"
    return json.loads(path.read_text(encoding="utf-8")).get(key) if path.exists() else None


def _remember(folder: Path, key: str, run_id: str) -> None:
    path = folder / "trackers.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_atomically(path, (json.dumps(known | {key: run_id}) + "\n").encode())
