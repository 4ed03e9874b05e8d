"""The one loop, its optimiser and schedule, checkpoints, collapse monitors and the run folder."""

from toolkit.training.config import TrainingConfig
from toolkit.training.facts import training_facts
from toolkit.training.loop import fit
from toolkit.training.machine import (
    is_main_process,
    main_process_first,
    peak_memory_gb,
    refuse_several_processes,
    set_num_threads,
)
from toolkit.training.monitors import alignment, effective_rank, embedding_std, uniformity
from toolkit.training.preflight import preflight
from toolkit.training.run_folder import RunFolder
from toolkit.training.step import Batches, Step

__all__ = [
    "Batches",
    "RunFolder",
    "Step",
    "TrainingConfig",
    "alignment",
    "effective_rank",
    "embedding_std",
    "fit",
    "is_main_process",
    "main_process_first",
    "peak_memory_gb",
    "preflight",
    "refuse_several_processes",
    "set_num_threads",
    "training_facts",
    "uniformity",
]
