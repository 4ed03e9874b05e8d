"""Who is trained on and who is tested on: grouped holdouts, splits that keep strata, nested draws of labels, and the
guard against leakage."""

from toolkit.splits.groups import joined
from toolkit.splits.guard import Seen, record_seen, refuse_leakage, refuse_overlap, refuse_seen
from toolkit.splits.holdout import UNLABELLED, holdout, nested_draws, thin
from toolkit.splits.stratified import stratified_split

__all__ = [
    "UNLABELLED",
    "Seen",
    "holdout",
    "joined",
    "nested_draws",
    "record_seen",
    "refuse_leakage",
    "refuse_overlap",
    "refuse_seen",
    "stratified_split",
    "thin",
]
