"""Few labels: tasks, probes, fine-tuning, baselines, and the study that compares them."""

from toolkit.finetune.lineup import lineup
from toolkit.finetune.results import join_tables
from toolkit.finetune.study import StudyConfig, run_study
from toolkit.finetune.task import Task
from toolkit.finetune.tasks import atlas_tasks, text_tasks
from toolkit.finetune.trained import TrainedConfig

__all__ = ["StudyConfig", "Task", "TrainedConfig", "atlas_tasks", "join_tables", "lineup", "run_study", "text_tasks"]
