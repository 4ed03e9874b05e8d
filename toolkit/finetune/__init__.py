"""Few labels: tasks, probes, fine-tuning, baselines, and the study that compares them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.finetune.contenders import lineup as lineup
    from toolkit.finetune.frozen import FrozenEncoder as FrozenEncoder
    from toolkit.finetune.online import LabelledScans as LabelledScans
    from toolkit.finetune.online import OnlineProbe as OnlineProbe
    from toolkit.finetune.online import ScanVote as ScanVote
    from toolkit.finetune.ranking import rank as rank
    from toolkit.finetune.results import join_tables as join_tables
    from toolkit.finetune.study import StudyConfig as StudyConfig
    from toolkit.finetune.study import run_study as run_study
    from toolkit.finetune.task import Task as Task
    from toolkit.finetune.tasks import atlas_tasks as atlas_tasks
    from toolkit.finetune.tasks import text_tasks as text_tasks
    from toolkit.finetune.trained import TrainedConfig as TrainedConfig

# Loaded when asked for: a study's worker needs one module of this room, and none of the encoders' libraries.
_LAZY = {
    "FrozenEncoder": "frozen",
    "LabelledScans": "online",
    "OnlineProbe": "online",
    "ScanVote": "online",
    "StudyConfig": "study",
    "Task": "task",
    "TrainedConfig": "trained",
    "atlas_tasks": "tasks",
    "join_tables": "results",
    "lineup": "contenders",
    "rank": "ranking",
    "run_study": "study",
    "text_tasks": "tasks",
}
__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value  # found at once from now on
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
